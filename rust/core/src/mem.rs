//! How images lie in memory, and how memory is taken, read and written.

pub(crate) mod buffers;
mod layout;
mod mask;
pub(crate) mod streaming_store;

pub use layout::Layout;
pub use mask::Mask;
