//! The compiled kernels of dipfast, free of Python.
//!
//! Every kernel makes one pass over memory, computes value and (if asked for) gradient in
//! that pass, and adds up its sums in a fixed order, so that the result has the same bits
//! for every number of threads and every instruction set.
//!
//! [`kernels`] holds one module for each kernel, named as in Python; [`exec`] runs their work
//! on threads and instruction sets; [`mem`] says how images lie in memory; [`element`] says
//! what they are made of; [`Error`] says which arguments do not fit together.
//!
//! ```
//! use dipfast_core::exec::Serial;
//! use dipfast_core::kernels::total_variation::{Kind, total_variation};
//! use dipfast_core::mem::Layout;
//!
//! let u = [0.0_f32, 1.0, 0.0, 0.0]; // 2 x 2
//! let mut gradient = [0.0; 4];
//! let layout = Layout::planar(1, 2, 2)?;
//! let value = total_variation(&u, layout, Kind::Anisotropic, Some(&mut gradient), &Serial)?;
//! assert_eq!(value, 2.0);
//! assert_eq!(gradient, [-1.0, 2.0, 0.0, -1.0]);
//! # Ok::<(), dipfast_core::Error>(())
//! ```

pub mod element;
mod error;
pub mod exec;
pub mod kernels;
pub mod mem;

pub use error::Error;
