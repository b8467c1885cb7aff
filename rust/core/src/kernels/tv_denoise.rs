//! Total-variation denoising: min over u of 1/2 ||u - f||^2 + weight TV(u).
//!
//! The method is the accelerated primal-dual algorithm of Chambolle and Pock (2011, algorithm 2).
//! With the differences K of [`total_variation`](super::total_variation), and the dual variable p,
//! a vector for each pixel, an iteration is
//!
//! ```text
//! p <- projection of p + sigma K v onto |p| <= weight
//! u <- (u + tau (f - K' p)) / (1 + tau)
//! v <- u + theta (u - former u)
//! ```
//!
//! Every state has a bound on its distance from the optimum: the objective at u is not above the
//! optimum by more than the gap
//!
//! ```text
//! 1/2 ||u - f + K' p||^2 + sum over pixels of weight |K u| - <K u, p>
//! ```
//!
//! whose terms are all non-negative, so that it keeps its digits in single precision.
//!
//! Why this method: iterations until the gap is 1e-4 of weight TV(f), photograph of 256x256
//! with noise of 25 of 255, weight 0.1, isotropic / anisotropic: FISTA on the dual 155 / 185,
//! with restart the same, this method with the convexity 1 and the step product 1 of the
//! textbook 95 / 155, with those below 75 / 115; other weights and noises alike
//! (`python -m benches.quality.tv_methods`).  Its u is also better than f - K' p at the same p.
//!
//! Several iterations are made in one pass over memory: an iteration needs of the one before
//! it the row itself and the row below, so it can trail that one by a row.  Bands of rows are
//! independent of each other if each also computes, for every iteration but the last, one row
//! more of its neighbours.  Every element is computed by the same operations in all bands.

mod state;
mod sweep;

use crate::element::{Float, finite_or_nan};
use crate::error::{Error, check_divisible, check_length};
use crate::exec::Executor;
use crate::exec::parallel::run_blocks;
use crate::exec::simd::dispatch;
use crate::mem::Layout;
use crate::mem::buffers::Aligned;

use state::{Band, Grid, Scratch, State};
use sweep::{Gap, Step, Sweep};

/// The norm |K u| at a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The sum of the absolute differences.
    Anisotropic,
    /// The Euclidean norm of the differences.
    Isotropic,
    /// The Euclidean norm of the differences of several consecutive planes together.
    Joint {
        /// The number of planes that are denoised together; it divides the number of planes.
        channels: usize,
    },
}

/// The product of the step sizes and ||K||^2.  With constant step sizes the method converges
/// for products below 4/3 (Banert, Upadhyaya, Giselsson 2023); the larger, the faster.
const STEP_PRODUCT: f64 = 1.3;

/// A problem of total-variation denoising, and the present state of its solution.
#[derive(Debug)]
pub struct TvDenoiser<T> {
    grid: Grid,
    norm: Norm,
    /// The weight of the total variation, times `scale`.
    weight: f64,
    /// The power of two that the image was multiplied by, so that squares neither overflow nor
    /// vanish.
    scale: f64,
    /// The means, which are subtracted from each plane first: single precision has more digits for
    /// the rest.
    means: Vec<f64>,
    f: Aligned<T>,
    state: State<T>,
    /// The state that the next sweep writes to.
    next: State<T>,
    scratch: std::sync::Mutex<Vec<Scratch<T>>>,
    tau: f64,
    /// The objective that gaps are relative to, times `scale`^2.
    start: f64,
}

impl<T: Float> TvDenoiser<T> {
    /// Returns the problem of denoising the planes of `f`, in the state u = f and p = 0, or in that
    /// of a dual variable that [`TvDenoiser::dual`] wrote, which is not used where f is flat.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if a buffer does not fit the layout, [`Error::Interleaved`] if that
    /// is interleaved, [`Error::Indivisible`] if the joint channels do not divide its planes.
    pub fn new(
        f: &[T],
        layout: Layout,
        norm: Norm,
        weight: f64,
        dual: Option<&[T]>,
        exec: &dyn Executor,
    ) -> Result<Self, Error> {
        check_length("f", f.len(), layout.len())?;
        if layout.step != 1 {
            return Err(Error::Interleaved);
        }
        let channels = match norm {
            Norm::Joint { channels } => channels.max(1),
            Norm::Anisotropic | Norm::Isotropic => 1,
        };
        check_divisible("planes", layout.planes, channels)?;
        let grid = Grid::new(layout, channels, size_of::<T>());
        if let Some(dual) = dual {
            check_length("dual", dual.len(), grid.axes() * layout.len())?;
        }
        let (means, largest) = grid.means(f, exec);
        let scale = power_of_two_below(1.0 / largest);
        let mut solver = Self {
            grid,
            norm,
            weight: weight * scale,
            scale,
            f: Aligned::new(grid.len()),
            state: State::new(grid),
            next: State::new(grid),
            scratch: std::sync::Mutex::default(),
            tau: 1.0,
            start: 0.0,
            means,
        };
        let squares = solver.fill(f, exec);
        solver.start = finite_or_nan(solver.start_value(&squares, exec));
        // A flat image is its own solution, where the dual variable is 0.
        if let Some(dual) = dual.filter(|_| solver.start != 0.0) {
            grid.fill_dual(&mut solver.state, dual, scale, exec);
            let project = Step {
                sigma: T::ZERO,
                keep: T::ZERO,
                pull: T::from_f64(1.0),
                theta: T::ZERO,
            };
            solver.sweep(&[project], exec);
        }
        Ok(solver)
    }

