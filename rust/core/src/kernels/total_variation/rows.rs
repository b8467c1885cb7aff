//! The computation of a block of rows, in one sweep from top to bottom.
//!
//! Rows are worked on in chunks of [`LANES`] elements.  Chunks at the border, where neighbours
//! are missing or the row ends, are put together from copies and go through the same code.
//!
//! The gradient at a pixel needs the derivatives p of the penalty at the pixel and at those
//! before it.  Where each is a function of one difference, as in the anisotropic case, it is
//! cheaper to compute them once more for the pixels before ([`Row::direct`]).  Otherwise they are
//! kept for as long as they are needed: along x for a segment, along y for a row ([`Memory`]).

use std::array::from_fn;
use std::ops::Range;

use super::penalty::Penalty;
use crate::element::Float;
use crate::exec::simd::{Kernel, LANES, Lanes};
use crate::mem::streaming_store::{fence, prefetch, store_streaming};
use crate::mem::{Layout, Mask};

/// The number of chunks of a row that are computed together: their data stay in the L1 cache.
const SEGMENT: usize = 32;

/// The arrays that are read.  Without a data term, `y` is not.
#[derive(Clone, Copy)]
pub(super) struct Image<'a, T> {
    pub(super) u: &'a [T],
    pub(super) y: &'a [T],
    pub(super) mask: Option<Mask<'a, T>>,
    pub(super) mask_repeat: usize,
    pub(super) weight: T,
    pub(super) layout: Layout,
}

/// Consecutive rows; the rows of all slices of all planes have consecutive numbers.
pub(super) struct Rows<'a, T, P, const DATA: bool, const GRADIENT: bool, const DEEP: bool> {
    pub(super) image: Image<'a, T>,
    pub(super) penalty: P,
    pub(super) rows: Range<usize>,
    pub(super) gradient: &'a mut [T],
    /// Whether the gradient is written with streaming stores.
    pub(super) streaming: bool,
}

impl<T: Float, P: Penalty<T>, const DATA: bool, const GRADIENT: bool, const DEEP: bool> Kernel
    for Rows<'_, T, P, DATA, GRADIENT, DEEP>
{
    /// The sum of (m (u - y))^2, and TV.
    type Output = [f64; 2];

    #[inline(always)]
    fn run(self) -> [f64; 2] {
        let mut sums = [Lanes::new(), Lanes::new()];
        match self.image.mask {
            Some(Mask::Weights(mask)) if DATA => self.sweep(mask, &mut sums),
            Some(Mask::Known(mask)) if DATA => self.sweep(Known(mask), &mut sums),
            _ => self.sweep(NoMask, &mut sums),
        }
        sums.map(Lanes::sum)
    }
}

impl<T: Float, P: Penalty<T>, const DATA: bool, const GRADIENT: bool, const DEEP: bool>
    Rows<'_, T, P, DATA, GRADIENT, DEEP>
{
    #[inline(always)]
    fn sweep<M: Weights<T>>(self, mask: M, sums: &mut [Lanes<T>; 2]) {
        let image = &self.image;
        let row_len = image.layout.row_len;
        let chunks = row_len.div_ceil(LANES);
        let first = self.rows.start;
        let mut passing = [T::ZERO; SEGMENT * LANES];
        let mut memory = Memory::new(
            if P::LAGGED && GRADIENT { chunks } else { 0 },
            image.layout.step,
        );
        if P::LAGGED && GRADIENT && !first.is_multiple_of(image.layout.rows) {
            // The row above belongs to another block; only its derivatives are used here.
            let above = Row::new(image, first - 1, NoMask);
            let mut unused = Lanes::new();
            for segment in segments(chunks) {
                above.differentiate::<P, true, DEEP>(
                    self.penalty,
                    None,
                    segment,
                    &mut memory,
                    &mut unused,
                );
            }
        }
        for number in self.rows {
            let row = Row::new(image, number, mask);
            let gradient = match GRADIENT {
                true => &mut self.gradient[(number - first) * row_len..][..row_len],
                false => &mut [],
            };
            if P::LAGGED && number.is_multiple_of(image.layout.rows) {
                memory.y.fill([T::ZERO; LANES]);
            }
            let behind = match P::LAGGED
                && DEEP
                && GRADIENT
                && !(number / image.layout.rows).is_multiple_of(image.layout.slices)
            {
                true => Some(Row::new(image, number - image.layout.rows, NoMask)),
                false => None,
            };
            for segment in segments(chunks) {
                let part = segment.start * LANES..(segment.end * LANES).min(row_len);
                let slopes = match (GRADIENT, self.streaming) {
                    (true, false) => &mut gradient[part.clone()],
                    (true, true) => &mut passing[..part.len()],
                    (false, _) => &mut [],
                };
                if GRADIENT && self.streaming {
                    // While this segment is computed, that after the next one is fetched.
                    let ahead = part.start + 2 * SEGMENT * LANES;
                    prefetch(image.u, (number + 1) * row_len + ahead, part.len());
                    if DATA {
                        prefetch(image.y, number * row_len + ahead, part.len());
                    }
                }
                if P::LAGGED {
                    row.differentiate::<P, GRADIENT, DEEP>(
                        self.penalty,
                        behind.as_ref(),
                        segment.clone(),
                        &mut memory,
                        &mut sums[1],
                    );
                    if DATA || GRADIENT {
                        row.collect::<DATA, GRADIENT>(
                            image.weight,
                            segment,
                            &memory,
                            slopes,
                            &mut sums[0],
                        );
                    }
                } else {
                    row.direct::<DATA, GRADIENT, DEEP>(image.weight, segment, slopes, sums);
                }
                if GRADIENT && self.streaming {
                    store_streaming(&passing[..part.len()], &mut gradient[part]);
                }
            }
        }
        if self.streaming {
            fence();
        }
    }
}

