//! Total variation, alone and fused with the data term of a denoising objective.
//!
//! With d the differences of a pixel to the next one along every axis (0 at the far border),
//! TV(u) is the sum over all pixels of a penalty of d: see [`Kind`].  If p is the derivative
//! of the penalty by d, the gradient is the sum over the axes of p at the previous pixel
//! minus p at the pixel itself.

mod penalty;
mod rows;

use crate::element::{Float, finite_or_nan};
use crate::error::{Error, check_length};
use crate::exec::Executor;
use crate::exec::parallel::{Parts, sum_blocks};
use crate::exec::simd::dispatch;
use crate::mem::{Layout, Mask};

use penalty::{Anisotropic, Huber, Isotropic, Penalty};
use rows::{Image, Rows};

/// The penalty that is summed up over the pixels; |d| is the Euclidean norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Sum of |d_k| over the axes.  The derivative takes sign(0) = 0.
    Anisotropic,
    /// sqrt(|d|^2 + epsilon^2) - epsilon, so that flat pixels add nothing; with epsilon = 0
    /// the derivative at flat pixels is 0.
    Isotropic {
        /// How far the kink at d = 0 is rounded off; not negative.
        epsilon: f64,
    },
    /// |d|^2 / (2 epsilon) where |d| <= epsilon, |d| - epsilon / 2 elsewhere.
    Huber {
        /// The norm up to which the penalty is a parabola; not negative.
        epsilon: f64,
    },
}

/// The two terms of an objective, before they are weighted and added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// 1/2 || m (u - y) ||^2; NaN if it is not finite.
    pub data: f64,
    /// TV(u); NaN if it is not finite.
    pub tv: f64,
}

/// The data term 1/2 || m (u - y) ||^2 beside weight TV(u).
#[derive(Debug, Clone, Copy)]
pub struct Data<'a, T> {
    /// The measurement.
    pub y: &'a [T],
    /// m; 1 everywhere if there is none.
    pub mask: Option<Mask<'a, T>>,
    /// The number of consecutive planes that share a plane of the mask; after the last plane of
    /// the mask its first one follows.
    pub mask_repeat: usize,
    /// The weight of the total variation.
    pub weight: f64,
}

