//! The second half of a 3x3 convolution of an image that is twice as large as what it shows.
//!
//! Where every pixel of a coarse image is repeated 2x2 times, a 3x3 convolution sees 2x2 different
//! pixels only, and which of its weights meet depends on the phase (a, b) of the result, row and
//! column modulo 2.  So it is one 2x2 convolution of the coarse image, padded by its last rows and
//! columns, with four results a pixel.  [`forward`] puts these where they belong:
//!
//! ```text
//! out[2 r + a, 2 c + b, k] = fine[2 r + a, 2 c + b, k] + coarse[r + a, c + b, (2 a + b) K + k]
//! ```
//!
//! for images (N, 2 R, 2 C, K) and (N, R + 1, C + 1, 4 K).

use crate::Error;
use crate::element::Value;
use crate::error::{check_divisible, check_length, check_positive};
use crate::exec::parallel::{Executor, Parts};
use crate::exec::simd::{Kernel, dispatch};

/// The sizes of the fine image (images, rows, columns, channels); rows and columns are even.
pub type Shape = [usize; 4];

/// The elements that a task works on, about.
const ELEMENTS_OF_TASK: usize = 1 << 15;

/// Adds the coarse image to the fine one.
///
/// # Errors
///
/// Returns an error if the buffers do not fit the shape.
pub fn forward<T: Value>(
    fine: &[T],
    coarse: &[T],
    shape: Shape,
    out: &mut [T],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check(fine, coarse, shape)?;
    check_length("out", out.len(), fine.len())?;
    let [_, rows, columns, channels] = shape;
    run_rows(out, columns * channels, exec, |line, out| {
        dispatch(Add {
            fine,
            coarse,
            line,
            rows,
            columns,
            channels,
            out,
        });
    });
    Ok(())
}

/// Returns the gradient in the coarse image; that in the fine one is the gradient itself.
///
/// # Errors
///
/// Returns an error if the buffers do not fit the shape.
pub fn backward<T: Value>(
    gradient: &[T],
    shape: Shape,
    of_coarse: &mut [T],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check(gradient, of_coarse, shape)?;
    let [_, rows, columns, channels] = shape;
    run_rows(
        of_coarse,
        (columns / 2 + 1) * 4 * channels,
        exec,
        |line, out| {
            dispatch(Gather {
                gradient,
                line,
                rows,
                columns,
                channels,
                out,
            });
        },
    );
    Ok(())
}

fn check<T>(fine: &[T], coarse: &[T], shape: Shape) -> Result<(), Error> {
    let [images, rows, columns, channels] = shape;
    check_positive("the number of channels", channels)?;
    check_divisible("rows", rows, 2)?;
    check_divisible("columns", columns, 2)?;
    let count = |rows: usize, columns: usize, channels: usize| {
        images
            .checked_mul(rows)
            .and_then(|n| n.checked_mul(columns))
            .and_then(|n| n.checked_mul(channels))
            .ok_or(Error::SizeOverflow)
    };
    check_length("fine", fine.len(), count(rows, columns, channels)?)?;
    let results = channels.checked_mul(4).ok_or(Error::SizeOverflow)?;
    let expected = count(rows / 2 + 1, columns / 2 + 1, results)?;
    check_length("coarse", coarse.len(), expected)
}

/// Runs a function for every line of the results, with its index.
fn run_rows<T: Send>(
    out: &mut [T],
    length: usize,
    exec: &dyn Executor,
    function: impl Fn(usize, &mut [T]) + Sync,
) {
    if length == 0 {
        return;
    }
    let per_task = (ELEMENTS_OF_TASK / length).max(1);
    let lines = out.len() / length;
    let parts = Parts::new(out, per_task * length);
    exec.run(lines.div_ceil(per_task), &|task| {
        if let Some(part) = parts.take(task) {
            for (k, line) in part.chunks_exact_mut(length).enumerate() {
                function(task * per_task + k, line);
            }
        }
    });
}

struct Add<'a, T> {
    fine: &'a [T],
    coarse: &'a [T],
    line: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    out: &'a mut [T],
}

