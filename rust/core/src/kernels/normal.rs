//! Normal random numbers of a counter-based generator, added to a buffer in one pass.
//!
//! The number of an element is a function of (seed, iteration, index) alone: Philox 4x32-7
//! (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) gives four
//! words for the counter (block, 0, iteration) and the key seed, and Box and Muller's transform makes
//! four normal numbers of them.  So the bits do not depend on threads, on instruction sets, or on
//! what was drawn before.

use crate::Error;
use crate::error::check_length;
use crate::exec::parallel::{Executor, Parts};
use crate::exec::simd::{Kernel, dispatch};

/// Counters of a group: two registers of AVX-512, so that one is worked on while the other waits.
const LANES: usize = 32;

/// The elements of a group: four for each counter.
const GROUP: usize = 4 * LANES;

/// The groups of a task.
const GROUPS_OF_TASK: usize = 256;

type Words = [u32; LANES];

/// Fills `out` with z + level n, n standard normal.
///
/// Element 128 g + 32 j + k has the number j of counter 32 g + k.
///
/// # Errors
///
/// Returns an error if the buffers do not have the same length.
pub fn add_normal(
    z: &[f32],
    level: f32,
    seed: u64,
    iteration: u64,
    out: &mut [f32],
    exec: &dyn Executor,
) -> Result<(), Error> {
    check_length("out", out.len(), z.len())?;
    let size = GROUPS_OF_TASK * GROUP;
    let count = out.len().div_ceil(size);
    let parts = Parts::new(out, size);
    exec.run(count, &|task| {
        if let Some(out) = parts.take(task) {
            let z = &z[task * size..];
            let first = (task * GROUPS_OF_TASK) as u64;
            dispatch(Draw {
                z,
                level,
                seed,
                iteration,
                first,
                out,
            });
        }
    });
    Ok(())
}

struct Draw<'a> {
    z: &'a [f32],
    level: f32,
    seed: u64,
    iteration: u64,
    first: u64,
    out: &'a mut [f32],
}

impl Kernel for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (k, out) in self.out.chunks_mut(GROUP).enumerate() {
            let z = &self.z[k * GROUP..];
            let numbers = group(self.seed, self.iteration, self.first + k as u64);
            if out.len() == GROUP {
                // Whole groups apart, because their number of elements is known.
                for j in 0..4 {
                    let (out, z) = (&mut out[j * LANES..], &z[j * LANES..]);
                    for lane in 0..LANES {
                        out[lane] = z[lane] + self.level * numbers[j][lane];
                    }
                }
            } else {
                for (at, (out, z)) in out.iter_mut().zip(z).enumerate() {
                    *out = z + self.level * numbers[at / LANES][at % LANES];
                }
            }
        }
    }
}

/// Returns the normal numbers of a group.
#[inline(always)]
fn group(seed: u64, iteration: u64, group: u64) -> [[f32; LANES]; 4] {
    let mut counter = [[0; LANES]; 4];
    #[allow(clippy::needless_range_loop, reason = "four arrays, lane by lane")]
    for lane in 0..LANES {
        let block = group * LANES as u64 + lane as u64;
        counter[0][lane] = block as u32;
        counter[1][lane] = (block >> 32) as u32;
        counter[2][lane] = iteration as u32;
        counter[3][lane] = (iteration >> 32) as u32;
    }
    let words = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let [a, b] = box_muller(&words[0], &words[1]);
    let [c, d] = box_muller(&words[2], &words[3]);
    [a, b, c, d]
}

