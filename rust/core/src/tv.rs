//! Anisotropic total variation, alone and fused with the data term of a denoising objective.
//!
//! TV(u) = sum |u[i+1, j] - u[i, j]| + |u[i, j+1] - u[i, j]| over all pairs of neighbours.
//! Its gradient at a pixel is the sum of the signs of the differences to its (up to four)
//! neighbours, with sign(0) = 0.  Each row of the gradient needs the rows above and below
//! of `u` alone, so rows are computed independently of each other.

use crate::error::check_length;
use crate::parallel::{BLOCK, Parts, sum_blocks};
use crate::simd::{CHUNKS_PER_SUM, Kernel, LANES, dispatch};
use crate::{Error, Executor, Float, Layout};

/// The two terms of an objective, before they are weighted and added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// 1/2 || m (u - y) ||^2; NaN if it is not finite.
    pub data: f64,
    /// TV(u); NaN if it is not finite.
    pub tv: f64,
}

/// Total variation of `u`, and its gradient if a buffer for it is given.
///
/// The value is NaN if anything in `u` is not finite (or the sum overflows).
///
/// # Errors
/// [`Error::Length`] if a buffer does not fit the layout.
pub fn anisotropic<T: Float>(
    u: &[T],
    layout: Layout,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<f64, Error> {
    check_length("u", u.len(), layout.len())?;
    let image = Image {
        u,
        y: u,
        mask: u,
        weight: T::from_f64(1.0),
        layout,
    };
    image
        .fused::<false, false>(gradient, exec)
        .map(|terms| terms.tv)
}

/// Both terms of 1/2 || m (u - y) ||^2 + weight TV(u), and the gradient of their sum with
/// respect to `u` if a buffer for it is given.  Without a mask, m is 1.
///
/// # Errors
/// [`Error::Length`] if a buffer does not fit the layout.
pub fn objective<T: Float>(
    u: &[T],
    y: &[T],
    mask: Option<&[T]>,
    weight: f64,
    layout: Layout,
    gradient: Option<&mut [T]>,
    exec: &dyn Executor,
) -> Result<Terms, Error> {
    check_length("u", u.len(), layout.len())?;
    check_length("y", y.len(), layout.len())?;
    let weight = T::from_f64(weight);
    match mask {
        Some(mask) => {
            check_length("mask", mask.len(), layout.len())?;
            let image = Image {
                u,
                y,
                mask,
                weight,
                layout,
            };
            image.fused::<true, true>(gradient, exec)
        }
        None => {
            let image = Image {
                u,
                y,
                mask: u,
                weight,
                layout,
            };
            image.fused::<true, false>(gradient, exec)
        }
    }
}

/// What every row kernel reads.  Without data term or mask, `y` and `mask` stand in unread.
#[derive(Clone, Copy)]
struct Image<'a, T> {
    u: &'a [T],
    y: &'a [T],
    mask: &'a [T],
    weight: T,
    layout: Layout,
}

impl<T: Float> Image<'_, T> {
    fn fused<const DATA: bool, const MASK: bool>(
        self,
        gradient: Option<&mut [T]>,
        exec: &dyn Executor,
    ) -> Result<Terms, Error> {
        let Layout {
            planes,
            rows,
            row_len,
            ..
        } = self.layout;
        if let Some(gradient) = &gradient {
            check_length("gradient", gradient.len(), self.layout.len())?;
        }
        if self.layout.is_empty() {
            return Ok(Terms { data: 0.0, tv: 0.0 });
        }
        // Rows of all planes are numbered through, and a block may span planes.
        let all_rows = planes * rows;
        let block_rows = (BLOCK / row_len).max(1);
        let blocks = all_rows.div_ceil(block_rows);
        let bounds = |block: usize| {
            let first = block * block_rows;
            (first, (first + block_rows).min(all_rows))
        };
        let [data, tv] = match gradient {
            Some(gradient) => {
                let parts = Parts::new(gradient, block_rows * row_len);
                sum_blocks(exec, blocks, |block| {
                    let (first, end) = bounds(block);
                    dispatch(Block::<T, DATA, MASK, true> {
                        image: self,
                        first,
                        end,
                        gradient: parts.take(block).unwrap_or_default(),
                    })
                })
            }
            None => sum_blocks(exec, blocks, |block| {
                let (first, end) = bounds(block);
                dispatch(Block::<T, DATA, MASK, false> {
                    image: self,
                    first,
                    end,
                    gradient: &mut [],
                })
            }),
        };
        Ok(Terms {
            data: finite_or_nan(0.5 * data),
            tv: finite_or_nan(tv),
        })
    }
}

