//! Errors of the kernels: arguments that do not fit together.

use thiserror::Error;

/// An error in the arguments of a kernel; nothing was computed and nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// A buffer does not have the number of elements that the layout asks for.
    #[error("{name} has {got} elements, expected {expected}")]
    WrongLength {
        /// The name of the argument.
        name: &'static str,
        /// The number of its elements.
        got: usize,
        /// The number of elements that the layout, or the first argument, asks for.
        expected: usize,
    },
    /// A number of things does not divide into parts of equal size.
    #[error("{count} {name} do not divide into {parts} equal parts")]
    Indivisible {
        /// What is divided, in the plural.
        name: &'static str,
        /// How many there are.
        count: usize,
        /// The number of parts that was asked for.
        parts: usize,
    },
    /// The channels of a pixel lie side by side, and the kernel takes planes only.
    #[error("the channels must lie in planes, got pixels whose channels lie side by side")]
    Interleaved,
    /// The image is smaller than the window that is moved over it.
    #[error("the image must have at least {window} rows and columns, got {rows} x {columns}")]
    SmallerThanWindow {
        /// The number of rows of the image.
        rows: usize,
        /// The number of columns of the image.
        columns: usize,
        /// The number of rows, and of columns, of the window.
        window: usize,
    },
    /// The product of the sizes is larger than the largest `usize`.
    #[error("the product of the sizes overflows")]
    SizeOverflow,
    /// A number that must be positive is 0.
    #[error("{0} must be positive")]
    NotPositive(&'static str),
}

/// Returns [`Error::WrongLength`] unless a buffer has the expected number of elements.
pub(crate) fn check_length(name: &'static str, got: usize, expected: usize) -> Result<(), Error> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::WrongLength {
            name,
            got,
            expected,
        })
    }
}

/// Returns [`Error::Indivisible`] unless `count` is a multiple of `parts`; only 0 is one of 0.
pub(crate) fn check_divisible(name: &'static str, count: usize, parts: usize) -> Result<(), Error> {
    if count.is_multiple_of(parts) {
        Ok(())
    } else {
        Err(Error::Indivisible { name, count, parts })
    }
}

/// Returns [`Error::NotPositive`] for 0.
pub(crate) fn check_positive(name: &'static str, number: usize) -> Result<(), Error> {
    if number > 0 {
        Ok(())
    } else {
        Err(Error::NotPositive(name))
    }
}
