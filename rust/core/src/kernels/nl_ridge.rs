//! Non-local ridge regression (NL-Ridge: Herbreteau and Kervrann, ICIP 2022): groups of similar
//! patches, each denoised by a linear combination of all of its group.
//!
//! One call is one pass over a picture: for every reference patch, the most similar patches around
//! it are found, denoised together, and added to where they came from.  The first pass takes its
//! weights from the noisy picture itself, later ones from a pilot, a picture that was denoised
//! already.  With the patches of a group as rows of Y, of a pilot as rows of X, and D the
//! covariance of the noise between patches, summed over their values, the result is T Y with
//!
//! T = I - (1 + a) D (Y Y' + a D)^-1 in the first pass, T = I - D (X X' + D)^-1 later.
//!
//! These minimise the expected squared error (of a slightly noisier observation in the first
//! pass).  Besides, each patch can be filtered by the covariance C of the values of the pilot's
//! patches, y - (y - m) (C + N)^-1 N, with their mean m and the covariance N of the noise.  Where
//! noise is correlated, 1e-5 of the largest diagonal element of Y Y', X X' or C is added to all of
//! them before the sum is inverted.

mod group;
mod matching;
mod matrix;

use std::ops::Range;

use crate::error::{Error, check_length, check_positive};
use crate::exec::Executor;
use crate::exec::parallel::run_blocks;
use group::Group;
use matching::{Candidates, Region};

/// Reference patches of a tile, in rows and columns.
const TILE: (usize, usize) = (8, 16);

/// The size of a picture: planes of channels, each of slices of rows of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The number of channels.
    pub channels: usize,
    /// The number of slices; 1 for an image.
    pub slices: usize,
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
}

impl Size {
    fn of_plane(self) -> Result<usize, Error> {
        self.slices
            .checked_mul(self.rows)
            .and_then(|n| n.checked_mul(self.columns))
            .ok_or(Error::SizeOverflow)
    }

    fn of_picture(self) -> Result<usize, Error> {
        self.of_plane()?
            .checked_mul(self.channels)
            .ok_or(Error::SizeOverflow)
    }
}

/// How the patches of a group are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// Each is a weighted sum of all of them.
    Patches,
    /// Each is filtered by the covariance of its values; later passes only.
    Values,
    /// The mean of both; later passes only.
    Both,
}

/// What a pass does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Rows, and columns, of a patch.
    pub patch: usize,
    /// The number of patches of a group.
    pub group: usize,
    /// How many rows and columns candidates are away, at most, to each side.
    pub reach: usize,
    /// How many slices they are away, at most.
    pub slices_reach: usize,
    /// The distance of reference patches.
    pub step: usize,
    /// The a of the first pass.
    pub share: f32,
    /// Whether the mean of each channel of the reference is taken from the patches first.
    pub centred: bool,
    /// How patches are combined.
    pub filters: Filters,
}

/// The pictures of a pass.
#[derive(Debug, Clone, Copy)]
pub struct Pictures<'a> {
    /// The noisy picture.
    pub noisy: &'a [f32],
    /// A picture that was denoised already; None in the first pass.
    pub pilot: Option<&'a [f32]>,
    /// The plane in which similar patches are looked for.
    pub guide: &'a [f32],
    /// The covariance of the noise of the guide at distances of up to the same number of rows and
    /// columns, a square: noise that overlapping patches share makes them look more alike than they
    /// are.  None to compare them as they are.
    pub guide_covariance: Option<&'a [f32]>,
    /// The variance of the noise of each value, relative to `covariance`; None for 1.
    pub gain: Option<&'a [f32]>,
    /// The covariance of the noise of each channel with itself at distances of up to the same
    /// number of rows and columns: as many squares as there are channels.  White noise has one
    /// element, the variance.
    pub covariance: &'a [f32],
}

/// The covariance of noise.
pub(super) struct Noise<'a> {
    table: &'a [f32],
    radius: usize,
    channels: usize,
}

impl Noise<'_> {
    #[inline(always)]
    fn side(&self) -> usize {
        2 * self.radius + 1
    }

    /// Returns the variance of a channel.
    #[inline(always)]
    fn variance(&self, channel: usize) -> f32 {
        self.covariance(channel, [0; 3])
    }

    /// Returns the covariance in a channel of two values at this distance.
    #[inline(always)]
    fn covariance(&self, channel: usize, [z, y, x]: [isize; 3]) -> f32 {
        let radius = self.radius as isize;
        if z != 0 || y.abs() > radius || x.abs() > radius {
            return 0.0;
        }
        let (y, x) = ((y + radius) as usize, (x + radius) as usize);
        self.table[(channel * self.side() + y) * self.side() + x]
    }
}

