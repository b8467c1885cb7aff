//! Finding the patches of an image that are most like another one.

use std::ops::Range;

use crate::exec::simd::{FusedKernel, Kernel, LANES, dispatch, dispatch_fused, multiply_add};

/// Chunks of candidates whose distances are computed together.
const CHUNKS: usize = 3;

/// A part of a picture of one channel, copied so that reads of whole chunks stay inside.
pub(super) struct Region {
    pixels: Vec<f32>,
    /// The first slice, row and column of the picture that are held.
    pub(super) origin: [usize; 3],
    rows: usize,
    width: usize,
}

impl Region {
    /// Copies slices, rows and columns of a picture of this size.
    #[inline(always)]
    pub(super) fn of(
        picture: &[f32],
        (height, width): (usize, usize),
        [slices, rows, columns]: [Range<usize>; 3],
    ) -> Self {
        let held = columns.len() + CHUNKS * LANES;
        let mut pixels = vec![0.0; slices.len() * rows.len() * held];
        let origin = [slices.start, rows.start, columns.start];
        let count = rows.len();
        let sources = slices.flat_map(|z| rows.clone().map(move |y| (z * height + y) * width));
        for (line, start) in pixels.chunks_exact_mut(held).zip(sources) {
            line[..columns.len()].copy_from_slice(&picture[start..][columns.clone()]);
        }
        Self {
            pixels,
            origin,
            rows: count,
            width: held,
        }
    }

    fn start(&self, [z, y, x]: [usize; 3]) -> usize {
        let [slice, row, column] = self.origin;
        ((z - slice) * self.rows + (y - row)) * self.width + (x - column)
    }
}

/// Where candidates have their first pixel, and the distances that they were found to have.
#[derive(Default)]
pub(super) struct Candidates {
    distances: Vec<f32>,
    least: Vec<u32>,
    keys: Vec<u64>,
    reference: Vec<f32>,
}

/// Lines of candidates of which the least distances are found together, one in each lane.
const LINES: usize = 4;

impl Candidates {
    /// Fills `found` with the first pixels of the `count` patches most like that at `reference`.
    ///
    /// `window` holds the first pixels of the candidates.  The patch itself is always among them.
    /// `excess` is what noise that neighbours share takes from the squared distance, by the
    /// distance in slices, rows and columns; None for none.
    pub(super) fn most_like(
        &mut self,
        region: &Region,
        (reference, window): ([usize; 3], &[Range<usize>; 3]),
        (patch_rows, patch_columns): (usize, usize),
        excess: Option<&dyn Fn([isize; 3]) -> f32>,
        count: usize,
        found: &mut Vec<[usize; 3]>,
    ) {
        let [slices, rows, columns] = window;
        let stride = columns.len().div_ceil(LANES) * LANES;
        self.distances.clear();
        self.distances
            .resize(slices.len() * rows.len() * stride, 0.0);
        self.reference.clear();
        for k in 0..patch_rows {
            let from = region.start([reference[0], reference[1] + k, reference[2]]);
            self.reference
                .extend_from_slice(&region.pixels[from..from + patch_columns]);
        }
        let places = slices
            .clone()
            .flat_map(|z| rows.clone().map(move |y| (z, y)));
        for (line, (z, y)) in self.distances.chunks_exact_mut(stride.max(1)).zip(places) {
            let start = region.start([z, y, columns.start]);
            let pixels = &region.pixels[start..];
            dispatch_fused(Distances {
                pixels,
                width: region.width,
                reference: &self.reference,
                columns: patch_columns,
                line: &mut *line,
            });
            if let Some(excess) = excess {
                let [z, y, x] = [
                    offset(z, reference[0]),
                    offset(y, reference[1]),
                    offset(columns.start, reference[2]),
                ];
                for (k, distance) in line[..columns.len()].iter_mut().enumerate() {
                    *distance += excess([z, y, x + k as isize]);
                }
            }
            line[columns.len()..].fill(f32::INFINITY);
        }
        let own = ((reference[0] - slices.start) * rows.len() + reference[1] - rows.start) * stride
            + reference[2]
            - columns.start;
        self.smallest(stride, own, count);
        found.clear();
        found.extend(self.keys.iter().map(|key| {
            let index = (key & u64::from(u32::MAX)) as usize;
            let (line, x) = (index / stride, index % stride);
            [
                slices.start + line / rows.len(),
                rows.start + line % rows.len(),
                columns.start + x,
            ]
        }));
    }

