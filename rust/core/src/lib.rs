//! The compiled kernels of dipfast, free of Python.
//!
//! Every kernel makes one pass over memory, computes value and (if asked for) gradient in
//! that pass, and adds up its sums in a fixed order, so that the result has the same bits
//! for every number of threads and every instruction set.
//!
//! ```
//! use dipfast_core::{Layout, Serial, tv::{self, Kind}};
//!
//! let u = [0.0_f32, 1.0, 0.0, 0.0]; // 2 x 2
//! let mut gradient = [0.0; 4];
//! let layout = Layout::planar(1, 2, 2)?;
//! let value = tv::total_variation(&u, layout, Kind::Anisotropic, Some(&mut gradient), &Serial)?;
//! assert_eq!(value, 2.0);
//! assert_eq!(gradient, [-1.0, 2.0, 0.0, -1.0]);
//! # Ok::<(), dipfast_core::Error>(())
//! ```

mod error;
mod float;
mod layout;
mod mask;
mod memory;
pub mod metrics;
mod parallel;
mod past_cache;
pub mod resample;
pub mod rof;
mod sample;
mod simd;
pub mod ssim;
pub mod tv;

pub use error::Error;
pub use float::Float;
pub use layout::Layout;
pub use mask::Mask;
pub use parallel::{Executor, Serial, Threads};
pub use sample::{Sample, Sum};
