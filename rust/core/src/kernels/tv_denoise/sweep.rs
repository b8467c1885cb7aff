//! Several iterations in one pass over a band, and the gap of a band.

use std::ops::Range;

use super::state::{Band, Grid, SEGMENT, Scratch, State, Variables};
use crate::element::Float;
use crate::exec::simd::{Kernel, LANES, Lanes};

const ANISOTROPIC: u8 = 0;
const JOINT: u8 = 2;

/// The numbers of an iteration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<T> {
    /// The step size of p.
    pub(super) sigma: T,
    /// 1 / (1 + tau), the factor of the former u.
    pub(super) keep: T,
    /// tau / (1 + tau), the factor of f - K' p.
    pub(super) pull: T,
    /// The factor of the extrapolation from u to v.
    pub(super) theta: T,
}

/// A pass over a band that makes an iteration for each step, from one state to the next.
pub(super) struct Sweep<'a, T, const NORM: u8, const DEEP: bool> {
    pub(super) grid: Grid,
    pub(super) band: Band,
    pub(super) f: &'a [T],
    pub(super) from: &'a State<T>,
    pub(super) out: Variables<'a, T>,
    pub(super) scratch: &'a mut Scratch<T>,
    pub(super) weight: T,
    pub(super) steps: &'a [Step<T>],
}

impl<T: Float, const NORM: u8, const DEEP: bool> Kernel for Sweep<'_, T, NORM, DEEP> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let depth = self.steps.len();
        let Range { start, end } = self.band.units.clone();
        let last = (end + depth).min(self.grid.units);
        // `front` is the unit that is read; iteration k works on the unit k before it.
        for front in start.saturating_sub(depth)..end + depth {
            if front < last {
                self.load(front);
            }
            for k in 1..=depth {
                // The first unit may lack the p of the unit before it.  Then only its own p are
                // used, which do not depend on those.
                let first = start.saturating_sub(depth - k + 1);
                let behind = (end + depth - k).min(self.grid.units);
                if (first + k..behind + k).contains(&front) {
                    self.iterate(front - k, k);
                }
            }
            if (start + depth..end + depth).contains(&front) {
                self.store(front - depth);
            }
        }
    }
}