    /// Makes this many iterations.
    pub fn advance(&mut self, iterations: usize, exec: &dyn Executor) {
        let mut left = iterations;
        while left > 0 {
            let steps: Vec<Step<T>> = (0..left.min(self.grid.depth))
                .map(|_| self.step())
                .collect();
            self.sweep(&steps, exec);
            left -= steps.len();
        }
    }

    /// Returns the relative gap, an upper bound on how far the objective is above the optimum.
    ///
    /// It is relative to the objective at the better of u = f and u = mean, which is chosen for
    /// each plane, or group of planes that are denoised together, and summed over all.  The gap is
    /// 0 where that objective is 0, and NaN where anything in f is not finite.
    pub fn gap(&self, exec: &dyn Executor) -> f64 {
        if self.start == 0.0 {
            return 0.0;
        }
        let gap = self.band_gaps(exec).iter().sum::<f64>();
        finite_or_nan(gap / self.start)
    }

    /// Writes the image u.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if the buffer is not of the size of f.
    pub fn image(&self, out: &mut [T], exec: &dyn Executor) -> Result<(), Error> {
        let grid = &self.grid;
        check_length("out", out.len(), grid.pixels())?;
        let unscale = 1.0 / self.scale;
        grid.export(&self.state.u, out, exec, &|plane, value| {
            T::from_f64(value.to_f64() * unscale + self.means[plane])
        });
        Ok(())
    }

    /// Writes the dual variable p, an array of the size of f for each axis, the last axis last.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if the buffer has another size.
    pub fn dual(&self, out: &mut [T], exec: &dyn Executor) -> Result<(), Error> {
        let grid = &self.grid;
        check_length("out", out.len(), grid.axes() * grid.pixels())?;
        let unscale = 1.0 / self.scale;
        let parts = out.chunks_mut(grid.pixels().max(1));
        for (out, p) in parts.rev().zip(&self.state.p) {
            grid.export(p, out, exec, &|_, value| {
                T::from_f64(value.to_f64() * unscale)
            });
        }
        Ok(())
    }

    /// Returns the numbers of the next iteration.
    fn step(&mut self) -> Step<T> {
        // The data term is strongly convex with 1; a smaller value, which the theory allows as
        // well, has the step sizes change more slowly.
        let convexity = match self.norm {
            Norm::Anisotropic => 0.25,
            Norm::Isotropic | Norm::Joint { .. } => 0.5,
        };
        let tau = self.tau;
        let norm = 4.0 * self.grid.axes() as f64;
        let theta = 1.0 / (1.0 + 2.0 * convexity * tau).sqrt();
        self.tau = tau * theta;
        Step {
            sigma: T::from_f64(STEP_PRODUCT / norm / tau),
            keep: T::from_f64(1.0 / (1.0 + tau)),
            pull: T::from_f64(tau / (1.0 + tau)),
            theta: T::from_f64(theta),
        }
    }

    /// Makes the iterations of one pass over memory.
    fn sweep(&mut self, steps: &[Step<T>], exec: &dyn Executor) {
        match (self.norm, self.grid.deep) {
            (Norm::Anisotropic, false) => self.sweep_as::<0, false>(steps, exec),
            (Norm::Anisotropic, true) => self.sweep_as::<0, true>(steps, exec),
            (Norm::Isotropic, false) => self.sweep_as::<1, false>(steps, exec),
            (Norm::Isotropic, true) => self.sweep_as::<1, true>(steps, exec),
            (Norm::Joint { .. }, false) => self.sweep_as::<2, false>(steps, exec),
            (Norm::Joint { .. }, true) => self.sweep_as::<2, true>(steps, exec),
        }
    }

    fn sweep_as<const NORM: u8, const DEEP: bool>(
        &mut self,
        steps: &[Step<T>],
        exec: &dyn Executor,
    ) {
        let grid = self.grid;
        let bands = self.next.bands(grid);
        exec.run(bands.len(), &|index| {
            let pooled = self.scratch.lock().ok().and_then(|mut pool| pool.pop());
            let mut scratch = pooled.unwrap_or_else(|| Scratch::new(grid));
            dispatch(Sweep::<T, NORM, DEEP> {
                grid,
                band: Band::new(grid, index),
                f: &self.f,
                from: &self.state,
                out: bands.take(index),
                scratch: &mut scratch,
                weight: T::from_f64(self.weight),
                steps,
            });
            if let Ok(mut pool) = self.scratch.lock() {
                pool.push(scratch);
            }
        });
        drop(bands);
        std::mem::swap(&mut self.state, &mut self.next);
    }

