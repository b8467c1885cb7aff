//! Mean squared error, of images with and without weights, with its gradient.

use std::ops::Range;

use crate::element::{Float, Sample, Sum, finite_or_nan};
use crate::error::{Error, check_divisible, check_length};
use crate::exec::Executor;
use crate::exec::parallel::{BLOCK, Parts, run_blocks};
use crate::exec::simd::{CHUNKS_PER_SUM, Kernel, LANES, dispatch};
use crate::mem::Mask;

/// The weights of the elements of an image, plane by plane.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a, T> {
    /// The mask, which has a whole number of planes.
    pub mask: Mask<'a, T>,
    /// The number of elements of a plane.
    pub plane: usize,
    /// The number of consecutive planes of the image that share a plane of the mask; after the last
    /// plane of the mask its first one follows.
    pub repeat: usize,
}

/// Returns sum m (a - b)^2 / sum m for each of `images` parts of equal length, with m = 1 if there
/// are no weights; fills `gradient`, 2 m (a - b) / sum m with respect to `a`, if it is given.
///
/// The gradient with respect to `b` is the negative of that.  Elements that [`Mask::Known`] leaves
/// out have no influence.  The mean is NaN for empty parts, where all weights are zero, and where
/// an element that counts is not finite.
///
/// # Errors
/// [`Error::WrongLength`] if the slices do not fit each other, [`Error::Indivisible`] if they do
/// not divide into the parts or the planes.
pub fn mse<P: Sample>(
    a: &[P],
    b: &[P],
    weights: Option<Weights<'_, P::Float>>,
    images: usize,
    gradient: Option<&mut [P::Float]>,
    exec: &dyn Executor,
) -> Result<Vec<f64>, Error> {
    check_length("b", b.len(), a.len())?;
    if let Some(gradient) = &gradient {
        check_length("gradient", gradient.len(), a.len())?;
    }
    let image = a.len() / images.max(1);
    check_divisible("elements of a", a.len(), images)?;
    if image == 0 {
        return Ok(vec![f64::NAN; images]);
    }
    let pair = Pair { a, b, image };
    let Some(weights) = weights else {
        let shared = Shared::new(&[(); usize::MAX], usize::MAX, 1);
        let counts = vec![image as f64; images];
        return Ok(pair.means::<All>(shared, &counts, gradient, exec));
    };
    let (plane, repeat) = (weights.plane.max(1), weights.repeat);
    check_divisible("elements of an image", image, plane)?;
    let mask = weights.mask;
    check_length("mask", mask.len(), (mask.len() / plane).max(1) * plane)?;
    Ok(match mask {
        Mask::Known(mask) => {
            let shared = Shared::new(mask, plane, repeat);
            let counts = shared.totals::<P, Known>(image, images, exec);
            pair.means::<Known>(shared, &counts, gradient, exec)
        }
        Mask::Weights(mask) => {
            let shared = Shared::new(mask, plane, repeat);
            let counts = shared.totals::<P, Weighted>(image, images, exec);
            pair.means::<Weighted>(shared, &counts, gradient, exec)
        }
    })
}

/// A way in which elements are weighted.
trait Weighing<P: Sample> {
    /// The type of the mark of each element.
    type Mark: Copy + Sync + 'static;
    /// The type of sums of m (a - b)^2.
    type Sum: Sum;
    /// The type of sums of m.
    type Total: Sum;
    /// Returns the weight m of a mark.
    fn weight(mark: Self::Mark) -> Self::Total;
    /// Returns m (a - b)^2.
    fn term(mark: Self::Mark, a: P, b: P) -> Self::Sum;
    /// Returns m x.
    fn times(mark: Self::Mark, x: P::Float) -> P::Float;
}

/// All elements have the weight 1.
struct All;

impl<P: Sample> Weighing<P> for All {
    type Mark = ();
    type Sum = P::Square;
    type Total = u32;
    #[inline(always)]
    fn weight((): ()) -> u32 {
        1
    }
    #[inline(always)]
    fn term((): (), a: P, b: P) -> P::Square {
        a.square(b)
    }
    #[inline(always)]
    fn times((): (), x: P::Float) -> P::Float {
        x
    }
}

/// Elements have the weight 1 where a byte is not zero, else 0.
struct Known;

impl<P: Sample> Weighing<P> for Known {
    type Mark = u8;
    type Sum = P::Square;
    type Total = u32;
    #[inline(always)]
    fn weight(known: u8) -> u32 {
        u32::from(known != 0)
    }
    #[inline(always)]
    fn term(known: u8, a: P, b: P) -> P::Square {
        let square = a.square(b);
        if known == 0 {
            P::Square::default()
        } else {
            square
        }
    }
    #[inline(always)]
    fn times(known: u8, x: P::Float) -> P::Float {
        if known == 0 { P::Float::ZERO } else { x }
    }
}