/// Returns the number of tiles that a pass over a picture of this size consists of.
#[must_use]
pub fn tiles(size: Size, parameters: Parameters) -> usize {
    Plan::new(size, parameters).map_or(0, |plan| plan.tiles())
}

/// Adds the denoised patches of some tiles to `sums`, and their weights to `weights`.
///
/// The denoised picture is `sums` over `weights` (one plane) once all tiles are added, in their
/// order.  Has the same bits for every number of threads, and on all processors that multiply and
/// add in one step.
///
/// # Errors
/// [`Error::NotPositive`] if the picture or a parameter is 0, [`Error::WrongLength`] if a buffer
/// does not fit the size.
pub fn nl_ridge(
    pictures: Pictures<'_>,
    size: Size,
    parameters: Parameters,
    which: Range<usize>,
    sums: &mut [f32],
    weights: &mut [f32],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check_positive("the size of the picture", size.of_picture()?)?;
    check_positive("patch", parameters.patch)?;
    check_positive("group", parameters.group)?;
    check_positive("step", parameters.step)?;
    let (plane, picture) = (size.of_plane()?, size.of_picture()?);
    check_length("noisy", pictures.noisy.len(), picture)?;
    if let Some(pilot) = pictures.pilot {
        check_length("pilot", pilot.len(), picture)?;
    }
    check_length("guide", pictures.guide.len(), plane)?;
    if let Some(gain) = pictures.gain {
        check_length("gain", gain.len(), picture)?;
    }
    check_length("sums", sums.len(), picture)?;
    check_length("weights", weights.len(), plane)?;
    let side = (pictures.covariance.len() / size.channels).isqrt();
    check_length(
        "covariance",
        pictures.covariance.len(),
        size.channels * side * side,
    )?;
    check_positive("covariance", side)?;
    let noise = Noise {
        table: pictures.covariance,
        radius: (side - 1) / 2,
        channels: size.channels,
    };
    check_length("covariance", side, noise.side())?;
    let of_guide = pictures
        .guide_covariance
        .map(|table| {
            let side = table.len().isqrt();
            check_positive("guide_covariance", side)?;
            let noise = Noise {
                table,
                radius: (side - 1) / 2,
                channels: 1,
            };
            check_length("guide_covariance", table.len(), noise.side() * noise.side())?;
            Ok(noise)
        })
        .transpose()?;
    let Some(plan) = Plan::new(size, parameters) else {
        return Ok(());
    };
    let first = which.start.min(plan.tiles());
    let count = which.end.min(plan.tiles()) - first;
    let done = run_blocks(exec, count, |index| {
        Some(
            OneTile {
                pictures,
                noise: &noise,
                of_guide: of_guide.as_ref(),
                plan: &plan,
                index: first + index,
            }
            .run(),
        )
    });
    for tile in done.into_iter().flatten() {
        tile.add_to(size, sums, weights);
    }
    Ok(())
}

/// Where reference patches are, and how they are divided into tiles.
struct Plan {
    size: Size,
    parameters: Parameters,
    patch: (usize, usize),
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Plan {
    fn new(size: Size, parameters: Parameters) -> Option<Self> {
        let patch = (
            parameters.patch.min(size.rows),
            parameters.patch.min(size.columns),
        );
        let (group, step) = (parameters.group, parameters.step);
        (patch.0 > 0 && patch.1 > 0 && group > 0 && step > 0).then(|| Self {
            size,
            parameters,
            patch,
            rows: references(size.rows - patch.0, step),
            columns: references(size.columns - patch.1, step),
        })
    }

    fn across(&self) -> usize {
        self.columns.len().div_ceil(TILE.1)
    }

    fn down(&self) -> usize {
        self.rows.len().div_ceil(TILE.0)
    }

    fn tiles(&self) -> usize {
        self.size.slices * self.down() * self.across()
    }

    /// Returns the slice, and the rows and columns of the references, of a tile.
    fn tile(&self, index: usize) -> (usize, &[usize], &[usize]) {
        let (line, across) = (index / self.across(), index % self.across());
        let (slice, down) = (line / self.down(), line % self.down());
        let rows = self.rows.chunks(TILE.0).nth(down).unwrap_or_default();
        let columns = self.columns.chunks(TILE.1).nth(across).unwrap_or_default();
        (slice, rows, columns)
    }
}

/// Returns every `step`th place from 0 on, and the last.
fn references(last: usize, step: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..last).step_by(step).collect();
    places.push(last);
    places
}