/// Returns the chunks of a row in portions of [`SEGMENT`].
#[inline(always)]
fn segments(chunks: usize) -> impl Iterator<Item = Range<usize>> {
    (0..chunks)
        .step_by(SEGMENT)
        .map(move |start| start..(start + SEGMENT).min(chunks))
}

/// Derivatives of the penalty, kept for the pixels behind and below.
struct Memory<T> {
    /// Those along x, preceded by `step` zeros.
    x: Vec<T>,
    /// Those along y: of the row above, until those of the present row replace them.
    y: Vec<[T; LANES]>,
    /// The gradient of the present row but for the derivative along x of the pixel before.
    gradient: Vec<[T; LANES]>,
}

impl<T: Float> Memory<T> {
    fn new(chunks: usize, step: usize) -> Self {
        Self {
            x: vec![T::ZERO; step + chunks * LANES],
            y: vec![[T::ZERO; LANES]; chunks],
            gradient: vec![[T::ZERO; LANES]; chunks],
        }
    }

    /// Returns some chunks of each array, or none where there is no gradient.
    #[inline(always)]
    fn cut<const GRADIENT: bool>(
        &mut self,
        chunks: Range<usize>,
        step: usize,
    ) -> [&mut [[T; LANES]]; 3] {
        if !GRADIENT {
            return [&mut [], &mut [], &mut []];
        }
        let x = &mut self.x[step + chunks.start * LANES..].as_chunks_mut().0[..chunks.len()];
        [x, &mut self.y[chunks.clone()], &mut self.gradient[chunks]]
    }
}

/// One row and its neighbours.  Where there is no neighbour the row itself stands for it, so that
/// the difference is 0.
struct Row<'a, T, M> {
    here: &'a [T],
    above: &'a [T],
    below: &'a [T],
    /// The same row of the slices before and after.
    behind: &'a [T],
    next: &'a [T],
    y: &'a [T],
    mask: M,
    step: usize,
}

impl<'a, T: Float, M: Weights<T>> Row<'a, T, M> {
    #[inline(always)]
    fn new(image: &Image<'a, T>, number: usize, mask: M) -> Self {
        let Layout {
            slices,
            rows,
            row_len,
            step,
            ..
        } = image.layout;
        let at = |number: usize| number * row_len..(number + 1) * row_len;
        let (slice, row) = (number / rows % slices, number % rows);
        let above = if row > 0 { number - 1 } else { number };
        let below = if row + 1 < rows { number + 1 } else { number };
        let behind = if slice > 0 { number - rows } else { number };
        let next = if slice + 1 < slices {
            number + rows
        } else {
            number
        };
        let masked = {
            let plane = slices * rows;
            let planes = (mask.len() / (plane * row_len)).max(1);
            number / plane / image.mask_repeat % planes * plane + number % plane
        };
        Self {
            here: &image.u[at(number)],
            above: &image.u[at(above)],
            below: &image.u[at(below)],
            behind: &image.u[at(behind)],
            next: &image.u[at(next)],
            y: &image.y[at(number)],
            mask: mask.part(at(masked)),
            step,
        }
    }

