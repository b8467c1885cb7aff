//! Structural similarity of images (Wang et al. 2004), with its gradient.
//!
//! For all windows that lie within the image, the means m and variances v of s = a + b and
//! d = a - b are computed, with pixels weighted by a Gaussian.  Then
//!
//! SSIM = (ms^2 - md^2 + 2 C1) (vs - vd + 2 C2) / ((ms^2 + md^2 + 2 C1) (vs + vd + 2 C2)),
//!
//! which is the definition in a and b, with four filters instead of five.  These compute in
//! double precision, because a variance is a small difference of large numbers where the image is
//! bright and flat.

use std::array::from_fn;
use std::iter::repeat_with;
use std::ops::Range;

use crate::element::{Float, Sample, finite_or_nan};
use crate::error::{Error, check_divisible, check_length};
use crate::exec::Executor;
use crate::exec::parallel::{Parts, run_blocks};
use crate::exec::simd::{Kernel, LANES, dispatch};
use crate::mem::Layout;

/// The number of rows, and of columns, of the window.
pub const WINDOW: usize = 2 * RADIUS + 1;

/// The standard deviation of the Gaussian, in pixels.
const SIGMA: f64 = 1.5;

/// The number of pixels on each side of the middle of a window: 3.5 standard deviations, rounded.
const RADIUS: usize = 5;

/// The constants of the definition, in units of the data range: C1 = (K1 R)^2, C2 = (K2 R)^2.
const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// The number of rows of the image that are one task.
const BAND: usize = 64;

/// The number of elements of a row that are computed together: so few that the rows that are kept
/// stay in the L2 cache, and so many that pixels are read in long runs.
const STRIP: usize = 512;

/// The number of rows, and of columns, of a strip whose pixels tell a typical value.
const SAMPLES: usize = 3;

/// Buffers that are filled if they are given.
#[derive(Debug)]
pub struct Outputs<'a, T> {
    /// The SSIM of every window: an image without the outermost 5 rows and columns.
    pub map: Option<&'a mut [T]>,
    /// The gradient of the value of each image with respect to `a`.
    pub to_a: Option<&'a mut [T]>,
    /// The gradient of the value of each image with respect to `b`.
    pub to_b: Option<&'a mut [T]>,
}

/// Returns the mean SSIM of each of `images` groups of as many planes; fills the outputs.
///
/// It is NaN for a group without planes, and where anything in the image is not finite.
///
/// # Errors
/// [`Error::SmallerThanWindow`] if the image is smaller than the window, [`Error::WrongLength`] if
/// a buffer does not fit the layout, [`Error::Indivisible`] if the planes do not divide into
/// groups.
pub fn ssim<P: Sample>(
    a: &[P],
    b: &[P],
    layout: Layout,
    images: usize,
    data_range: f64,
    outputs: Outputs<'_, P::Float>,
    exec: &dyn Executor,
) -> Result<Vec<f64>, Error> {
    check_length("a", a.len(), layout.len())?;
    check_length("b", b.len(), layout.len())?;
    let planes = layout.planes * layout.slices;
    let image = planes / images.max(1);
    check_divisible("planes of a", planes, images)?;
    let Layout {
        rows,
        row_len,
        step,
        ..
    } = layout;
    let columns = row_len / step.max(1);
    if rows < WINDOW || columns < WINDOW {
        return Err(Error::SmallerThanWindow {
            rows,
            columns,
            window: WINDOW,
        });
    }
    let halo = 2 * RADIUS * step;
    let valid = [rows - 2 * RADIUS, row_len - halo];
    let windows = valid[0] * valid[1];
    let plane = rows * row_len;
    if image * row_len == 0 {
        return Ok(vec![f64::NAN; images]);
    }
    let bands = rows.div_ceil(BAND);
    let Outputs { map, to_a, to_b } = outputs;
    if let Some(map) = &map {
        check_length("map", map.len(), planes * windows)?;
    }
    let map = map.unwrap_or_default();
    let map = Parts::of(map.chunks_mut(windows).flat_map(|plane| {
        let rest = repeat_with(|| &mut [][..]);
        plane.chunks_mut(BAND * valid[1]).chain(rest).take(bands)
    }));
    let band = |index: usize| {
        let first = index % bands * BAND;
        let at = index / bands * plane;
        Band {
            a: &a[at..at + plane],
            b: &b[at..at + plane],
            valid,
            row_len,
            step,
            rows: first..(first + BAND).min(rows),
            constants: [K1, K2].map(|k| 2.0 * (k * data_range) * (k * data_range)),
            taps: taps(),
            map: map.take(index).unwrap_or_default(),
        }
    };
    let count = planes * bands;
    let total = windows as f64 * image as f64;
    let gradient = to_a.is_some() || to_b.is_some();
    let mut parts = [("to_a", to_a), ("to_b", to_b)];
    for (name, part) in &parts {
        if let Some(part) = part {
            check_length(name, part.len(), a.len())?;
        }
    }
    let parts = parts.each_mut().map(|(_, part)| {
        let whole = part.take().unwrap_or_default();
        let planes = whole.chunks_mut(plane);
        Parts::of(planes.flat_map(|plane| plane.chunks_mut(BAND * row_len)))
    });
    let sums = run_blocks(exec, count, |index| {
        let to = parts
            .each_ref()
            .map(|parts| parts.take(index).unwrap_or_default());
        if gradient {
            dispatch(Sweep::<P, true>(band(index), 1.0 / total, to))
        } else {
            dispatch(Sweep::<P, false>(band(index), 1.0 / total, to))
        }
    });
    let sums = sums
        .chunks(image * bands)
        .map(|sums| sums.iter().sum::<f64>());
    Ok(sums.map(|sum| finite_or_nan(sum / total)).collect())
}