/// Seven rounds of Philox 4x32: the fewest that pass all tests of randomness of TestU01, by the
/// authors' table 2.
#[inline(always)]
fn philox(mut x: [Words; 4], mut key: [u32; 2]) -> [Words; 4] {
    for _ in 0..7 {
        let mut y = x;
        for lane in 0..LANES {
            let a = u64::from(x[0][lane]) * 0xD251_1F53;
            let b = u64::from(x[2][lane]) * 0xCD9E_8D57;
            y[0][lane] = (b >> 32) as u32 ^ x[1][lane] ^ key[0];
            y[1][lane] = b as u32;
            y[2][lane] = (a >> 32) as u32 ^ x[3][lane] ^ key[1];
            y[3][lane] = a as u32;
        }
        x = y;
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    x
}

/// Returns r cos(2 pi w) and r sin(2 pi w) with r^2 = -2 ln u, of uniform u and w.
#[inline(always)]
fn box_muller(u: &Words, w: &Words) -> [[f32; LANES]; 2] {
    let mut cosines = [0.0; LANES];
    let mut sines = [0.0; LANES];
    for lane in 0..LANES {
        // In (0, 1]: the middles of 2^24 intervals, rounded to even ones above one half.
        let u = ((u[lane] >> 8) as i32 as f32 + 0.5) * (1.0 / 16_777_216.0);
        let radius = (-2.0 * logarithm(u)).sqrt();
        let [cosine, sine] = turn(w[lane]);
        cosines[lane] = radius * cosine;
        sines[lane] = radius * sine;
    }
    [cosines, sines]
}

/// The natural logarithm of a normal positive number, to about the last bit.
///
/// u = 2^e m with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh((m - 1) / (m + 1)) by its series.
#[inline(always)]
fn logarithm(u: f32) -> f32 {
    let bits = u.to_bits();
    // The bits of sqrt(1/2) as origin make the exponent that of the nearest power of two.
    let exponent = (bits.wrapping_sub(0x3f35_04f3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 2.0 / 3.0 + q * (2.0 / 5.0 + q * (2.0 / 7.0 + q * (2.0 / 9.0)));
    let high = exponent as f32 * std::f32::consts::LN_2;
    high + (2.0 * s + s * q * series)
}

/// Returns cosine and sine of 2 pi w / 2^32.
///
/// The nearest multiple of a quarter is left to the signs, the rest to the series of Taylor.
#[inline(always)]
fn turn(w: u32) -> [f32; 2] {
    let quarter = w.wrapping_add(1 << 29) >> 30;
    let rest = w.wrapping_sub(quarter << 30) as i32;
    let t = rest as f32 * (std::f32::consts::TAU / 4_294_967_296.0);
    let q = t * t;
    let sine =
        t * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q / 362_880.0))));
    let cosine = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40_320.0))));
    let swap = quarter & 1 != 0;
    let (c, s) = if swap { (sine, cosine) } else { (cosine, sine) };
    let c = if (quarter + 1) & 2 != 0 { -c } else { c };
    let s = if quarter & 2 != 0 { -s } else { s };
    [c, s]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::simd::InstructionSet;

    #[test]
    fn philox_has_the_known_answers() {
        // Of the authors' Random123 library: counter and key of zeros, then of ones.
        let one = |counter: u32, key: u32| {
            let words = philox([[counter; LANES]; 4], [key; 2]);
            [0, 1, 2, 3].map(|k: usize| words[k][0])
        };
        assert_eq!(
            one(0, 0),
            [0x5f6f_b709, 0x0d89_3f64, 0x4f12_1f81, 0x4f73_0a48]
        );
        assert_eq!(
            one(u32::MAX, u32::MAX),
            [0x5207_ddc2, 0x4516_5e59, 0x4d8e_e751, 0x8c52_f662]
        );
    }

    #[test]
    fn logarithm_and_turn_are_those_of_the_library() {
        for k in 0..100_000_u32 {
            let word = k.wrapping_mul(42_949).wrapping_add(7) | 1;
            let u = ((word >> 8) as f32 + 0.5) / 16_777_216.0;
            let exact = f64::from(u).ln();
            assert!((f64::from(logarithm(u)) - exact).abs() <= 3e-7 * exact.abs().max(0.1));
            let angle = f64::from(word) * std::f64::consts::TAU / 4_294_967_296.0;
            let [cosine, sine] = turn(word);
            assert!((f64::from(cosine) - angle.cos()).abs() < 3e-7);
            assert!((f64::from(sine) - angle.sin()).abs() < 3e-7);
        }
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let z: Vec<f32> = (0..1000).map(|k| k as f32 / 1000.0).collect();
        let run = |set: InstructionSet| {
            let mut out = vec![0.0; z.len()];
            set.run(Draw {
                z: &z,
                level: 0.3,
                seed: 5,
                iteration: 6,
                first: 7,
                out: &mut out,
            });
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = run(InstructionSet::Baseline);
        for &set in InstructionSet::ALL.iter().filter(|set| set.is_available()) {
            assert!(run(set) == expected, "{set:?}");
        }
    }
}