impl<T: Float, const NORM: u8, const DEEP: bool> Sweep<'_, T, NORM, DEEP> {
    /// Returns where a unit lies in the scratch memory.
    #[inline(always)]
    fn slot(&self, unit: usize) -> Range<usize> {
        let size = self.grid.unit();
        let slot = unit % self.grid.slots();
        slot * size..(slot + 1) * size
    }

    /// Copies a unit of the state into the scratch memory.
    #[inline(always)]
    fn load(&mut self, unit: usize) {
        let slot = self.slot(unit);
        let at = self.band.origin + unit * self.grid.unit()..;
        let at = at.start..at.start + self.grid.unit();
        let scratch = &mut *self.scratch;
        scratch.u[slot.clone()].copy_from_slice(&self.from.u[at.clone()]);
        scratch.v[slot.clone()].copy_from_slice(&self.from.v[at.clone()]);
        for axis in 0..if DEEP { 3 } else { 2 } {
            scratch.p[axis][slot.clone()].copy_from_slice(&self.from.p[axis][at.clone()]);
        }
    }

    /// Copies a unit from the scratch memory to the next state.
    #[inline(always)]
    fn store(&mut self, unit: usize) {
        let slot = self.slot(unit);
        let size = self.grid.unit();
        let at = (unit - self.band.units.start) * size..(unit - self.band.units.start + 1) * size;
        let scratch = &*self.scratch;
        self.out.u[at.clone()].copy_from_slice(&scratch.u[slot.clone()]);
        self.out.v[at.clone()].copy_from_slice(&scratch.v[slot.clone()]);
        for axis in 0..if DEEP { 3 } else { 2 } {
            self.out.p[axis][at.clone()].copy_from_slice(&scratch.p[axis][slot.clone()]);
        }
    }

    /// Makes iteration k of a unit.
    #[inline(always)]
    fn iterate(&mut self, unit: usize, k: usize) {
        let Grid {
            channels,
            units,
            rows,
            stride,
            chunks,
            columns,
            ..
        } = self.grid;
        let step = self.steps[k - 1];
        let here = self.slot(unit).start;
        let after = match unit + 1 < units {
            true => self.slot(unit + 1).start,
            false => here,
        };
        let before = match unit > 0 {
            true => Some(self.slot(unit - 1).start),
            false => None,
        };
        let f = &self.f[self.band.origin + unit * self.grid.unit()..];
        let Scratch {
            u,
            v,
            p: [px, py, pz],
            scales,
            zeros,
        } = &mut *self.scratch;
        let zeros = &zeros[..stride];
        for row in 0..rows {
            for segment in segments(chunks) {
                let count = segment.len();
                let from = LANES + segment.start * LANES;
                let scales = &mut scales[..count];
                if NORM == JOINT {
                    scales.fill([T::ZERO; LANES]);
                }
                for channel in 0..channels {
                    let inside = (channel * rows + row) * stride;
                    let (below, next) = below(here, after, inside, stride, row + 1 < rows, DEEP);
                    let v_row = &v[here + inside..][..stride];
                    let mut p = [
                        chunks_mut(&mut px[here + inside..], from, count),
                        chunks_mut(&mut py[here + inside..], from, count),
                        match DEEP {
                            true => chunks_mut(&mut pz[here + inside..], from, count),
                            false => &mut [],
                        },
                    ];
                    let v = [
                        cut(v_row, from, count),
                        cut(v_row, from + 1, count),
                        cut(&v[below..], from, count),
                        cut(&v[next..], from, count),
                    ];
                    ascend::<T, NORM, DEEP>(&mut p, v, scales, step.sigma, self.weight);
                }
                if NORM == JOINT {
                    shrink(scales, self.weight);
                }
                for channel in 0..channels {
                    let inside = (channel * rows + row) * stride;
                    if NORM == JOINT {
                        rescale(chunks_mut(&mut px[here + inside..], from, count), scales);
                        rescale(chunks_mut(&mut py[here + inside..], from, count), scales);
                        if DEEP {
                            rescale(chunks_mut(&mut pz[here + inside..], from, count), scales);
                        }
                    }
                    let p = Neighbours::<T, DEEP> {
                        rows: [&px[..], &py[..], &pz[..]],
                        zeros,
                        here: here + inside,
                        before: before.map(|before| before + inside),
                        above: row > 0,
                        stride,
                    };
                    let u = chunks_mut(&mut u[here + inside..], from, count);
                    let v = chunks_mut(&mut v[here + inside..], from, count);
                    let f = cut(&f[inside..], from, count);
                    descend::<T, DEEP>(u, v, f, p.cut(from, count), step);
                }
            }
            for channel in 0..channels {
                // The difference across the border stays 0.
                let end = here + (channel * rows + row) * stride + LANES + columns;
                u[end] = u[end - 1];
                v[end] = v[end - 1];
            }
        }
    }
}

/// Returns where the next rows along y and z begin; where there is none, where the row itself does.
#[inline(always)]
fn below(
    here: usize,
    after: usize,
    inside: usize,
    stride: usize,
    more_rows: bool,
    deep: bool,
) -> (usize, usize) {
    if !deep {
        return (after + inside, here + inside);
    }
    let below = here + inside + if more_rows { stride } else { 0 };
    (below, after + inside)
}

/// The rows of p from which K' p is computed for a row.
struct Neighbours<'a, T, const DEEP: bool> {
    rows: [&'a [T]; 3],
    zeros: &'a [T],
    /// Where the row begins.
    here: usize,
    /// Where the same row of the unit before begins.
    before: Option<usize>,
    /// Whether there is a row above in the same unit.
    above: bool,
    stride: usize,
}

impl<'a, T: Float, const DEEP: bool> Neighbours<'a, T, DEEP> {
    /// Returns px here and left, py here and above, pz here and behind.
    #[inline(always)]
    fn cut(&self, from: usize, count: usize) -> [&'a [[T; LANES]]; 6] {
        let [px, py, pz] = self.rows;
        let row = |p: &'a [T], at: Option<usize>| match at {
            Some(at) => cut(&p[at..], from, count),
            None => cut(self.zeros, from, count),
        };
        let (above, behind) = match DEEP {
            true if self.above => (Some(self.here - self.stride), self.before),
            true => (None, self.before),
            false => (self.before, None),
        };
        let x = row(px, Some(self.here));
        [
            x,
            cut(&px[self.here..], from - 1, count),
            row(py, Some(self.here)),
            row(py, above),
            if DEEP { row(pz, Some(self.here)) } else { x },
            if DEEP { row(pz, behind) } else { x },
        ]
    }
}