/// Returns the Gaussian from its centre outwards, normalised to a sum of 1 over the window.
fn taps() -> [f64; RADIUS + 1] {
    let taps: [f64; RADIUS + 1] = from_fn(|k| (-0.5 * (k * k) as f64 / (SIGMA * SIGMA)).exp());
    let sum = 2.0 * taps.iter().sum::<f64>() - taps[0];
    taps.map(|tap| tap / sum)
}

/// A chunk of a row.
type Chunk = [f64; LANES];

/// The number of statistics of a row: the means of s, d, s^2 and d^2.
const STATISTICS: usize = 4;

/// Some rows of one plane.
struct Band<'a, P: Sample> {
    a: &'a [P],
    b: &'a [P],
    /// The number of rows of the map, and of elements of a row.
    valid: [usize; 2],
    row_len: usize,
    step: usize,
    rows: Range<usize>,
    /// 2 C1 and 2 C2.
    constants: [f64; 2],
    taps: [f64; RADIUS + 1],
    map: &'a mut [P::Float],
}

/// The computation of the sum of the map over a band, and of its gradient in a and b times a scale.
struct Sweep<'a, P: Sample, const GRADIENT: bool>(Band<'a, P>, f64, [&'a mut [P::Float]; 2]);

impl<P: Sample, const GRADIENT: bool> Kernel for Sweep<'_, P, GRADIENT> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self(mut band, scale, mut to) = self;
        let halo = 2 * RADIUS * band.step;
        let width = STRIP.max((2 * halo).next_multiple_of(LANES));
        let mut rows = Buffers::new(width + halo, halo);
        let all = if GRADIENT {
            band.row_len
        } else {
            band.valid[1]
        };
        let mut sum = 0.0;
        for start in (0..all).step_by(width) {
            let columns = start..(start + width).min(all);
            sum += strip::<P, GRADIENT>(&mut band, columns, scale, &mut to, &mut rows);
        }
        sum
    }
}

/// The rows that a sweep keeps.
struct Buffers {
    /// The number of chunks of a row.
    chunks: usize,
    /// The statistics of a row before the filter, with further elements for its taps.
    loaded: [Vec<f64>; STATISTICS],
    /// The last rows, filtered along the row.
    ring: Vec<Chunk>,
    /// The statistics of the windows of a row.
    windows: [Vec<Chunk>; STATISTICS],
    /// The SSIM of a row of windows.
    map: Vec<Chunk>,
    /// The derivatives of SSIM by these statistics, and the last rows of them, filtered.
    slopes: [Vec<f64>; STATISTICS],
    slope_ring: Vec<Chunk>,
    /// Zeros, for rows that do not exist.
    nothing: Vec<Chunk>,
}

impl Buffers {
    #[inline(always)]
    fn new(width: usize, halo: usize) -> Self {
        let chunks = width.div_ceil(LANES);
        let row = || vec![[0.0; LANES]; chunks];
        let padded = || vec![0.0; chunks * LANES + halo];
        Self {
            chunks,
            loaded: from_fn(|_| padded()),
            ring: vec![[0.0; LANES]; WINDOW * STATISTICS * chunks],
            windows: from_fn(|_| row()),
            map: row(),
            slopes: from_fn(|_| padded()),
            slope_ring: vec![[0.0; LANES]; WINDOW * STATISTICS * chunks],
            nothing: row(),
        }
    }
}

