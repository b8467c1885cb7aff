//! Mean squared error and the peak signal-to-noise ratio made of it.

use crate::error::check_length;
use crate::parallel::{BLOCK, Parts, sum_blocks};
use crate::simd::{CHUNKS_PER_SUM, Kernel, LANES, dispatch};
use crate::tv::finite_or_nan;
use crate::{Error, Executor, Float};

/// Mean of (a - b)^2, and its gradient 2 (a - b) / n with respect to `a` if a buffer for
/// it is given.  The gradient with respect to `b` is the negative of it.
///
/// NaN for empty slices and where anything is not finite.
///
/// # Errors
/// [`Error::Length`] if the slices do not have the same length.
pub fn mse<T: Float>(
    a: &[T],
    b: &[T],
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<f64, Error> {
    check_length("b", b.len(), a.len())?;
    let scale = T::from_f64(2.0 / a.len() as f64);
    let blocks = a.len().div_ceil(BLOCK);
    let part = |block: usize| block * BLOCK..((block + 1) * BLOCK).min(a.len());
    let [sum] = match gradient {
        Some(gradient) => {
            check_length("gradient", gradient.len(), a.len())?;
            let parts = Parts::new(gradient, BLOCK);
            sum_blocks(exec, blocks, |block| {
                dispatch(Squares::<T, true> {
                    a: &a[part(block)],
                    b: &b[part(block)],
                    scale,
                    gradient: parts.take(block).unwrap_or_default(),
                })
            })
        }
        None => sum_blocks(exec, blocks, |block| {
            dispatch(Squares::<T, false> {
                a: &a[part(block)],
                b: &b[part(block)],
                scale,
                gradient: &mut [],
            })
        }),
    };
    Ok(finite_or_nan(sum / a.len() as f64))
}

/// Peak signal-to-noise ratio in dB, 10 log10(`data_range`^2 / `mse`); infinite where the
/// error is 0.
#[must_use]
pub fn psnr(mse: f64, data_range: f64) -> f64 {
    10.0 * (data_range * data_range / mse).log10()
}

/// Sum of squared differences of one block.
struct Squares<'a, T, const GRADIENT: bool> {
    a: &'a [T],
    b: &'a [T],
    scale: T,
    gradient: &'a mut [T],
}

impl<T: Float, const GRADIENT: bool> Kernel for Squares<'_, T, GRADIENT> {
    type Output = [f64; 1];

    #[inline(always)]
    fn run(self) -> [f64; 1] {
        let mut sum = 0.0;
        let (a, a_rest) = self.a.as_chunks::<LANES>();
        let (b, b_rest) = self.b.as_chunks::<LANES>();
        let (slopes, slopes_rest) = self.gradient.as_chunks_mut::<LANES>();
        let mut start = 0;
        while start < a.len() {
            let end = (start + CHUNKS_PER_SUM).min(a.len());
            let mut lanes = [T::ZERO; LANES];
            for i in start..end {
                for lane in 0..LANES {
                    let difference = a[i][lane] - b[i][lane];
                    lanes[lane] += difference * difference;
                    if GRADIENT {
                        slopes[i][lane] = self.scale * difference;
                    }
                }
            }
            sum += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
            start = end;
        }
        for (k, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
            let difference = a - b;
            sum += (difference * difference).to_f64();
            if GRADIENT {
                slopes_rest[k] = self.scale * difference;
            }
        }
        [sum]
    }
}
