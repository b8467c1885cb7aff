//! Errors as Python exceptions: the only place that decides which exception an error becomes.
//!
//! `dipfast.errors` is imported when the first exception is raised, not with this module.

use dipfast_core::Error;
use pyo3::PyErr;
use pyo3::exceptions::PyRuntimeError;

mod named {
    pyo3::import_exception!(dipfast.errors, InputError);
    pyo3::import_exception!(dipfast.errors, InputTypeError);
}

/// Returns the exception for an error of a kernel.
pub(crate) fn from_core(error: Error) -> PyErr {
    match error {
        Error::WrongLength { .. }
        | Error::Indivisible { .. }
        | Error::Interleaved
        | Error::SmallerThanWindow { .. }
        | Error::SizeOverflow
        | Error::NotPositive(_) => input_error(error.to_string()),
    }
}

/// Returns a `dipfast.errors.InputError`, which is a `ValueError`.
pub(crate) fn input_error(message: String) -> PyErr {
    named::InputError::new_err(message)
}

/// Returns a `dipfast.errors.InputTypeError`, which is a `TypeError`.
pub(crate) fn input_type_error(message: String) -> PyErr {
    named::InputTypeError::new_err(message)
}

/// Returns the `RuntimeError` for a panic in a kernel, which is a defect.
pub(crate) fn kernel_panicked() -> PyErr {
    PyRuntimeError::new_err("a dipfast kernel failed; please report it")
}