    /// Returns the chunks of a segment that are whole and do not lie at a border.
    #[inline(always)]
    fn inner(&self, segment: &Range<usize>, before: usize, behind: usize) -> Range<usize> {
        let start = before.div_ceil(LANES).clamp(segment.start, segment.end);
        let end = self.here.len().saturating_sub(behind) / LANES;
        start..end.clamp(start, segment.end)
    }

    /// Computes the sums and the gradient of a segment whose penalty is anisotropic.
    #[inline(always)]
    fn direct<const DATA: bool, const GRADIENT: bool, const DEEP: bool>(
        &self,
        weight: T,
        segment: Range<usize>,
        slopes: &mut [T],
        sums: &mut [Lanes<T>; 2],
    ) {
        let mut data = sums[0].begin(segment.len());
        let mut tv = sums[1].begin(segment.len());
        let inner = self.inner(&segment, self.step, self.step);
        let (from, count) = (inner.start * LANES, inner.len());
        if count > 0 {
            let here = cut(self.here, from, count);
            let left = cut(self.here, from - self.step, count);
            let right = cut(self.here, from + self.step, count);
            let above = cut(self.above, from, count);
            let below = cut(self.below, from, count);
            let behind = cut(self.behind, from, count);
            let next = cut(self.next, from, count);
            let y = cut(self.y, from, count);
            let mask = self.mask.chunks(from, count);
            let slopes = match GRADIENT {
                true => {
                    let slopes = slopes.as_chunks_mut::<LANES>().0;
                    &mut slopes[inner.start - segment.start..][..count]
                }
                false => &mut [],
            };
            for i in 0..count {
                let mut chunk = [T::ZERO; LANES];
                for lane in 0..LANES {
                    let (cost, slope) = signs::<T, GRADIENT, DEEP>(
                        here[i][lane],
                        [
                            left[i][lane],
                            right[i][lane],
                            above[i][lane],
                            below[i][lane],
                            behind[i][lane],
                            next[i][lane],
                        ],
                    );
                    tv[lane] += cost;
                    chunk[lane] = slope;
                    if DATA {
                        let m = M::value(mask, i, lane);
                        let (square, slope) =
                            pull::<T, M>(here[i][lane], y[i][lane], m, weight, slope);
                        data[lane] += square;
                        chunk[lane] = slope;
                    }
                }
                if GRADIENT {
                    slopes[i] = chunk;
                }
            }
        }
        // These chunks have their own sums, so that the sums of the next row do not depend on them.
        let mut at_border = [[T::ZERO; LANES]; 2];
        for i in (segment.start..inner.start).chain(inner.end..segment.end) {
            let at = i * LANES;
            let here = some(self.here, at);
            let (left, right) = (self.left(at), self.right(at));
            let (above, below) = (some(self.above, at), some(self.below, at));
            let (behind, next) = (some(self.behind, at), some(self.next, at));
            let (y, mask) = (some(self.y, at), self.mask.some(at));
            let mut chunk = [T::ZERO; LANES];
            for lane in 0..LANES {
                let (cost, slope) = signs::<T, GRADIENT, DEEP>(
                    here[lane],
                    [
                        left[lane],
                        right[lane],
                        above[lane],
                        below[lane],
                        behind[lane],
                        next[lane],
                    ],
                );
                if GRADIENT {
                    at_border[1][lane] += cost;
                } else {
                    tv[lane] += cost;
                }
                let (square, pulled) = pull::<T, M>(here[lane], y[lane], mask[lane], weight, slope);
                chunk[lane] = if DATA { pulled } else { slope };
                if GRADIENT {
                    at_border[0][lane] += square;
                } else {
                    data[lane] += square;
                }
            }
            if GRADIENT {
                let rest = &mut slopes[at - segment.start * LANES..];
                match rest.first_chunk_mut() {
                    Some(whole) => *whole = chunk,
                    None => rest.copy_from_slice(&chunk[..rest.len()]),
                }
            }
        }
        if GRADIENT {
            for lane in 0..LANES {
                data[lane] += at_border[0][lane];
                tv[lane] += at_border[1][lane];
            }
        }
        sums[0].end(data);
        sums[1].end(tv);
    }