/// Computes p + sigma K v and its projection.  If the projection needs other channels too, the
/// squared norm is added to `squares` instead.  v: here, right, below, next.
#[inline(always)]
fn ascend<T: Float, const NORM: u8, const DEEP: bool>(
    p: &mut [&mut [[T; LANES]]; 3],
    v: [&[[T; LANES]]; 4],
    squares: &mut [[T; LANES]],
    sigma: T,
    weight: T,
) {
    let count = squares.len();
    let [px, py, pz] = p;
    let (px, py) = (&mut px[..count], &mut py[..count]);
    let pz = if DEEP { &mut pz[..count] } else { &mut [] };
    let [here, right, below, next] = v.map(|v| &v[..count]);
    let low = T::ZERO - weight;
    for i in 0..count {
        let mut chunks = [[T::ZERO; LANES]; 4];
        for lane in 0..LANES {
            let v = here[i][lane];
            let mut x = px[i][lane] + sigma * (right[i][lane] - v);
            let mut y = py[i][lane] + sigma * (below[i][lane] - v);
            let mut z = T::ZERO;
            if DEEP {
                z = pz[i][lane] + sigma * (next[i][lane] - v);
            }
            if NORM == ANISOTROPIC {
                x = clamp(x, low, weight);
                y = clamp(y, low, weight);
                z = clamp(z, low, weight);
            } else {
                let square = x * x + y * y + z * z;
                if NORM == JOINT {
                    chunks[3][lane] = squares[i][lane] + square;
                } else {
                    let scale = weight / weight.max(square.sqrt());
                    x = x * scale;
                    y = y * scale;
                    z = z * scale;
                }
            }
            chunks[0][lane] = x;
            chunks[1][lane] = y;
            chunks[2][lane] = z;
        }
        px[i] = chunks[0];
        py[i] = chunks[1];
        if DEEP {
            pz[i] = chunks[2];
        }
        if NORM == JOINT {
            squares[i] = chunks[3];
        }
    }
}

/// Returns the nearest value from `low` to `high`.
#[inline(always)]
fn clamp<T: Float>(value: T, low: T, high: T) -> T {
    let value = if value < high { value } else { high };
    if value > low { value } else { low }
}

/// Replaces squared norms by the factors that make the norms no larger than the weight.
#[inline(always)]
fn shrink<T: Float>(squares: &mut [[T; LANES]], weight: T) {
    for square in squares {
        for value in square {
            *value = weight / weight.max(value.sqrt());
        }
    }
}

/// Multiplies p by a factor for each pixel.
#[inline(always)]
fn rescale<T: Float>(p: &mut [[T; LANES]], scales: &[[T; LANES]]) {
    let scales = &scales[..p.len()];
    for i in 0..p.len() {
        for lane in 0..LANES {
            p[i][lane] = p[i][lane] * scales[i][lane];
        }
    }
}

/// Computes u and v of a segment.
#[inline(always)]
fn descend<T: Float, const DEEP: bool>(
    u: &mut [[T; LANES]],
    v: &mut [[T; LANES]],
    f: &[[T; LANES]],
    p: [&[[T; LANES]]; 6],
    step: Step<T>,
) {
    let count = f.len();
    let (u, v) = (&mut u[..count], &mut v[..count]);
    let p = p.map(|p| &p[..count]);
    for i in 0..count {
        let (mut to_u, mut to_v) = (u[i], [T::ZERO; LANES]);
        for lane in 0..LANES {
            let q = adjoint::<T, DEEP>(p, i, lane);
            let former = to_u[lane];
            let value = step.keep * former + step.pull * (f[i][lane] - q);
            to_u[lane] = value;
            to_v[lane] = value + step.theta * (value - former);
        }
        u[i] = to_u;
        v[i] = to_v;
    }
}

/// Returns K' p at a pixel.
#[inline(always)]
fn adjoint<T: Float, const DEEP: bool>(p: [&[[T; LANES]]; 6], i: usize, lane: usize) -> T {
    let [x, left, y, above, z, behind] = p;
    let mut q = (left[i][lane] - x[i][lane]) + (above[i][lane] - y[i][lane]);
    if DEEP {
        q += behind[i][lane] - z[i][lane];
    }
    q
}

/// The computation of the gap of a band.
pub(super) struct Gap<'a, T, const NORM: u8, const DEEP: bool> {
    pub(super) grid: Grid,
    pub(super) band: Band,
    pub(super) f: &'a [T],
    pub(super) state: &'a State<T>,
    pub(super) weight: T,
}