/// Returns the total variation of `u`; fills `gradient` if it is given.
///
/// The value is NaN if anything in `u` is not finite (or the sum overflows).
///
/// # Errors
/// [`Error::WrongLength`] if a buffer does not fit the layout.
pub fn total_variation<T: Float>(
    u: &[T],
    layout: Layout,
    kind: Kind,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<f64, Error> {
    check_length("u", u.len(), layout.len())?;
    let image = Image {
        u,
        y: u,
        mask: None,
        mask_repeat: 1,
        weight: T::from_f64(1.0),
        layout,
    };
    fused::<T, false>(image, kind, gradient, exec).map(|terms| terms.tv)
}

/// Returns both terms of 1/2 || m (u - y) ||^2 + weight TV(u); fills `gradient`, that of the whole
/// with respect to `u`, if it is given.
///
/// # Errors
/// [`Error::WrongLength`] if a buffer does not fit the layout.
pub fn tv_objective<T: Float>(
    u: &[T],
    data: Data<'_, T>,
    layout: Layout,
    kind: Kind,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<Terms, Error> {
    check_length("u", u.len(), layout.len())?;
    check_length("y", data.y.len(), layout.len())?;
    if let Some(mask) = data.mask {
        let plane = layout.len() / layout.planes.max(1);
        let planes = mask.len() / plane.max(1);
        check_length("mask", mask.len(), (planes * plane).max(plane))?;
    }
    let image = Image {
        u,
        y: data.y,
        mask: data.mask,
        mask_repeat: data.mask_repeat.max(1),
        weight: T::from_f64(data.weight),
        layout,
    };
    fused::<T, true>(image, kind, gradient, exec)
}

/// Computes the terms with the code that is compiled for the kind of total variation.
fn fused<T: Float, const DATA: bool>(
    image: Image<'_, T>,
    kind: Kind,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<Terms, Error> {
    if let Some(gradient) = &gradient {
        check_length("gradient", gradient.len(), image.layout.len())?;
    }
    if image.layout.is_empty() {
        return Ok(Terms { data: 0.0, tv: 0.0 });
    }
    let terms = match kind {
        Kind::Anisotropic => deep::<T, _, DATA>(image, Anisotropic, gradient, exec),
        Kind::Isotropic { epsilon } => {
            deep::<T, _, DATA>(image, Isotropic::new(epsilon), gradient, exec)
        }
        Kind::Huber { epsilon } => deep::<T, _, DATA>(image, Huber::new(epsilon), gradient, exec),
    };
    Ok(terms)
}

/// Computes the terms with the code that is compiled for images or for volumes.
fn deep<T: Float, P: Penalty<T>, const DATA: bool>(
    image: Image<'_, T>,
    penalty: P,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Terms {
    if image.layout.slices > 1 {
        blocks::<T, P, DATA, true>(image, penalty, gradient, exec)
    } else {
        blocks::<T, P, DATA, false>(image, penalty, gradient, exec)
    }
}

/// The number of elements of a block of rows.  With a gradient, the row above a block is read once
/// more, so that blocks should have many rows.
const BLOCK: usize = 1 << 16;

/// The number of bytes from which on a gradient is written with streaming stores, because no cache
/// would hold it until it is read.
const STREAMING_BYTES: usize = 1 << 25;

/// Computes the terms in blocks of rows.
fn blocks<T: Float, P: Penalty<T>, const DATA: bool, const DEEP: bool>(
    image: Image<'_, T>,
    penalty: P,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Terms {
    // The rows of all planes have consecutive numbers, and a block may span planes.
    let row_len = image.layout.row_len;
    let all_rows = image.layout.len() / row_len;
    let block_rows = (BLOCK / row_len).max(16);
    let count = all_rows.div_ceil(block_rows);
    let rows = |block: usize| block * block_rows..((block + 1) * block_rows).min(all_rows);
    let [data, tv] = match gradient {
        Some(gradient) => {
            let streaming = size_of_val(gradient) >= STREAMING_BYTES;
            let parts = Parts::new(gradient, block_rows * row_len);
            sum_blocks(exec, count, |block| {
                dispatch(Rows::<T, P, DATA, true, DEEP> {
                    image,
                    penalty,
                    rows: rows(block),
                    gradient: parts.take(block).unwrap_or_default(),
                    streaming,
                })
            })
        }
        None => sum_blocks(exec, count, |block| {
            dispatch(Rows::<T, P, DATA, false, DEEP> {
                image,
                penalty,
                rows: rows(block),
                gradient: &mut [],
                streaming: false,
            })
        }),
    };
    Terms {
        data: finite_or_nan(0.5 * data),
        tv: finite_or_nan(tv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    fn bits<P: Penalty<f32>, const DEEP: bool>(
        penalty: P,
        image: Image<'_, f32>,
        set: InstructionSet,
    ) -> ([u64; 2], Vec<u32>) {
        let length = image.layout.len();
        let mut gradient = vec![0.0; length];
        let sums = set.run(Rows::<f32, P, true, true, DEEP> {
            image,
            penalty,
            rows: 0..length / image.layout.row_len,
            gradient: &mut gradient,
            streaming: set != InstructionSet::Baseline,
        });
        let bits = gradient.iter().map(|g| g.to_bits()).collect();
        (sums.map(f64::to_bits), bits)
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let layout = Layout::volumes(2, 3, 9, 67, 3).unwrap();
        let wave = |k: usize, rate: f32| (k as f32 * rate).sin();
        let u: Vec<f32> = (0..layout.len()).map(|k| wave(k, 0.7)).collect();
        let y: Vec<f32> = (0..layout.len()).map(|k| wave(k, 1.3)).collect();
        let known: Vec<u8> = (0..layout.len()).map(|k| (k % 3) as u8).collect();
        for mask in [None, Some(Mask::Weights(&y[..])), Some(Mask::Known(&known))] {
            let image = Image {
                u: &u,
                y: &y,
                mask,
                mask_repeat: 1,
                weight: 0.3,
                layout,
            };
            let run = |set| {
                (
                    bits::<_, true>(Anisotropic, image, set),
                    bits::<_, true>(Isotropic::new(0.1), image, set),
                    bits::<_, false>(Huber::new(0.1), image, set),
                )
            };
            let expected = run(InstructionSet::Baseline);
            for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
                assert!(run(set) == expected, "{set:?}");
            }
        }
    }
}