    /// Returns the gap of each band, in units of `scale`^2.
    fn band_gaps(&self, exec: &dyn Executor) -> Vec<f64> {
        match (self.norm, self.grid.deep) {
            (Norm::Anisotropic, false) => self.gaps_as::<0, false>(exec),
            (Norm::Anisotropic, true) => self.gaps_as::<0, true>(exec),
            (Norm::Isotropic, false) => self.gaps_as::<1, false>(exec),
            (Norm::Isotropic, true) => self.gaps_as::<1, true>(exec),
            (Norm::Joint { .. }, false) => self.gaps_as::<2, false>(exec),
            (Norm::Joint { .. }, true) => self.gaps_as::<2, true>(exec),
        }
    }

    fn gaps_as<const NORM: u8, const DEEP: bool>(&self, exec: &dyn Executor) -> Vec<f64> {
        let grid = self.grid;
        run_blocks(exec, grid.bands * grid.groups, |index| {
            dispatch(Gap::<T, NORM, DEEP> {
                grid,
                band: Band::new(grid, index),
                f: &self.f,
                state: &self.state,
                weight: T::from_f64(self.weight),
            })
        })
    }

    /// Fills the state from the image; returns the squared norm of each band.
    fn fill(&mut self, f: &[T], exec: &dyn Executor) -> Vec<f64> {
        let squares = self
            .grid
            .import(f, &mut self.f, &self.means, self.scale, exec);
        self.state.u.copy_from_slice(&self.f);
        self.state.v.copy_from_slice(&self.f);
        squares
    }

    /// Returns the objective that gaps are relative to, given the squared norms of the bands.
    fn start_value(&self, squares: &[f64], exec: &dyn Executor) -> f64 {
        // At p = 0 and u = f the gap is weight TV(f).
        let variations = self.band_gaps(exec);
        let bands = self.grid.bands;
        let groups = squares.chunks(bands).zip(variations.chunks(bands));
        groups
            .map(|(squares, variation)| {
                let to_mean = 0.5 * squares.iter().sum::<f64>();
                let to_image = variation.iter().sum::<f64>();
                // If either is NaN, the result is NaN.
                if to_mean < to_image {
                    to_mean
                } else {
                    to_image + 0.0 * to_mean
                }
            })
            .sum()
    }
}

/// Returns the largest power of two not above a positive value, 1 where there is none.
fn power_of_two_below(value: f64) -> f64 {
    if !(value.is_finite() && value >= f64::MIN_POSITIVE) {
        return 1.0;
    }
    // All bits but those of the exponent cleared.
    f64::from_bits(value.to_bits() & 0x7ff0_0000_0000_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Serial;
    use crate::exec::simd::InstructionSet;

    fn bits<const NORM: u8, const DEEP: bool>(
        solver: &mut TvDenoiser<f32>,
        set: InstructionSet,
    ) -> (Vec<u32>, u64) {
        let grid = solver.grid;
        let weight = solver.weight as f32;
        let steps: Vec<_> = (0..grid.depth.min(5)).map(|_| solver.step()).collect();
        let bands = solver.next.bands(grid);
        let mut gap = 0.0;
        for index in 0..bands.len() {
            set.run(Sweep::<f32, NORM, DEEP> {
                grid,
                band: Band::new(grid, index),
                f: &solver.f,
                from: &solver.state,
                out: bands.take(index),
                scratch: &mut Scratch::new(grid),
                weight,
                steps: &steps,
            });
        }
        drop(bands);
        for index in 0..grid.bands * grid.groups {
            gap += set.run(Gap::<f32, NORM, DEEP> {
                grid,
                band: Band::new(grid, index),
                f: &solver.f,
                state: &solver.next,
                weight,
            });
        }
        let [x, y, z] = &solver.next.p;
        let arrays = [&solver.next.u, &solver.next.v, x, y, z];
        let values = arrays.iter().flat_map(|array| array.iter());
        (values.map(|value| value.to_bits()).collect(), gap.to_bits())
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let layout = Layout::volumes(3, 2, 9, 67, 1).unwrap();
        let flat = Layout::planar(3, 200, 67).unwrap();
        let wave = |length: usize| (0..length).map(|k| (k as f32 * 0.7).sin());
        let run = |set| {
            let solver = |layout: Layout, norm| {
                let f: Vec<f32> = wave(layout.len()).collect();
                TvDenoiser::new(&f, layout, norm, 0.3, None, &Serial).unwrap()
            };
            let joint = Norm::Joint { channels: 3 };
            (
                bits::<0, true>(&mut solver(layout, Norm::Anisotropic), set),
                bits::<1, false>(&mut solver(flat, Norm::Isotropic), set),
                bits::<2, false>(&mut solver(flat, joint), set),
                bits::<2, true>(&mut solver(layout, joint), set),
            )
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