/// Returns where a statistic of a row lies in a ring whose rows have this many chunks.
#[inline(always)]
fn slot(chunks: usize, row: usize, statistic: usize) -> Range<usize> {
    let start = (row % WINDOW * STATISTICS + statistic) * chunks;
    start..start + chunks
}

/// Computes these columns of the band, of the map or of the gradient, from top to bottom.
#[inline(always)]
fn strip<P: Sample, const GRADIENT: bool>(
    band: &mut Band<'_, P>,
    columns: Range<usize>,
    scale: f64,
    to: &mut [&mut [P::Float]; 2],
    buffers: &mut Buffers,
) -> f64 {
    let Range { start, end } = band.rows.clone();
    let halo = 2 * RADIUS * band.step;
    // The windows that are computed: a pixel lies in those of the 10 rows and columns before it.
    let reach = |start: usize, by: usize| start.saturating_sub(if GRADIENT { by } else { 0 });
    let rows = reach(start, 2 * RADIUS)..end.min(band.valid[0]);
    let windows = reach(columns.start, halo)..columns.end.min(band.valid[1]);
    if rows.is_empty() {
        return 0.0;
    }
    let width = windows.len();
    // Only windows of this band and these columns are added up.
    let before = columns.start - windows.start;
    let own = before.min(width)..width;
    // The position of the first window in its row of slopes.
    let offset = if GRADIENT { halo - before } else { 0 };
    // Means are of the distance to a typical value: the variances lose fewer digits.
    let shift = typical(
        band,
        rows.start..rows.end + 2 * RADIUS,
        windows.start..windows.end + halo,
    );
    let chunks = buffers.chunks;
    let mut sum = 0.0;
    for row in rows.start..rows.end + 2 * RADIUS {
        let at = row * band.row_len + windows.start;
        let pixels = at..at + width + halo;
        load(
            &band.a[pixels.clone()],
            &band.b[pixels],
            shift,
            &mut buffers.loaded,
        );
        for statistic in 0..STATISTICS {
            let line = slot(chunks, row, statistic);
            filter_row(
                &buffers.loaded[statistic],
                band.step,
                width,
                &band.taps,
                &mut buffers.ring[line],
            );
        }
        if row < rows.start + 2 * RADIUS {
            continue;
        }
        let row = row - 2 * RADIUS;
        for statistic in 0..STATISTICS {
            let mut lines = [&buffers.nothing[..]; WINDOW];
            for (k, line) in lines.iter_mut().enumerate() {
                *line = &buffers.ring[slot(chunks, row + k, statistic)];
            }
            gather(lines, width, &band.taps, &mut buffers.windows[statistic]);
        }
        similarity::<GRADIENT>(band.constants, shift, width, offset, buffers);
        if row >= start {
            let map = &buffers.map.as_flattened()[own.clone()];
            sum += sum_of(map);
            if !map.is_empty() && !band.map.is_empty() {
                let at = (row - start) * band.valid[1] + columns.start;
                let here = &mut band.map[at..at + map.len()];
                for (to, &value) in here.iter_mut().zip(map) {
                    *to = P::Float::from_f64(value);
                }
            }
        }
        if GRADIENT {
            for statistic in 0..STATISTICS {
                let line = slot(chunks, row, statistic);
                filter_row(
                    &buffers.slopes[statistic],
                    band.step,
                    columns.len(),
                    &band.taps,
                    &mut buffers.slope_ring[line],
                );
            }
            if row >= start {
                pull(band, row, &rows, &columns, shift, scale, to, buffers);
            }
        }
    }
    if GRADIENT {
        for row in rows.end.max(start)..end {
            pull(band, row, &rows, &columns, shift, scale, to, buffers);
        }
    }
    sum
}

/// Returns the median of some finite pixels of both images in these rows and columns, 0 if none is
/// finite.
///
/// The value of one pixel would not do: one that is far from all others, such as a dead pixel or
/// a value that marks missing ones, would take the digits of the variances everywhere.
#[inline(always)]
fn typical<P: Sample>(band: &Band<'_, P>, rows: Range<usize>, columns: Range<usize>) -> f64 {
    let part = |range: &Range<usize>, k| range.start + range.len() * (2 * k + 1) / (2 * SAMPLES);
    let mut values = [f64::INFINITY; 2 * SAMPLES * SAMPLES];
    let mut count = 0;
    for k in 0..SAMPLES * SAMPLES {
        let (row, column) = (part(&rows, k / SAMPLES), part(&columns, k % SAMPLES));
        let at = row * band.row_len + column;
        for value in [band.a[at].to_f64(), band.b[at].to_f64()] {
            if value.is_finite() {
                values[count] = value;
                count += 1;
            }
        }
    }
    if count == 0 {
        return 0.0;
    }
    *values[..count]
        .select_nth_unstable_by(count / 2, f64::total_cmp)
        .1
}

