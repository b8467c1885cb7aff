//! The layout of the state of the denoiser in memory.
//!
//! The image is cut along its first axis into units: the rows of an image, or the slices of a
//! volume, of all channels that are denoised together.  Rows are padded: [`LANES`] elements in
//! front, where p is 0, and at least as many behind, the first of which repeats the last
//! column so that the difference across the border is 0.

use std::ops::Range;
use std::sync::Mutex;

use crate::element::Float;
use crate::exec::Executor;
use crate::exec::parallel::run_blocks;
use crate::exec::simd::LANES;
use crate::mem::Layout;
use crate::mem::buffers::{Aligned, zeros};

/// The number of chunks of a row that are computed together: their data stay in the L1 cache.
pub(super) const SEGMENT: usize = 32;

/// The largest number of iterations of a sweep.
const DEPTH: usize = 16;

/// The number of bytes of scratch memory of a sweep, so that they stay in the L2 cache.
const CACHE: usize = 1 << 19;

/// The least number of pixels of a band.
const BAND: usize = 1 << 15;

#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) groups: usize,
    pub(super) channels: usize,
    pub(super) units: usize,
    /// The number of rows of a unit and channel.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether units are slices.
    pub(super) deep: bool,
    /// The number of chunks of a row without its padding.
    pub(super) chunks: usize,
    /// The number of elements of a row with its padding.
    pub(super) stride: usize,
    /// The number of iterations of a sweep.
    pub(super) depth: usize,
    /// The number of bands of a group.
    pub(super) bands: usize,
}

impl Grid {
    pub(super) fn new(layout: Layout, channels: usize, element: usize) -> Self {
        let deep = layout.slices > 1;
        let (units, rows) = match deep {
            true => (layout.slices, layout.rows),
            false => (layout.rows, 1),
        };
        let chunks = layout.row_len.div_ceil(LANES);
        let mut grid = Self {
            groups: match layout.is_empty() {
                true => 0,
                false => layout.planes / channels,
            },
            channels,
            units,
            rows,
            columns: layout.row_len,
            deep,
            chunks,
            stride: LANES * (chunks + 2),
            depth: 1,
            bands: 1,
        };
        let unit_bytes = grid.unit() * element * (2 + grid.axes());
        grid.depth = (CACHE / unit_bytes.max(1))
            .saturating_sub(2)
            .clamp(1, DEPTH);
        // A band also computes `depth` units of its neighbours, so it should be long.
        let long = (8 * grid.depth).max(BAND.div_ceil(grid.unit().max(1)));
        grid.bands = (units / long).max(1);
        grid
    }

    /// Returns the number of spatial axes.
    pub(super) fn axes(&self) -> usize {
        if self.deep { 3 } else { 2 }
    }

    /// Returns the number of units in the scratch memory of a sweep.
    pub(super) fn slots(&self) -> usize {
        self.depth + 2
    }

    /// Returns the number of elements of a unit.
    pub(super) fn unit(&self) -> usize {
        self.channels * self.rows * self.stride
    }

    /// Returns the number of elements of an array of the state.
    pub(super) fn len(&self) -> usize {
        self.groups * self.units * self.unit()
    }

    /// Returns the number of elements of the image.
    pub(super) fn pixels(&self) -> usize {
        self.groups * self.channels * self.units * self.rows * self.columns
    }

    /// Returns the units of a band; the bands of all groups have consecutive numbers.
    fn units_of(&self, index: usize) -> Range<usize> {
        let band = index % self.bands;
        self.units * band / self.bands..self.units * (band + 1) / self.bands
    }

    /// Returns for each row of a band where it lies in the state, its plane, and where it lies in
    /// the image.
    fn rows_of(&self, index: usize) -> impl Iterator<Item = (Range<usize>, usize, Range<usize>)> {
        let grid = *self;
        let group = index / grid.bands;
        let units = grid.units_of(index);
        let first = units.start;
        units.flat_map(move |unit| {
            (0..grid.channels).flat_map(move |channel| {
                (0..grid.rows).map(move |row| {
                    let inside = ((unit - first) * grid.channels + channel) * grid.rows + row;
                    let plane = group * grid.channels + channel;
                    let number = (plane * grid.units + unit) * grid.rows + row;
                    (
                        inside * grid.stride..(inside + 1) * grid.stride,
                        plane,
                        number * grid.columns..(number + 1) * grid.columns,
                    )
                })
            })
        })
    }