impl<T: Float, const NORM: u8, const DEEP: bool> Kernel for Gap<'_, T, NORM, DEEP> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Grid {
            channels,
            units,
            rows,
            stride,
            chunks,
            columns,
            ..
        } = self.grid;
        let size = self.grid.unit();
        let State { u, p, .. } = self.state;
        let mut squares = [[T::ZERO; LANES]; SEGMENT];
        let mut terms = [[T::ZERO; LANES]; SEGMENT];
        let zeros = vec![T::ZERO; stride];
        let mut sum = Lanes::<T>::new();
        for unit in self.band.units.clone() {
            let here = self.band.origin + unit * size;
            let after = if unit + 1 < units { here + size } else { here };
            for row in 0..rows {
                for segment in segments(chunks) {
                    let count = segment.len();
                    let from = LANES + segment.start * LANES;
                    // Elements of the last chunk.
                    let rest = match columns - segment.start * LANES {
                        rest if rest < count * LANES => rest % LANES,
                        _ => LANES,
                    };
                    let squares = &mut squares[..count];
                    let terms = &mut terms[..count];
                    squares.fill([T::ZERO; LANES]);
                    terms.fill([T::ZERO; LANES]);
                    for channel in 0..channels {
                        let inside = (channel * rows + row) * stride;
                        let (below, next) =
                            below(here, after, inside, stride, row + 1 < rows, DEEP);
                        let u_row = &u[here + inside..][..stride];
                        let u = [
                            cut(u_row, from, count),
                            cut(u_row, from + 1, count),
                            cut(&u[below..], from, count),
                            cut(&u[next..], from, count),
                        ];
                        let p = Neighbours::<T, DEEP> {
                            rows: [&p[0], &p[1], &p[2]],
                            zeros: &zeros,
                            here: here + inside,
                            before: (unit > 0).then(|| here + inside - size),
                            above: row > 0,
                            stride,
                        };
                        let p = p.cut(from, count);
                        let f = cut(&self.f[here + inside..], from, count);
                        self.add(u, p, f, terms, squares);
                    }
                    let mut lanes = sum.begin(count);
                    for i in 0..count {
                        let used = if i + 1 == count { rest } else { LANES };
                        for lane in 0..LANES {
                            let norm = match NORM {
                                ANISOTROPIC => T::ZERO,
                                _ => self.weight * squares[i][lane].sqrt(),
                            };
                            terms[i][lane] += norm;
                        }
                        for lane in 0..used {
                            lanes[lane] += terms[i][lane];
                        }
                    }
                    sum.end(lanes);
                }
            }
        }
        sum.sum()
    }
}

impl<T: Float, const NORM: u8, const DEEP: bool> Gap<'_, T, NORM, DEEP> {
    /// Adds the terms of the gap of a channel, all but a Euclidean norm, the square of which
    /// goes to `squares`.
    #[inline(always)]
    fn add(
        &self,
        u: [&[[T; LANES]]; 4],
        p: [&[[T; LANES]]; 6],
        f: &[[T; LANES]],
        terms: &mut [[T; LANES]],
        squares: &mut [[T; LANES]],
    ) {
        let count = f.len();
        let half = T::from_f64(0.5);
        let (u, p) = (u.map(|u| &u[..count]), p.map(|p| &p[..count]));
        let (terms, squares) = (&mut terms[..count], &mut squares[..count]);
        let [here, right, below, next] = u;
        for i in 0..count {
            for lane in 0..LANES {
                let value = here[i][lane];
                let x = right[i][lane] - value;
                let y = below[i][lane] - value;
                let residual = value - f[i][lane] + adjoint::<T, DEEP>(p, i, lane);
                let mut product = x * p[0][i][lane] + y * p[2][i][lane];
                let mut square = x * x + y * y;
                let mut sum = x.abs() + y.abs();
                if DEEP {
                    let z = next[i][lane] - value;
                    product += z * p[4][i][lane];
                    square += z * z;
                    sum += z.abs();
                }
                let norm = match NORM {
                    ANISOTROPIC => self.weight * sum,
                    _ => T::ZERO,
                };
                terms[i][lane] += half * residual * residual + (norm - product);
                squares[i][lane] += square;
            }
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

/// Returns whole chunks from an element on.
#[inline(always)]
fn cut<T>(values: &[T], from: usize, count: usize) -> &[[T; LANES]] {
    &values[from..].as_chunks().0[..count]
}

/// Returns whole chunks from an element on, to be written to.
#[inline(always)]
fn chunks_mut<T>(values: &mut [T], from: usize, count: usize) -> &mut [[T; LANES]] {
    &mut values[from..].as_chunks_mut().0[..count]
}