/// Computes s, d and their squares for the pixels of a row.
#[inline(always)]
fn load<P: Sample>(a: &[P], b: &[P], shift: f64, to: &mut [Vec<f64>; STATISTICS]) {
    let [s, d, ss, dd] = to.each_mut().map(|row| &mut row[..a.len()]);
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (s, s_rest) = s.as_chunks_mut::<LANES>();
    let (d, d_rest) = d.as_chunks_mut::<LANES>();
    let (ss, ss_rest) = ss.as_chunks_mut::<LANES>();
    let (dd, dd_rest) = dd.as_chunks_mut::<LANES>();
    let chunks = a.iter().zip(b).zip(s).zip(d).zip(ss).zip(dd);
    for (((((a, b), s), d), ss), dd) in chunks {
        let (mut sums, mut differences) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (a, b) = (a[lane].to_f64(), b[lane].to_f64());
            sums[lane] = (a - shift) + (b - shift);
            differences[lane] = a - b;
        }
        *s = sums;
        *d = differences;
        *ss = sums.map(|x| x * x);
        *dd = differences.map(|x| x * x);
    }
    for k in 0..a_rest.len() {
        let (a, b) = (a_rest[k].to_f64(), b_rest[k].to_f64());
        let (sum, difference) = ((a - shift) + (b - shift), a - b);
        s_rest[k] = sum;
        d_rest[k] = difference;
        ss_rest[k] = sum * sum;
        dd_rest[k] = difference * difference;
    }
}

/// Filters a row by the Gaussian along the row; computes `width` elements.
#[inline(always)]
fn filter_row(from: &[f64], step: usize, width: usize, taps: &[f64; RADIUS + 1], to: &mut [Chunk]) {
    let mut lines = [from.as_chunks().0; WINDOW];
    for (k, line) in lines.iter_mut().enumerate() {
        *line = from[k * step..].as_chunks().0;
    }
    gather(lines, width, taps, to);
}

/// Filters by the Gaussian across lines; computes `width` elements.
#[inline(always)]
fn gather(lines: [&[Chunk]; WINDOW], width: usize, taps: &[f64; RADIUS + 1], to: &mut [Chunk]) {
    let count = width.div_ceil(LANES);
    // Slices of one length, so that it is checked here and not in the loop.
    let [a, b, c, d, e, x, f, g, h, i, j] = lines;
    let (a, b, c) = (&a[..count], &b[..count], &c[..count]);
    let (d, e, x) = (&d[..count], &e[..count], &x[..count]);
    let (f, g, h) = (&f[..count], &g[..count], &h[..count]);
    let (i, j, to) = (&i[..count], &j[..count], &mut to[..count]);
    for n in 0..count {
        let mut sum = [0.0; LANES];
        for lane in 0..LANES {
            sum[lane] = taps[0] * x[n][lane]
                + taps[1] * (e[n][lane] + f[n][lane])
                + taps[2] * (d[n][lane] + g[n][lane])
                + taps[3] * (c[n][lane] + h[n][lane])
                + taps[4] * (b[n][lane] + i[n][lane])
                + taps[5] * (a[n][lane] + j[n][lane]);
        }
        to[n] = sum;
    }
}