    /// Adds up the penalty of a segment and keeps its derivatives; `behind` is the same row of the
    /// slice before.
    #[inline(always)]
    fn differentiate<P: Penalty<T>, const GRADIENT: bool, const DEEP: bool>(
        &self,
        penalty: P,
        behind: Option<&Row<'_, T, NoMask>>,
        segment: Range<usize>,
        memory: &mut Memory<T>,
        sum: &mut Lanes<T>,
    ) {
        let mut tv = sum.begin(segment.len());
        let inner = self.inner(&segment, 0, self.step);
        let (from, count) = (inner.start * LANES, inner.len());
        if count > 0 {
            let here = cut(self.here, from, count);
            let right = cut(self.here, from + self.step, count);
            let below = cut(self.below, from, count);
            let next = cut(self.next, from, count);
            let [xs, ys, gradients] = memory.cut::<GRADIENT>(inner.clone(), self.step);
            for i in 0..count {
                let mut slopes = [[T::ZERO; LANES]; 3];
                for lane in 0..LANES {
                    let u = here[i][lane];
                    let z = if DEEP { next[i][lane] - u } else { T::ZERO };
                    let (cost, [px, py, pz]) =
                        penalty.cost([right[i][lane] - u, below[i][lane] - u, z]);
                    tv[lane] += cost;
                    if GRADIENT {
                        slopes[0][lane] = px;
                        slopes[1][lane] = py;
                        slopes[2][lane] = (ys[i][lane] - py) - px - pz;
                    }
                }
                if GRADIENT {
                    [xs[i], ys[i], gradients[i]] = slopes;
                }
            }
        }
        for i in inner.end..segment.end {
            let at = i * LANES;
            let here = some(self.here, at);
            let right = self.right(at);
            let (below, next) = (some(self.below, at), some(self.next, at));
            let valid = (self.here.len() - at).min(LANES);
            let mut x = [T::ZERO; LANES];
            for lane in 0..valid {
                let u = here[lane];
                let z = if DEEP { next[lane] - u } else { T::ZERO };
                let (cost, [px, py, pz]) = penalty.cost([right[lane] - u, below[lane] - u, z]);
                tv[lane] += cost;
                if GRADIENT {
                    x[lane] = px;
                    memory.gradient[i][lane] = (memory.y[i][lane] - py) - px - pz;
                    memory.y[i][lane] = py;
                }
            }
            if GRADIENT {
                memory.x[at + self.step..][..LANES].copy_from_slice(&x);
            }
        }
        sum.end(tv);
        if let Some(behind) = behind {
            behind.add_z(penalty, segment, memory);
        }
    }

    /// Adds the derivatives along z of this row, which lies in the slice before, to the gradient.
    #[inline(always)]
    fn add_z<P: Penalty<T>>(&self, penalty: P, segment: Range<usize>, memory: &mut Memory<T>) {
        let inner = self.inner(&segment, 0, self.step);
        let (from, count) = (inner.start * LANES, inner.len());
        if count > 0 {
            let here = cut(self.here, from, count);
            let right = cut(self.here, from + self.step, count);
            let below = cut(self.below, from, count);
            let next = cut(self.next, from, count);
            let gradients = &mut memory.gradient[inner.clone()][..count];
            for i in 0..count {
                let mut chunk = gradients[i];
                for lane in 0..LANES {
                    let u = here[i][lane];
                    let d = [right[i][lane] - u, below[i][lane] - u, next[i][lane] - u];
                    chunk[lane] += penalty.cost(d).1[2];
                }
                gradients[i] = chunk;
            }
        }
        for i in inner.end..segment.end {
            let at = i * LANES;
            let here = some(self.here, at);
            let right = self.right(at);
            let (below, next) = (some(self.below, at), some(self.next, at));
            for lane in 0..LANES {
                let u = here[lane];
                let d = [right[lane] - u, below[lane] - u, next[lane] - u];
                memory.gradient[i][lane] += penalty.cost(d).1[2];
            }
        }
    }

