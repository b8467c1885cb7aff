//! How the work of a kernel is carried out: on which threads, with which instructions.

pub(crate) mod parallel;
pub(crate) mod simd;

pub use parallel::{Executor, Serial, Threads};