/// Computes the SSIM of a row of windows from their statistics, and its derivatives by these, which
/// begin at `offset` with zeros around.
#[inline(always)]
fn similarity<const GRADIENT: bool>(
    [c1, c2]: [f64; 2],
    shift: f64,
    width: usize,
    offset: usize,
    buffers: &mut Buffers,
) {
    let count = width.div_ceil(LANES);
    let [s, d, ss, dd] = buffers.windows.each_mut().map(|row| &mut row[..count]);
    let map = &mut buffers.map[..count];
    for i in 0..count {
        for lane in 0..LANES {
            let (ms, md) = (s[i][lane], d[i][lane]);
            let vs = ss[i][lane] - ms * ms;
            let vd = dd[i][lane] - md * md;
            let mean = ms + 2.0 * shift;
            let (light, dark) = (mean * mean, md * md);
            let top = [light - dark + c1, vs - vd + c2];
            let bottom = [light + dark + c1, vs + vd + c2];
            // It is exactly 1 where the images are equal.
            map[i][lane] = top[0] * top[1] / (bottom[0] * bottom[1]);
            if GRADIENT {
                let inverse = 1.0 / (bottom[0] * bottom[1]);
                let inverse = [inverse * bottom[1], inverse * bottom[0]]; // 1 / bottom
                let part = [top[0] * inverse[0], top[1] * inverse[1]];
                let by_vs = part[0] * inverse[1] * (1.0 - part[1]);
                let by_vd = -part[0] * inverse[1] * (1.0 + part[1]);
                let by_light = 2.0 * part[1] * inverse[0] * (1.0 - part[0]);
                let by_dark = -2.0 * part[1] * inverse[0] * (1.0 + part[0]);
                s[i][lane] = by_light * mean - 2.0 * ms * by_vs;
                d[i][lane] = by_dark * md - 2.0 * md * by_vd;
                ss[i][lane] = by_vs;
                dd[i][lane] = by_vd;
            }
        }
    }
    if GRADIENT {
        for (row, slopes) in buffers.windows.iter().zip(&mut buffers.slopes) {
            slopes[..offset].fill(0.0);
            slopes[offset..offset + width].copy_from_slice(&row.as_flattened()[..width]);
            slopes[offset + width..].fill(0.0);
        }
    }
}

/// Returns the sum of a row of the map.
#[inline(always)]
fn sum_of(row: &[f64]) -> f64 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// Computes the gradient of a row from the derivatives by the statistics of its windows.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the state of one loop")]
fn pull<P: Sample>(
    band: &Band<'_, P>,
    row: usize,
    rows: &Range<usize>,
    columns: &Range<usize>,
    shift: f64,
    scale: f64,
    to: &mut [&mut [P::Float]; 2],
    buffers: &mut Buffers,
) {
    let chunks = buffers.chunks;
    for statistic in 0..STATISTICS {
        let mut lines = [&buffers.nothing[..]; WINDOW];
        for (k, line) in lines.iter_mut().enumerate() {
            let window = (row + k).wrapping_sub(2 * RADIUS);
            if rows.contains(&window) {
                *line = &buffers.slope_ring[slot(chunks, window, statistic)];
            }
        }
        gather(
            lines,
            columns.len(),
            &band.taps,
            &mut buffers.windows[statistic],
        );
    }
    let [qs, qd, ps, pd] = buffers.windows.each_ref().map(|row| row.as_flattened());
    let at = row * band.row_len;
    let a = &band.a[at + columns.start..at + columns.end];
    let b = &band.b[at + columns.start..at + columns.end];
    let at = (row - band.rows.start) * band.row_len;
    let count = a.len();
    let (qs, qd, ps, pd) = (&qs[..count], &qd[..count], &ps[..count], &pd[..count]);
    for (to, sign) in to.iter_mut().zip([1.0, -1.0]) {
        if to.is_empty() {
            continue;
        }
        let to = &mut to[at + columns.start..at + columns.end];
        for i in 0..count {
            let (a, b) = (a[i].to_f64(), b[i].to_f64());
            let by_s = qs[i] + 2.0 * ps[i] * ((a - shift) + (b - shift));
            let by_d = qd[i] + 2.0 * pd[i] * (a - b);
            to[i] = P::Float::from_f64(scale * (by_s + sign * by_d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    #[test]
    fn same_bits_on_every_instruction_set() {
        let (rows, columns) = (40, 160);
        let a: Vec<f32> = (0..rows * columns)
            .map(|k| (k * k % 1013) as f32 / 1013.0)
            .collect();
        let b: Vec<f32> = a.iter().rev().copied().collect();
        let run = |set: InstructionSet| {
            let mut map = vec![0.0; 30 * 150];
            let mut to = [vec![0.0; a.len()], vec![0.0; a.len()]];
            let band = Band {
                a: &a,
                b: &b,
                valid: [30, 150],
                row_len: columns,
                step: 1,
                rows: 0..rows,
                constants: [2e-4, 18e-4],
                taps: taps(),
                map: &mut map,
            };
            let sum = set.run(Sweep::<f32, true>(
                band,
                0.5,
                to.each_mut().map(|to| &mut to[..]),
            ));
            let bits = |x: &Vec<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            (sum.to_bits(), bits(&map), to.each_ref().map(bits))
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