    /// Adds up the data term of a segment and completes its gradient.
    #[inline(always)]
    fn collect<const DATA: bool, const GRADIENT: bool>(
        &self,
        weight: T,
        segment: Range<usize>,
        memory: &Memory<T>,
        slopes: &mut [T],
        sum: &mut Lanes<T>,
    ) {
        let mut data = sum.begin(segment.len());
        let inner = self.inner(&segment, 0, 0);
        let (from, count) = (inner.start * LANES, inner.len());
        if count > 0 {
            let here = cut(self.here, from, count);
            let y = cut(self.y, from, count);
            let mask = self.mask.chunks(from, count);
            let (before, rest, slopes) = match GRADIENT {
                true => (
                    cut(&memory.x, from, count),
                    &memory.gradient[inner.clone()][..count],
                    &mut slopes.as_chunks_mut::<LANES>().0[..count],
                ),
                false => (here, here, &mut [][..]),
            };
            if !DATA {
                // As flat slices, because the compiler makes slow gathers of chunks here.
                let (before, rest) = (before.as_flattened(), rest.as_flattened());
                for (k, slope) in slopes.as_flattened_mut().iter_mut().enumerate() {
                    *slope = before[k] + rest[k];
                }
            }
            for i in 0..if DATA { count } else { 0 } {
                let mut chunk = [T::ZERO; LANES];
                for lane in 0..LANES {
                    let slope = if GRADIENT {
                        before[i][lane] + rest[i][lane]
                    } else {
                        T::ZERO
                    };
                    let m = M::value(mask, i, lane);
                    let (square, slope) = pull::<T, M>(here[i][lane], y[i][lane], m, weight, slope);
                    data[lane] += square;
                    chunk[lane] = slope;
                }
                if GRADIENT {
                    slopes[i] = chunk;
                }
            }
        }
        for i in inner.end..segment.end {
            let at = i * LANES;
            let here = some(self.here, at);
            let (y, mask) = (some(self.y, at), self.mask.some(at));
            for lane in 0..(self.here.len() - at).min(LANES) {
                let mut slope = T::ZERO;
                if GRADIENT {
                    slope = memory.x[at + lane] + memory.gradient[i][lane];
                }
                let (square, pulled) = pull::<T, M>(here[lane], y[lane], mask[lane], weight, slope);
                data[lane] += square;
                if GRADIENT {
                    slopes[at - segment.start * LANES + lane] = if DATA { pulled } else { slope };
                }
            }
        }
        sum.end(data);
    }

    /// Returns the left neighbours of the chunk at `at`; the element itself where there is none.
    #[inline(always)]
    fn left(&self, at: usize) -> [T; LANES] {
        if at >= self.step && at + LANES <= self.here.len() {
            return some(self.here, at - self.step);
        }
        if let (0, 1, Some(&here)) = (at, self.step, self.here.first_chunk::<LANES>()) {
            return from_fn(|lane| here[lane.saturating_sub(1)]);
        }
        let end = (at + LANES).min(self.here.len());
        let first = at.max(self.step).min(end);
        let mut left = some(self.here, at);
        if first < end {
            left[first - at..end - at]
                .copy_from_slice(&self.here[first - self.step..end - self.step]);
        }
        left
    }

    /// Returns the right neighbours of the chunk at `at`; the element itself where there is none.
    #[inline(always)]
    fn right(&self, at: usize) -> [T; LANES] {
        if at + LANES + self.step <= self.here.len() {
            return some(self.here, at + self.step);
        }
        if let (1, Some(here)) = (self.step, self.here[at..].first_chunk::<LANES>()) {
            return from_fn(|lane| here[(lane + 1).min(LANES - 1)]);
        }
        let end = (at + LANES).min(self.here.len());
        let last = self.here.len().saturating_sub(self.step).clamp(at, end);
        let mut right = some(self.here, at);
        if at < last {
            right[..last - at].copy_from_slice(&self.here[at + self.step..last + self.step]);
        }
        right
    }
}

/// Returns the anisotropic penalty of a pixel and the gradient there; the neighbours are left,
/// right, above, below, behind, next.
#[inline(always)]
fn signs<T: Float, const GRADIENT: bool, const DEEP: bool>(
    u: T,
    [left, right, above, below, behind, next]: [T; 6],
) -> (T, T) {
    let (to_right, to_below, to_next) = (right - u, below - u, next - u);
    let mut cost = to_right.abs() + to_below.abs();
    let mut slope = T::ZERO;
    if GRADIENT {
        slope = (u - left).sign() - to_right.sign() + ((u - above).sign() - to_below.sign());
    }
    if DEEP {
        cost += to_next.abs();
        if GRADIENT {
            slope += (u - behind).sign() - to_next.sign();
        }
    }
    (cost, slope)
}