impl<T: Value> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (image, row) = (self.line / self.rows, self.line % self.rows);
        let (r, a) = (row / 2, row % 2);
        let channels = self.channels;
        let length = self.columns * channels;
        let fine = &self.fine[self.line * length..(self.line + 1) * length];
        let length = (self.columns / 2 + 1) * 4 * channels;
        let at = image * (self.rows / 2 + 1) + r + a;
        let coarse = &self.coarse[at * length..(at + 1) * length];
        for b in 0..2 {
            let phase = (2 * a + b) * channels;
            for c in 0..self.columns / 2 {
                let to = (2 * c + b) * channels;
                let from = (c + b) * 4 * channels + phase;
                let out = &mut self.out[to..to + channels];
                let fine = &fine[to..to + channels];
                let coarse = &coarse[from..from + channels];
                for ((out, fine), coarse) in out.iter_mut().zip(fine).zip(coarse) {
                    *out = T::store(fine.load() + coarse.load());
                }
            }
        }
    }
}

struct Gather<'a, T> {
    gradient: &'a [T],
    line: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    out: &'a mut [T],
}

impl<T: Value> Kernel for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let lines = self.rows / 2 + 1;
        let (image, line) = (self.line / lines, self.line % lines);
        let channels = self.channels;
        let length = self.columns * channels;
        for a in 0..2 {
            let row = line.checked_sub(a).filter(|r| 2 * r < self.rows);
            let row = row.map(|r| {
                let at = (image * self.rows + 2 * r + a) * length;
                &self.gradient[at..at + length]
            });
            for b in 0..2 {
                let phase = (2 * a + b) * channels;
                for k in 0..=self.columns / 2 {
                    let column = k.checked_sub(b).filter(|c| 2 * c < self.columns);
                    let to = k * 4 * channels + phase;
                    let out = &mut self.out[to..to + channels];
                    match row.zip(column) {
                        Some((row, c)) => {
                            let from = (2 * c + b) * channels;
                            out.copy_from_slice(&row[from..from + channels]);
                        }
                        None => out.fill(T::default()),
                    }
                }
            }
        }
    }
}

/// Which columns of 3x3 weights, [begin, end), meet column q of 2x2 pixels in the phase b; and the
/// same for rows.
const MEET: [[[usize; 2]; 2]; 2] = [[[0, 1], [1, 3]], [[0, 2], [2, 3]]];

/// The sizes of 3x3 weights: results, channels of the fine image, channels of the coarse one.
pub type WeightShape = [usize; 3];

/// Splits weights (K, 3, 3, F + C) into those of the fine image (K, 3, 3, F), and the sums that the
/// coarse one is convolved with, (4 K, 2, 2, C).
///
/// # Errors
///
/// Returns an error if the buffers do not fit the shape.
pub fn split_weights<T: Value>(
    weights: &[f32],
    shape: WeightShape,
    of_fine: &mut [T],
    of_coarse: &mut [T],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check_weights(weights, shape, of_fine, of_coarse)?;
    let [results, fine, coarse] = shape;
    for (k, pixel) in of_fine.chunks_exact_mut(fine.max(1)).enumerate() {
        let from = k * (fine + coarse);
        for (out, weight) in pixel.iter_mut().zip(&weights[from..from + fine]) {
            *out = T::store(*weight);
        }
    }
    run_rows(of_coarse, 4 * coarse, exec, |line, out| {
        dispatch(Split {
            weights,
            line,
            results,
            fine,
            coarse,
            out,
        });
    });
    Ok(())
}

/// Returns the gradient in the weights of [`split_weights`].
///
/// # Errors
///
/// Returns an error if the buffers do not fit the shape.
pub fn join_weights<T: Value>(
    of_fine: &[T],
    of_coarse: &[T],
    shape: WeightShape,
    gradient: &mut [f32],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check_weights(gradient, shape, of_fine, of_coarse)?;
    let [results, fine, coarse] = shape;
    run_rows(gradient, 9 * (fine + coarse), exec, |line, out| {
        dispatch(Join {
            of_fine,
            of_coarse,
            line,
            results,
            fine,
            coarse,
            out,
        });
    });
    Ok(())
}

fn check_weights<T>(
    weights: &[f32],
    [results, fine, coarse]: WeightShape,
    of_fine: &[T],
    of_coarse: &[T],
) -> Result<(), Error> {
    check_positive("the number of results", results)?;
    check_positive("the number of channels", coarse)?;
    let count = |a: usize, b: usize| {
        a.checked_mul(b)
            .and_then(|n| n.checked_mul(results))
            .ok_or(Error::SizeOverflow)
    };
    let channels = fine.checked_add(coarse).ok_or(Error::SizeOverflow)?;
    check_length("weights", weights.len(), count(9, channels)?)?;
    check_length("of_fine", of_fine.len(), count(9, fine)?)?;
    check_length("of_coarse", of_coarse.len(), count(16, coarse)?)
}