/// An infinite sum says no more than NaN, and one test for NaN is easier on the caller.
pub(crate) fn finite_or_nan(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

/// Consecutive rows, numbered through all planes.
struct Block<'a, T, const DATA: bool, const MASK: bool, const GRADIENT: bool> {
    image: Image<'a, T>,
    first: usize,
    end: usize,
    gradient: &'a mut [T],
}

impl<T: Float, const DATA: bool, const MASK: bool, const GRADIENT: bool> Kernel
    for Block<'_, T, DATA, MASK, GRADIENT>
{
    /// sum of (m (u - y))^2, TV
    type Output = [f64; 2];

    #[inline(always)]
    fn run(self) -> [f64; 2] {
        let Layout {
            rows,
            row_len,
            step,
            ..
        } = self.image.layout;
        let mut sums = [0.0; 2];
        for number in self.first..self.end {
            let at = number * row_len;
            let row = at..at + row_len;
            let here = &self.image.u[row.clone()];
            // Beyond the border lies the border row again: its difference is 0.
            let above = match number % rows {
                0 => here,
                _ => &self.image.u[at - row_len..at],
            };
            let below = match number % rows + 1 == rows {
                true => here,
                false => &self.image.u[at + row_len..at + 2 * row_len],
            };
            let gradient = match GRADIENT {
                true => &mut self.gradient[(number - self.first) * row_len..][..row_len],
                false => &mut [],
            };
            let sum = Row::<T, DATA, MASK, GRADIENT> {
                here,
                above,
                below,
                y: if DATA {
                    &self.image.y[row.clone()]
                } else {
                    here
                },
                mask: if MASK { &self.image.mask[row] } else { here },
                weight: self.image.weight,
            }
            .run(step, gradient);
            sums[0] += sum[0];
            sums[1] += sum[1];
        }
        sums
    }
}

/// One row of one plane.
struct Row<'a, T, const DATA: bool, const MASK: bool, const GRADIENT: bool> {
    here: &'a [T],
    above: &'a [T],
    below: &'a [T],
    y: &'a [T],
    mask: &'a [T],
    weight: T,
}