/// Returns the square of the residual of a pixel, and the gradient of the objective there.
#[inline(always)]
fn pull<T: Float, M: Weights<T>>(u: T, y: T, mask: T, weight: T, slope: T) -> (T, T) {
    let mut residual = u - y;
    let mut pull = residual;
    if M::ANY {
        // Selected instead of multiplied by 0, because NaN and infinity times 0 are NaN.
        let counts = mask != T::ZERO;
        residual = if counts { mask * residual } else { T::ZERO };
        pull = mask * residual;
    }
    (residual * residual, pull + weight * slope)
}

/// A mask, or a row of one.
trait Weights<T: Float>: Copy {
    /// Whether there is a mask.
    const ANY: bool;
    type Chunks: Copy;
    fn len(self) -> usize;
    fn part(self, range: Range<usize>) -> Self;
    fn chunks(self, from: usize, count: usize) -> Self::Chunks;
    fn value(chunks: Self::Chunks, i: usize, lane: usize) -> T;
    fn some(self, at: usize) -> [T; LANES];
}

#[derive(Clone, Copy)]
struct NoMask;

impl<T: Float> Weights<T> for NoMask {
    const ANY: bool = false;
    type Chunks = ();
    #[inline(always)]
    fn len(self) -> usize {
        0
    }
    #[inline(always)]
    fn part(self, _: Range<usize>) -> Self {
        self
    }
    #[inline(always)]
    fn chunks(self, _: usize, _: usize) {}
    #[inline(always)]
    fn value((): (), _: usize, _: usize) -> T {
        T::ZERO
    }
    #[inline(always)]
    fn some(self, _: usize) -> [T; LANES] {
        [T::ZERO; LANES]
    }
}

impl<'a, T: Float> Weights<T> for &'a [T] {
    const ANY: bool = true;
    type Chunks = &'a [[T; LANES]];
    #[inline(always)]
    fn len(self) -> usize {
        <[T]>::len(self)
    }
    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        &self[range]
    }
    #[inline(always)]
    fn chunks(self, from: usize, count: usize) -> Self::Chunks {
        cut(self, from, count)
    }
    #[inline(always)]
    fn value(chunks: Self::Chunks, i: usize, lane: usize) -> T {
        chunks[i][lane]
    }
    #[inline(always)]
    fn some(self, at: usize) -> [T; LANES] {
        some(self, at)
    }
}

/// A mask of bytes, whose weight is 1 where they are not zero.
#[derive(Clone, Copy)]
struct Known<'a>(&'a [u8]);

impl<'a, T: Float> Weights<T> for Known<'a> {
    const ANY: bool = true;
    type Chunks = &'a [[u8; LANES]];
    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        Self(&self.0[range])
    }
    #[inline(always)]
    fn chunks(self, from: usize, count: usize) -> Self::Chunks {
        cut(self.0, from, count)
    }
    #[inline(always)]
    fn value(chunks: Self::Chunks, i: usize, lane: usize) -> T {
        weight_of(chunks[i][lane])
    }
    #[inline(always)]
    fn some(self, at: usize) -> [T; LANES] {
        some(self.0, at).map(weight_of)
    }
}

#[inline(always)]
fn weight_of<T: Float>(known: u8) -> T {
    if known == 0 {
        T::ZERO
    } else {
        T::from_f64(1.0)
    }
}

/// Returns whole chunks from an element on.
#[inline(always)]
fn cut<T>(values: &[T], from: usize, count: usize) -> &[[T; LANES]] {
    &values[from..].as_chunks().0[..count]
}

/// Returns the chunk from an element on, filled up with zeros at the end of the row.
#[inline(always)]
fn some<T: Copy + Default>(values: &[T], at: usize) -> [T; LANES] {
    let values = &values[at..];
    if let Some(&whole) = values.first_chunk() {
        return whole;
    }
    let mut chunk = [T::default(); LANES];
    chunk[..values.len()].copy_from_slice(values);
    chunk
}