    /// Returns where in the image the part of a plane lies that belongs to a band; the parts of all
    /// planes have consecutive numbers.
    fn part_of(&self, index: usize) -> Range<usize> {
        let (units, unit) = (self.units_of(index), self.rows * self.columns);
        let plane = index / self.bands * self.units;
        (plane + units.start) * unit..(plane + units.end) * unit
    }

    /// Returns the mean of each plane, and the largest distance of an element from its mean.
    pub(super) fn means<T: Float>(&self, f: &[T], exec: &dyn Executor) -> (Vec<f64>, f64) {
        let parts = self.groups * self.channels * self.bands;
        let plane = (self.units * self.rows * self.columns) as f64;
        let sums = run_blocks(exec, parts, |part| sum(&f[self.part_of(part)]));
        let bands = sums.chunks(self.bands);
        let means: Vec<f64> = bands.map(|sums| sums.iter().sum::<f64>() / plane).collect();
        let distances = run_blocks(exec, parts, |part| {
            largest(&f[self.part_of(part)], means[part / self.bands])
        });
        (means, distances.into_iter().fold(0.0, f64::max))
    }

    /// Fills a padded array with (f - mean) scale; returns the squared norm of each band.
    pub(super) fn import<T: Float>(
        &self,
        f: &[T],
        out: &mut [T],
        means: &[f64],
        scale: f64,
        exec: &dyn Executor,
    ) -> Vec<f64> {
        let bands = self.split(out);
        run_blocks(exec, bands.len(), |index| {
            let out = bands.take(index);
            let mut sum = 0.0;
            for (to, plane, from) in self.rows_of(index) {
                let row = &mut out[to];
                let mean = means[plane];
                let mut square = 0.0;
                for (to, from) in row[LANES..].iter_mut().zip(&f[from]) {
                    let value = (from.to_f64() - mean) * scale;
                    square += value * value;
                    *to = T::from_f64(value);
                }
                sum += square;
                let last = row[LANES + self.columns - 1];
                row[LANES + self.columns..].fill(last);
            }
            sum
        })
    }

    /// Copies a dual variable into the state, but not at the far borders, where it is 0.
    pub(super) fn fill_dual<T: Float>(
        &self,
        state: &mut State<T>,
        dual: &[T],
        scale: f64,
        exec: &dyn Executor,
    ) {
        let image = self.pixels();
        for (axis, (p, dual)) in state.p.iter_mut().zip(dual.chunks(image).rev()).enumerate() {
            let bands = self.split(p);
            exec.run(bands.len(), &|index| {
                let p = bands.take(index);
                for (to, _, from) in self.rows_of(index) {
                    let row = from.start / self.columns;
                    let border = match (axis, self.deep) {
                        (0, _) => false,
                        (1, true) => row % self.rows == self.rows - 1,
                        _ => row / self.rows % self.units == self.units - 1,
                    };
                    if border {
                        continue;
                    }
                    let to = &mut p[to][LANES..];
                    let count = self.columns - usize::from(axis == 0);
                    for (to, from) in to[..count].iter_mut().zip(&dual[from]) {
                        *to = T::from_f64(from.to_f64() * scale);
                    }
                }
            });
        }
    }

    /// Copies an array of the state out of its padding.
    pub(super) fn export<T: Float>(
        &self,
        from: &[T],
        out: &mut [T],
        exec: &dyn Executor,
        convert: &(dyn Fn(usize, T) -> T + Sync),
    ) {
        let count = self.groups * self.channels * self.bands;
        let parts = Pieces::new(out, (0..count).map(|index| self.part_of(index).len()));
        exec.run(count, &|index| {
            let (plane, first) = (index / self.bands, self.units_of(index).start);
            let (group, channel) = (plane / self.channels, plane % self.channels);
            for (number, out) in parts.take(index).chunks_mut(self.columns).enumerate() {
                let (unit, row) = (first + number / self.rows, number % self.rows);
                let at = ((group * self.units + unit) * self.channels + channel) * self.rows + row;
                let from = &from[at * self.stride + LANES..][..self.columns];
                for (out, &from) in out.iter_mut().zip(from) {
                    *out = convert(plane, from);
                }
            }
        });
    }

    /// Splits a padded array into the bands of all groups.
    fn split<'a, T>(&self, whole: &'a mut [T]) -> Pieces<'a, T> {
        let count = self.groups * self.bands;
        Pieces::new(
            whole,
            (0..count).map(|index| self.units_of(index).len() * self.unit()),
        )
    }
}

/// A slice that is handed out in parts, each at most once.
struct Pieces<'a, T>(Vec<Mutex<&'a mut [T]>>);