/// Each element has its own weight.
struct Weighted;

impl<P: Sample> Weighing<P> for Weighted {
    type Mark = P::Float;
    type Sum = P::Float;
    type Total = P::Float;
    #[inline(always)]
    fn weight(weight: P::Float) -> P::Float {
        weight
    }
    #[inline(always)]
    fn term(weight: P::Float, a: P, b: P) -> P::Float {
        let difference = a.difference(b);
        weight * (difference * difference)
    }
    #[inline(always)]
    fn times(weight: P::Float, x: P::Float) -> P::Float {
        weight * x
    }
}

/// The planes of a mask, which planes of the image share.
#[derive(Clone, Copy)]
struct Shared<'a, M> {
    marks: &'a [M],
    plane: usize,
    repeat: usize,
    planes: usize,
}

impl<'a, M: Copy + Sync> Shared<'a, M> {
    fn new(marks: &'a [M], plane: usize, repeat: usize) -> Self {
        Self {
            marks,
            plane,
            repeat: repeat.max(1),
            planes: marks.len() / plane,
        }
    }

    /// Returns the plane of the mask for a plane of the image.
    #[inline(always)]
    fn of(&self, plane: usize) -> usize {
        plane / self.repeat % self.planes
    }

    /// Returns the marks from an element of the image on: `count`, or those up to the end of the
    /// plane.
    #[inline(always)]
    fn part(&self, at: usize, count: usize) -> &'a [M] {
        let within = at % self.plane;
        let count = count.min(self.plane - within);
        &self.marks[self.of(at / self.plane) * self.plane + within..][..count]
    }

    /// Returns the sum of the weights of every image.
    fn totals<P: Sample, W: Weighing<P, Mark = M>>(
        &self,
        image: usize,
        images: usize,
        exec: &dyn Executor,
    ) -> Vec<f64> {
        let blocks = self.plane.div_ceil(BLOCK);
        let sums = run_blocks(exec, self.planes * blocks, |block| {
            let (plane, block) = (block / blocks, block % blocks);
            let marks = &self.marks[plane * self.plane..][..self.plane];
            let end = ((block + 1) * BLOCK).min(self.plane);
            dispatch(Total::<P, W>(&marks[block * BLOCK..end]))
        });
        let planes: Vec<f64> = sums.chunks(blocks).map(|sums| sums.iter().sum()).collect();
        let count = image / self.plane;
        (0..images)
            .map(|image| (image * count..(image + 1) * count).map(|plane| planes[self.of(plane)]))
            .map(Iterator::sum)
            .collect()
    }
}

/// The computation of the sum of weights.
struct Total<'a, P: Sample, W: Weighing<P>>(&'a [W::Mark]);

impl<P: Sample, W: Weighing<P>> Kernel for Total<'_, P, W> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (marks, rest) = self.0.as_chunks::<LANES>();
        let mut sum = 0.0;
        for marks in marks.chunks(CHUNKS_PER_SUM) {
            let mut lanes = [W::Total::default(); LANES];
            for marks in marks {
                for lane in 0..LANES {
                    lanes[lane] += W::weight(marks[lane]);
                }
            }
            sum += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
        }
        sum + rest.iter().map(|&m| W::weight(m).to_f64()).sum::<f64>()
    }
}

/// Two batches of images, one behind the other.
#[derive(Clone, Copy)]
struct Pair<'a, P> {
    a: &'a [P],
    b: &'a [P],
    image: usize,
}

impl<P: Sample> Pair<'_, P> {
    /// Returns the mean of every image, given the sums of the weights.
    fn means<W: Weighing<P>>(
        self,
        marks: Shared<'_, W::Mark>,
        totals: &[f64],
        gradient: Option<&mut [P::Float]>,
        exec: &dyn Executor,
    ) -> Vec<f64> {
        let blocks = self.image.div_ceil(BLOCK);
        let count = totals.len() * blocks;
        let part = |block: usize| {
            let image = block / blocks;
            let (first, end) = (block % blocks * BLOCK, (block % blocks + 1) * BLOCK);
            image * self.image + first..image * self.image + end.min(self.image)
        };
        let sums = match gradient {
            Some(gradient) => {
                let images = gradient.chunks_mut(self.image);
                let parts = Parts::of(images.flat_map(|image| image.chunks_mut(BLOCK)));
                run_blocks(exec, count, |block| {
                    dispatch(Squares::<P, W, true> {
                        pair: self,
                        marks,
                        range: part(block),
                        scale: P::Float::from_f64(2.0 / totals[block / blocks]),
                        gradient: parts.take(block).unwrap_or_default(),
                    })
                })
            }
            None => run_blocks(exec, count, |block| {
                dispatch(Squares::<P, W, false> {
                    pair: self,
                    marks,
                    range: part(block),
                    scale: P::Float::ZERO,
                    gradient: &mut [],
                })
            }),
        };
        let sums = sums.chunks(blocks).map(|sums| sums.iter().sum::<f64>());
        let means = sums.zip(totals).map(|(sum, total)| sum / total);
        means.map(finite_or_nan).collect()
    }
}