/// Returns the places within `reach` of some places, of 0 to `last`.
#[inline(always)]
fn around(first: usize, end: usize, reach: usize, last: usize) -> Range<usize> {
    first.saturating_sub(reach)..end.saturating_add(reach).min(last) + 1
}

/// What the patches of a tile add to a part of the picture.
#[derive(Clone)]
struct Tile {
    part: [Range<usize>; 3],
    sums: Vec<f32>,
    weights: Vec<f32>,
}

impl Tile {
    fn len(&self) -> usize {
        self.part.iter().map(ExactSizeIterator::len).product()
    }

    fn add_to(&self, size: Size, sums: &mut [f32], weights: &mut [f32]) {
        let [slices, rows, columns] = &self.part;
        let plane = size.slices * size.rows * size.columns;
        let own = self.sums.chunks_exact(self.len());
        let all = sums.chunks_exact_mut(plane);
        for (plane, own) in all
            .zip(own)
            .chain(std::iter::once((weights, &self.weights[..])))
        {
            let mut lines = own.chunks_exact(columns.len());
            for z in slices.clone() {
                for y in rows.clone() {
                    let start = (z * size.rows + y) * size.columns;
                    let to = plane[start..][columns.clone()].iter_mut();
                    for (x, y) in to.zip(lines.next().unwrap_or_default()) {
                        *x += y;
                    }
                }
            }
        }
    }
}

/// Runs the expression with `$n` set to the number of columns, which is a constant for usual
/// patches, so that their short loops are unrolled.
macro_rules! with_columns {
    ($columns:expr, $n:ident => $body:expr) => {
        with_columns!($columns, $n => $body, 4 5 6 7 8)
    };
    ($columns:expr, $n:ident => $body:expr, $($usual:literal)*) => {
        match $columns {
            $($usual => {
                const $n: usize = $usual;
                $body
            })*
            #[allow(non_snake_case, reason = "a constant in the other cases")]
            $n => $body,
        }
    };
}

/// The computation of one tile.
struct OneTile<'a> {
    pictures: Pictures<'a>,
    noise: &'a Noise<'a>,
    /// That of the guide.
    of_guide: Option<&'a Noise<'a>>,
    plan: &'a Plan,
    index: usize,
}

impl OneTile<'_> {
    fn run(self) -> Tile {
        let plan = self.plan;
        let Parameters {
            reach,
            slices_reach,
            ..
        } = plan.parameters;
        let size = plan.size;
        let (slice, rows, columns) = plan.tile(self.index);
        let (last_row, last_column) = (size.rows - plan.patch.0, size.columns - plan.patch.1);
        let ends = |places: &[usize]| {
            let first = places.first().copied().unwrap_or_default();
            (first, places.last().copied().unwrap_or(first))
        };
        let (first, last) = ends(rows);
        let row_window = around(first, last, reach, last_row);
        let (first, last) = ends(columns);
        let column_window = around(first, last, reach, last_column);
        let part = [
            around(slice, slice, slices_reach, size.slices - 1),
            row_window.start..row_window.end + plan.patch.0 - 1,
            column_window.start..column_window.end + plan.patch.1 - 1,
        ];
        let region = Region::of(self.pictures.guide, (size.rows, size.columns), part.clone());
        let count: usize = part.iter().map(ExactSizeIterator::len).product();
        let mut tile = Tile {
            part,
            sums: vec![0.0; count * size.channels],
            weights: vec![0.0; count],
        };
        let mut candidates = Candidates::default();
        let mut group = Group::default();
        let mut places = Vec::new();
        let pixels = (plan.patch.0 * plan.patch.1) as f32;
        let excess = self
            .of_guide
            .map(|noise| move |offset| 2.0 * pixels * noise.covariance(0, offset));
        for &row in rows {
            for &column in columns {
                let window = [
                    tile.part[0].clone(),
                    around(row, row, reach, last_row),
                    around(column, column, reach, last_column),
                ];
                candidates.most_like(
                    &region,
                    ([slice, row, column], &window),
                    plan.patch,
                    excess.as_ref().map(|excess| excess as _),
                    plan.parameters.group,
                    &mut places,
                );
                self.gather(&mut group, &places, [slice, row, column]);
                let first = self
                    .pictures
                    .pilot
                    .is_none()
                    .then_some(plan.parameters.share);
                let filters = if first.is_some() {
                    Filters::Patches
                } else {
                    plan.parameters.filters
                };
                group.denoise(self.noise, &places, plan.patch, first, filters);
                self.scatter(&group, &places, &mut tile);
            }
        }
        tile
    }
}