impl<'a, T> Pieces<'a, T> {
    fn new(mut whole: &'a mut [T], sizes: impl Iterator<Item = usize>) -> Self {
        let mut piece = |size| {
            let (piece, rest) = std::mem::take(&mut whole).split_at_mut(size);
            whole = rest;
            Mutex::new(piece)
        };
        Self(sizes.map(&mut piece).collect())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns a part; it is empty if it was taken before, or there is none.
    fn take(&self, index: usize) -> &'a mut [T] {
        let piece = self.0.get(index).and_then(|piece| piece.lock().ok());
        piece
            .map(|mut piece| std::mem::take(&mut *piece))
            .unwrap_or_default()
    }
}

/// Returns the sum of values.
fn sum<T: Float>(values: &[T]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane].to_f64();
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|value| value.to_f64()).sum::<f64>()
}

/// Returns the largest distance of a value from the mean.
fn largest<T: Float>(values: &[T], mean: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let distance = (chunk[lane].to_f64() - mean).abs();
            lanes[lane] = if distance > lanes[lane] {
                distance
            } else {
                lanes[lane]
            };
        }
    }
    let rest = rest.iter().map(|value| (value.to_f64() - mean).abs());
    lanes.into_iter().chain(rest).fold(0.0, f64::max)
}

/// One of the bands of all groups.
#[derive(Debug, Clone)]
pub(super) struct Band {
    /// The element at which the arrays of its group begin.
    pub(super) origin: usize,
    pub(super) units: Range<usize>,
}

impl Band {
    pub(super) fn new(grid: Grid, index: usize) -> Self {
        Self {
            origin: index / grid.bands * grid.units * grid.unit(),
            units: grid.units_of(index),
        }
    }
}

/// The variables u, v and p, each an array of padded rows.
#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) u: Vec<T>,
    pub(super) v: Vec<T>,
    /// Along x, y, z; the last is empty for images.
    pub(super) p: [Vec<T>; 3],
}

impl<T: Float> State<T> {
    pub(super) fn new(grid: Grid) -> Self {
        let array = || zeros(grid.len());
        Self {
            u: array(),
            v: array(),
            p: [
                array(),
                array(),
                if grid.deep { array() } else { Vec::new() },
            ],
        }
    }

    /// Splits the state into the bands of all groups.
    pub(super) fn bands(&mut self, grid: Grid) -> Bands<'_, T> {
        let [x, y, z] = &mut self.p;
        Bands {
            u: grid.split(&mut self.u),
            v: grid.split(&mut self.v),
            p: [
                grid.split(x),
                grid.split(y),
                if grid.deep {
                    grid.split(z)
                } else {
                    Pieces(Vec::new())
                },
            ],
        }
    }
}

/// A state that is split into bands.
pub(super) struct Bands<'a, T> {
    u: Pieces<'a, T>,
    v: Pieces<'a, T>,
    p: [Pieces<'a, T>; 3],
}

impl<'a, T> Bands<'a, T> {
    pub(super) fn len(&self) -> usize {
        self.u.len()
    }

    /// Returns the variables of a band; they are empty if they were taken before.
    pub(super) fn take(&self, index: usize) -> Variables<'a, T> {
        Variables {
            u: self.u.take(index),
            v: self.v.take(index),
            p: [0, 1, 2].map(|axis| self.p[axis].take(index)),
        }
    }
}

/// The variables of a band.
pub(super) struct Variables<'a, T> {
    pub(super) u: &'a mut [T],
    pub(super) v: &'a mut [T],
    pub(super) p: [&'a mut [T]; 3],
}

/// Scratch memory of a sweep: the units that it works on, and arrays for a row.  A new unit
/// replaces the oldest one.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    pub(super) u: Aligned<T>,
    pub(super) v: Aligned<T>,
    pub(super) p: [Aligned<T>; 3],
    /// The factors of p at the pixels of a segment of a row.
    pub(super) scales: Vec<[T; LANES]>,
    /// Zeros that stand for the p before the first row or slice.
    pub(super) zeros: Vec<T>,
}

impl<T: Float> Scratch<T> {
    pub(super) fn new(grid: Grid) -> Self {
        let ring = || Aligned::new(grid.slots() * grid.unit());
        Self {
            u: ring(),
            v: ring(),
            p: [
                ring(),
                ring(),
                if grid.deep { ring() } else { Aligned::new(0) },
            ],
            scales: vec![[T::ZERO; LANES]; grid.chunks.min(SEGMENT)],
            zeros: vec![T::ZERO; grid.unit()],
        }
    }
}