/// The computation of the sum of weighted squared differences of one block.
struct Squares<'a, P: Sample, W: Weighing<P>, const GRADIENT: bool> {
    pair: Pair<'a, P>,
    marks: Shared<'a, W::Mark>,
    range: Range<usize>,
    scale: P::Float,
    gradient: &'a mut [P::Float],
}

impl<P: Sample, W: Weighing<P>, const GRADIENT: bool> Kernel for Squares<'_, P, W, GRADIENT> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut gradient = self.gradient;
        let mut sum = 0.0;
        let Range { mut start, end } = self.range;
        while start < end {
            let marks = self.marks.part(start, end - start);
            let next = start + marks.len();
            let (a, b) = (&self.pair.a[start..next], &self.pair.b[start..next]);
            let (here, behind) = gradient.split_at_mut(if GRADIENT { marks.len() } else { 0 });
            sum += segment::<P, W, GRADIENT>(a, b, marks, self.scale, here);
            gradient = behind;
            start = next;
        }
        sum
    }
}

/// Returns the sum of weighted squared differences of consecutive elements and marks; fills the
/// gradient if there is one.
#[inline(always)]
fn segment<P: Sample, W: Weighing<P>, const GRADIENT: bool>(
    a: &[P],
    b: &[P],
    marks: &[W::Mark],
    scale: P::Float,
    gradient: &mut [P::Float],
) -> f64 {
    let mut sum = 0.0;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (marks, marks_rest) = marks.as_chunks::<LANES>();
    let (slopes, slopes_rest) = gradient.as_chunks_mut::<LANES>();
    let mut start = 0;
    while start < a.len() {
        let end = (start + CHUNKS_PER_SUM).min(a.len());
        let mut lanes = [W::Sum::default(); LANES];
        for i in start..end {
            for lane in 0..LANES {
                let (a, b, mark) = (a[i][lane], b[i][lane], marks[i][lane]);
                lanes[lane] += W::term(mark, a, b);
                if GRADIENT {
                    slopes[i][lane] = W::times(mark, scale * a.difference(b));
                }
            }
        }
        sum += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
        start = end;
    }
    for (k, ((&a, &b), &mark)) in a_rest.iter().zip(b_rest).zip(marks_rest).enumerate() {
        sum += W::term(mark, a, b).to_f64();
        if GRADIENT {
            slopes_rest[k] = W::times(mark, scale * a.difference(b));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    fn bits<P: Sample, W: Weighing<P>>(
        a: &[P],
        marks: &[W::Mark],
        set: InstructionSet,
    ) -> (u64, u64, Vec<u64>) {
        let b: Vec<P> = a.iter().rev().copied().collect();
        let mut gradient = vec![P::Float::ZERO; a.len()];
        let sum = set.run(Squares::<P, W, true> {
            pair: Pair {
                a,
                b: &b,
                image: a.len(),
            },
            marks: Shared::new(marks, marks.len(), 1),
            range: 0..a.len(),
            scale: P::Float::from_f64(0.3),
            gradient: &mut gradient,
        });
        let total = set.run(Total::<P, W>(marks));
        let slopes = gradient.iter().map(|&g| Float::to_f64(g).to_bits());
        (sum.to_bits(), total.to_bits(), slopes.collect())
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let wide: Vec<u16> = (0..3000_usize).map(|k| (k * k % 65521) as u16).collect();
        let bytes: Vec<u8> = wide.iter().map(|&x| (x % 251) as u8).collect();
        let single: Vec<f32> = wide.iter().map(|&x| f32::from(x) / 65521.0).collect();
        let weights: Vec<f64> = wide.iter().map(|&x| f64::from(x) / 65521.0).collect();
        let known: Vec<u8> = bytes.iter().map(|&x| x % 3).collect();
        let all = vec![(); wide.len()];
        let run = |set| {
            (
                bits::<_, All>(&single, &all, set),
                bits::<_, Known>(&single, &known, set),
                bits::<_, Weighted>(&single, &single, set),
                bits::<_, All>(&wide, &all, set),
                bits::<_, Known>(&bytes, &known, set),
                bits::<_, Weighted>(&wide, &weights, set),
            )
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
