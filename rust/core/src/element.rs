//! The element types of images, and of the sums that are made of them.

mod float;
mod sample;
mod value;

pub use float::Float;
pub(crate) use float::finite_or_nan;
pub use sample::{Sample, Sum};
pub use value::{Bf16, Value};
