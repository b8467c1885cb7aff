//! Finding the patches of an image that are most like another one.

use std::ops::Range;

use crate::exec::simd::{Kernel, LANES, dispatch};

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
    bins: Vec<u32>,
    keys: Vec<u64>,
    reference: Vec<f32>,
}

/// The number of bins of the histogram of distances: eight for a factor of two.
const BINS: usize = 1 << 11;
/// Bits of a distance that do not tell its bin.
const BELOW_BIN: u32 = 20;

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
            dispatch(Distances {
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
        }
        let own = ((reference[0] - slices.start) * rows.len() + reference[1] - rows.start) * stride
            + reference[2]
            - columns.start;
        self.smallest(columns.len(), stride, own, count);
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
    #[inline(always)]
    fn smallest(&mut self, length: usize, stride: usize, own: usize, count: usize) {
        // Distances are not negative, so their bits are in their order; only the patch itself
        // has the key 0.
        let bits = |index: usize, distance: f32| {
            if index == own {
                0
            } else {
                distance.max(f32::MIN_POSITIVE).to_bits()
            }
        };
        self.bins.clear();
        self.bins.resize(BINS, 0);
        let lines = self.distances.chunks_exact(stride).enumerate();
        for (l, line) in lines.clone() {
            for (k, &distance) in line[..length].iter().enumerate() {
                self.bins[((bits(l * stride + k, distance) >> BELOW_BIN) as usize) % BINS] += 1;
            }
        }
        let mut total = 0;
        let last = self.bins.iter().position(|&n| {
            total += n as usize;
            total >= count
        });
        let last = last.unwrap_or(BINS - 1) as u32;
        self.keys.clear();
        for (l, line) in lines {
            for (k, &distance) in line[..length].iter().enumerate() {
                let index = l * stride + k;
                let bits = bits(index, distance);
                if bits >> BELOW_BIN <= last {
                    self.keys.push(u64::from(bits) << 32 | index as u64);
                }
            }
        }
        if self.keys.len() > count {
            self.keys.select_nth_unstable(count - 1);
            self.keys.truncate(count);
        }
        self.keys.sort_unstable();
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

impl Kernel for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
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
                    squares::<1>(pixels, c, width, reference, columns, line);
                    c += LANES;
                }
                2 => {
                    squares::<2>(pixels, c, width, reference, columns, line);
                    c += 2 * LANES;
                }
                _ => {
                    squares::<3>(pixels, c, width, reference, columns, line);
                    c += 3 * LANES;
                }
            }
        }
    }
}

/// Writes the squared distances of `W` chunks of candidates from the reference.
#[inline(always)]
fn squares<const W: usize>(
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
                    *x += difference * difference;
                }
            }
        }
    }
    for (w, sum) in sums.iter().enumerate() {
        line[c + w * LANES..][..LANES].copy_from_slice(sum);
    }
}