impl OneTile<'_> {
    /// Calls `visit` with the place in a picture and in a patch of each row of each channel.
    #[inline(always)]
    fn for_rows(&self, [z, y, x]: [usize; 3], mut visit: impl FnMut(usize, usize)) {
        let size = self.plan.size;
        let (rows, columns) = self.plan.patch;
        for channel in 0..size.channels {
            for k in 0..rows {
                let at = ((channel * size.slices + z) * size.rows + y + k) * size.columns + x;
                visit(at, (channel * rows + k) * columns);
            }
        }
    }

    #[inline(always)]
    fn gather(&self, group: &mut Group, places: &[[usize; 3]], reference: [usize; 3]) {
        let (rows, columns) = self.plan.patch;
        let values = rows * columns * self.plan.size.channels;
        group.resize(places.len(), values, self.pictures.gain.is_some());
        let width = group.width();
        let copy = |picture: &[f32], to: &mut [f32]| {
            for (i, &place) in places.iter().enumerate() {
                self.for_rows(place, |at, from| {
                    let to = &mut to[i * width + from..];
                    with_columns!(columns, N => to[..N].copy_from_slice(&picture[at..][..N]));
                });
            }
        };
        copy(self.pictures.noisy, &mut group.noisy);
        if let Some(pilot) = self.pictures.pilot {
            copy(pilot, &mut group.pilot);
        }
        if let Some(gain) = self.pictures.gain {
            copy(gain, &mut group.gain);
        }
        let source = self.pictures.pilot.unwrap_or(self.pictures.noisy);
        group.levels.clear();
        group.levels.resize(self.plan.size.channels, 0.0);
        if !self.plan.parameters.centred {
            return;
        }
        let pixels = rows * columns;
        self.for_rows(reference, |at, from| {
            group.levels[from / pixels] += source[at..][..columns].iter().sum::<f32>();
        });
        for level in &mut group.levels {
            *level /= pixels as f32;
        }
        for row in 0..places.len() {
            for (channel, level) in group.levels.iter().enumerate() {
                let range = row * width + channel * pixels..row * width + (channel + 1) * pixels;
                group.noisy[range.clone()]
                    .iter_mut()
                    .for_each(|x| *x -= level);
                group.pilot[range].iter_mut().for_each(|x| *x -= level);
            }
        }
    }

    #[inline(always)]
    fn scatter(&self, group: &Group, places: &[[usize; 3]], tile: &mut Tile) {
        let (rows, columns) = self.plan.patch;
        let pixels = rows * columns;
        let width = group.width();
        let plane = tile.len();
        let [slices, lines, held] = &tile.part;
        for (i, &[z, y, x]) in places.iter().enumerate() {
            let weight = group.weights[i];
            let patch = &group.denoised[i * width..][..width];
            let start =
                ((z - slices.start) * lines.len() + y - lines.start) * held.len() + x - held.start;
            for k in 0..rows {
                let at = start + k * held.len();
                with_columns!(columns, N => {
                    for w in &mut tile.weights[at..][..N] {
                        *w += weight;
                    }
                    for (channel, &level) in group.levels.iter().enumerate() {
                        let values = &patch[channel * pixels + k * N..][..N];
                        let sums = &mut tile.sums[channel * plane + at..][..N];
                        add_weighted(sums, values, weight, level);
                    }
                });
            }
        }
    }
}

/// Adds to `sums` the weighted values, to each of which `level` is added first.
#[inline(always)]
fn add_weighted(sums: &mut [f32], values: &[f32], weight: f32, level: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * (value + level);
    }
}