/// The sums of one result in one phase.
struct Split<'a, T> {
    weights: &'a [f32],
    line: usize,
    results: usize,
    fine: usize,
    coarse: usize,
    out: &'a mut [T],
}

impl<T: Value> Kernel for Split<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (phase, result) = (self.line / self.results, self.line % self.results);
        let channels = self.fine + self.coarse;
        for (pixel, out) in self.out.chunks_exact_mut(self.coarse).enumerate() {
            let [rows, columns] = [MEET[phase / 2][pixel / 2], MEET[phase % 2][pixel % 2]];
            for (c, out) in out.iter_mut().enumerate() {
                let mut sum = 0.0;
                for row in rows[0]..rows[1] {
                    for column in columns[0]..columns[1] {
                        let at = (9 * result + 3 * row + column) * channels + self.fine + c;
                        sum += self.weights[at];
                    }
                }
                *out = T::store(sum);
            }
        }
    }
}

/// The gradient in the weights of one result.
struct Join<'a, T> {
    of_fine: &'a [T],
    of_coarse: &'a [T],
    line: usize,
    results: usize,
    fine: usize,
    coarse: usize,
    out: &'a mut [f32],
}

impl<T: Value> Kernel for Join<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let channels = self.fine + self.coarse;
        for (place, out) in self.out.chunks_exact_mut(channels).enumerate() {
            let (of_fine, of_coarse) = out.split_at_mut(self.fine);
            let from = (9 * self.line + place) * self.fine;
            for (out, value) in of_fine.iter_mut().zip(&self.of_fine[from..]) {
                *out = value.load();
            }
            of_coarse.fill(0.0);
            for phase in 0..4 {
                for pixel in 0..4 {
                    let [rows, columns] = [MEET[phase / 2][pixel / 2], MEET[phase % 2][pixel % 2]];
                    let meets = (rows[0]..rows[1]).contains(&(place / 3))
                        && (columns[0]..columns[1]).contains(&(place % 3));
                    if meets {
                        let line = phase * self.results + self.line;
                        let from = (4 * line + pixel) * self.coarse;
                        let values = &self.of_coarse[from..from + self.coarse];
                        for (out, value) in of_coarse.iter_mut().zip(values) {
                            *out += value.load();
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::exec::simd::InstructionSet;

    fn wave<T: Value>(count: usize) -> Vec<T> {
        (0..count)
            .map(|k| T::store((k as f32 * 0.7).sin()))
            .collect()
    }

    /// Returns the bits of a line of everything.
    fn bits<T: Value>(set: InstructionSet) -> Vec<u32> {
        let (line, rows, columns, channels) = (3, 6, 14, 23);
        let fine: &[T] = &wave(rows * columns * channels);
        let coarse: &[T] = &wave(4 * 8 * 4 * channels);
        let mut sums = vec![T::default(); columns * channels];
        set.run(Add {
            fine,
            coarse,
            line,
            rows,
            columns,
            channels,
            out: &mut sums,
        });
        let mut gathered = vec![T::default(); 8 * 4 * channels];
        set.run(Gather {
            gradient: fine,
            line,
            rows,
            columns,
            channels,
            out: &mut gathered,
        });
        let (results, fine, coarse) = (5, 4, 37);
        let weights: &[f32] = &wave(9 * results * (fine + coarse));
        let mut split = vec![T::default(); 4 * coarse];
        set.run(Split {
            weights,
            line,
            results,
            fine,
            coarse,
            out: &mut split,
        });
        let mut joined = vec![0.0; 9 * (fine + coarse)];
        set.run(Join {
            of_fine: &wave::<T>(9 * results * fine),
            of_coarse: &wave::<T>(16 * results * coarse),
            line,
            results,
            fine,
            coarse,
            out: &mut joined,
        });
        let layers = sums.into_iter().chain(gathered).chain(split);
        let all = layers.map(Value::load).chain(joined);
        all.map(f32::to_bits).collect()
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let run = |set| (bits::<f32>(set), bits::<Bf16>(set));
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