impl<T: Float, const DATA: bool, const MASK: bool, const GRADIENT: bool>
    Row<'_, T, DATA, MASK, GRADIENT>
{
    #[inline(always)]
    fn run(&self, step: usize, gradient: &mut [T]) -> [f64; 2] {
        let length = self.here.len();
        let mut sums = [0.0; 2];
        // First and last column, where the missing neighbour counts as equal.
        let last = length - step;
        for k in (0..step).chain(last.max(step)..length) {
            let left = if k < step { k } else { k - step };
            let right = if k < last { k + step } else { k };
            let (data, tv, slope) = self.pixel(
                self.here[k],
                [
                    self.here[left],
                    self.here[right],
                    self.above[k],
                    self.below[k],
                ],
                self.y[k],
                self.mask[k],
            );
            sums[0] += data.to_f64();
            sums[1] += tv.to_f64();
            if GRADIENT {
                gradient[k] = slope;
            }
        }
        // The columns between them, a segment at a time.
        let segment = CHUNKS_PER_SUM * LANES;
        let mut start = step;
        while start < last {
            let end = (start + segment).min(last);
            let gradient = match GRADIENT {
                true => &mut gradient[start..end],
                false => &mut [],
            };
            let sum = self.segment(start, end, step, gradient);
            sums[0] += sum[0];
            sums[1] += sum[1];
            start = end;
        }
        sums
    }

    /// Columns `start..end`, all of which have both horizontal neighbours.
    #[inline(always)]
    fn segment(&self, start: usize, end: usize, step: usize, gradient: &mut [T]) -> [f64; 2] {
        let (here, here_rest) = self.here[start..end].as_chunks::<LANES>();
        let count = here.len();
        let left = &self.here[start - step..end - step].as_chunks::<LANES>().0[..count];
        let right = &self.here[start + step..end + step].as_chunks::<LANES>().0[..count];
        let above = &self.above[start..end].as_chunks::<LANES>().0[..count];
        let below = &self.below[start..end].as_chunks::<LANES>().0[..count];
        let y = &self.y[start..end].as_chunks::<LANES>().0[..count];
        let mask = &self.mask[start..end].as_chunks::<LANES>().0[..count];
        let (slopes, _) = gradient.as_chunks_mut::<LANES>();

        let mut data = [T::ZERO; LANES];
        let mut tv = [T::ZERO; LANES];
        for i in 0..count {
            let mut slope = [T::ZERO; LANES];
            for lane in 0..LANES {
                let (d, t, s) = self.pixel(
                    here[i][lane],
                    [
                        left[i][lane],
                        right[i][lane],
                        above[i][lane],
                        below[i][lane],
                    ],
                    y[i][lane],
                    mask[i][lane],
                );
                data[lane] += d;
                tv[lane] += t;
                slope[lane] = s;
            }
            if GRADIENT {
                slopes[i] = slope;
            }
        }
        let mut sums = [0.0; 2];
        for lane in 0..LANES {
            sums[0] += data[lane].to_f64();
            sums[1] += tv[lane].to_f64();
        }
        for k in end - here_rest.len()..end {
            let (d, t, s) = self.pixel(
                self.here[k],
                [
                    self.here[k - step],
                    self.here[k + step],
                    self.above[k],
                    self.below[k],
                ],
                self.y[k],
                self.mask[k],
            );
            sums[0] += d.to_f64();
            sums[1] += t.to_f64();
            if GRADIENT {
                gradient[k - start] = s;
            }
        }
        sums
    }

    /// Data term, total variation and gradient that one pixel adds; `neighbours` are left,
    /// right, above, below.
    #[inline(always)]
    fn pixel(&self, u: T, neighbours: [T; 4], y: T, mask: T) -> (T, T, T) {
        let [left, right, above, below] = neighbours;
        let (to_right, to_below) = (right - u, below - u);
        let tv = to_right.abs() + to_below.abs();
        let mut slope = T::ZERO;
        if GRADIENT {
            slope = (u - left).sign() - to_right.sign() + ((u - above).sign() - to_below.sign());
        }
        if !DATA {
            return (T::ZERO, tv, slope);
        }
        let mut residual = u - y;
        let mut pull = residual;
        if MASK {
            residual = mask * residual;
            pull = mask * residual;
        }
        (residual * residual, tv, pull + self.weight * slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;

    #[test]
    fn same_bits_on_every_instruction_set() {
        let layout = Layout::interleaved(2, 9, 101, 3).unwrap();
        let wave = |k: usize, rate: f32| (k as f32 * rate).sin();
        let u: Vec<f32> = (0..layout.len()).map(|k| wave(k, 0.7)).collect();
        let y: Vec<f32> = (0..layout.len()).map(|k| wave(k, 1.3)).collect();
        let image = Image {
            u: &u,
            y: &y,
            mask: &y,
            weight: 0.3,
            layout,
        };
        let run = |set: InstructionSet| {
            let mut gradient = vec![0.0; layout.len()];
            let sums = set.run(Block::<f32, true, true, true> {
                image,
                first: 0,
                end: 18,
                gradient: &mut gradient,
            });
            let bits: Vec<u32> = gradient.iter().map(|g| g.to_bits()).collect();
            (sums.map(f64::to_bits), bits)
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
