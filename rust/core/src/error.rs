//! What can be wrong with the arguments of a kernel.

use thiserror::Error;

/// The arguments of a kernel do not fit together; nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// A buffer does not have the number of elements that the layout asks for.
    #[error("{name} has {got} elements, expected {expected}")]
    Length {
        /// The argument.
        name: &'static str,
        /// Its number of elements.
        got: usize,
        /// The number that the layout, or the first argument, asks for.
        expected: usize,
    },
    /// The image is smaller than the window that is moved over it.
    #[error("the image must have at least {window} rows and columns, got {rows} x {columns}")]
    Window {
        /// Rows of the image.
        rows: usize,
        /// Columns of the image.
        columns: usize,
        /// Rows and columns of the window.
        window: usize,
    },
    /// The product of the sizes does not fit into memory.
    #[error("the product of the sizes overflows")]
    Overflow,
    /// A number that must be positive is 0.
    #[error("{0} must be positive")]
    Zero(&'static str),
}

/// Refuses a buffer of the wrong length.
pub(crate) fn check_length(name: &'static str, got: usize, expected: usize) -> Result<(), Error> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::Length {
            name,
            got,
            expected,
        })
    }
}

/// Refuses 0.
pub(crate) fn check_positive(name: &'static str, number: usize) -> Result<(), Error> {
    if number > 0 {
        Ok(())
    } else {
        Err(Error::Zero(name))
    }
}