    /// Leaves the `count` smallest distances in `keys`, with their places in the lower half.
    ///
    /// The `count`th of the least distances of parts of the window bounds that of all: what is
    /// above it need not be sorted.
    fn smallest(&mut self, stride: usize, own: usize, count: usize) {
        self.distances[own] = 0.0;
        self.least.clear();
        self.least
            .reserve(self.distances.len() / (stride * LINES) * LANES + LANES);
        for lines in self.distances.chunks(stride * LINES) {
            self.least.extend_from_slice(&dispatch(Least(lines)));
        }
        let bound = if self.least.len() > count {
            *self.least.select_nth_unstable(count - 1).1
        } else {
            u32::MAX
        };
        self.keys.resize(self.distances.len(), 0);
        let found = dispatch(Within {
            distances: &self.distances,
            bound: bound.min(f32::MAX.to_bits()),
            keys: &mut self.keys,
        });
        self.keys.truncate(found);
        // Only the patch itself has the key 0.
        for key in &mut self.keys {
            if *key as u32 as usize == own {
                *key = own as u64;
            }
        }
        if self.keys.len() > count {
            self.keys.select_nth_unstable(count - 1);
            self.keys.truncate(count);
        }
        self.keys.sort_unstable();
    }
}

/// Returns the bits of a distance, which are in the order of distances as none is negative.
///
/// Those of NaN, the distance of patches that are not finite, are the largest of all.
#[inline(always)]
fn bits(distance: f32) -> u32 {
    // `f32::max` would return the smallest distance for NaN.
    if distance < f32::MIN_POSITIVE {
        f32::MIN_POSITIVE.to_bits()
    } else {
        distance.to_bits()
    }
}

/// Returns the bits of the least distances in each lane of lines.
struct Least<'a>(&'a [f32]);

impl Kernel for Least<'_> {
    type Output = [u32; LANES];

    #[inline(always)]
    fn run(self) -> Self::Output {
        let mut least = [u32::MAX; LANES];
        for chunk in self.0.as_chunks::<LANES>().0 {
            for (least, &distance) in least.iter_mut().zip(chunk) {
                *least = bits(distance).min(*least);
            }
        }
        least
    }
}

/// Fills the first of `keys` with the bits and the places of all distances up to a bound, and
/// returns their number.
struct Within<'a> {
    distances: &'a [f32],
    bound: u32,
    keys: &'a mut [u64],
}

impl Kernel for Within<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let mut found = 0;
        for (c, chunk) in self.distances.as_chunks::<LANES>().0.iter().enumerate() {
            let mut some = false;
            for &distance in chunk {
                some |= bits(distance) <= self.bound;
            }
            if some {
                for (lane, &distance) in chunk.iter().enumerate() {
                    let bits = bits(distance);
                    self.keys[found] = u64::from(bits) << 32 | (c * LANES + lane) as u64;
                    found += usize::from(bits <= self.bound);
                }
            }
        }
        found
    }
}

fn offset(a: usize, b: usize) -> isize {
    a as isize - b as isize
}

/// Writes the squared distances of the candidates of a line from the reference.
struct Distances<'a> {
    pixels: &'a [f32],
    width: usize,
    reference: &'a [f32],
    columns: usize,
    line: &'a mut [f32],
}

impl FusedKernel for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            pixels,
            width,
            reference,
            columns,
            line,
        } = self;
        let mut c = 0;
        while c < line.len() {
            match (line.len() - c) / LANES {
                1 => {
                    squares::<1, FUSED>(pixels, c, width, reference, columns, line);
                    c += LANES;
                }
                2 => {
                    squares::<2, FUSED>(pixels, c, width, reference, columns, line);
                    c += 2 * LANES;
                }
                _ => {
                    squares::<3, FUSED>(pixels, c, width, reference, columns, line);
                    c += 3 * LANES;
                }
            }
        }
    }
}

/// Writes the squared distances of `W` chunks of candidates from the reference.
#[inline(always)]
fn squares<const W: usize, const FUSED: bool>(
    pixels: &[f32],
    c: usize,
    width: usize,
    reference: &[f32],
    columns: usize,
    line: &mut [f32],
) {
    let mut sums = [[0.0_f32; LANES]; W];
    for (k, row) in reference.chunks_exact(columns).enumerate() {
        let Some(pixels) = pixels.get(k * width + c..k * width + c + columns - 1 + W * LANES)
        else {
            return;
        };
        for (m, &value) in row.iter().enumerate() {
            let pixels = &pixels[m..m + W * LANES];
            for (w, sum) in sums.iter_mut().enumerate() {
                for (lane, x) in sum.iter_mut().enumerate() {
                    let difference = pixels[w * LANES + lane] - value;
                    *x = multiply_add::<FUSED>(*x, difference, difference);
                }
            }
        }
    }
    for (w, sum) in sums.iter().enumerate() {
        line[c + w * LANES..][..LANES].copy_from_slice(sum);
    }
}
