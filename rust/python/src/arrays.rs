//! NumPy arrays as the slices and layouts of the kernels, checked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dipfast_core::{Error, Executor, Float, Layout, Mask, Sample, Sum};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::pool;

/// An element type on both sides.
pub(crate) trait Number: Float + Element {}
impl Number for f32 {}
impl Number for f64 {}

/// An element type of images on both sides.
pub(crate) trait Pixel: Sample<Float = Self::Number> + Element {
    /// What is computed in.
    type Number: Number + Sum;
}
impl Pixel for f32 {
    type Number = f32;
}
impl Pixel for f64 {
    type Number = f64;
}
impl Pixel for u8 {
    type Number = f64;
}
impl Pixel for u16 {
    type Number = f64;
}

/// Runs the expression with `$t` set to the element type of `$array`.
macro_rules! with_element_type {
    ($array:expr, $t:ident => $body:expr) => {
        if $array.is_instance_of::<numpy::PyArrayDyn<f32>>() {
            type $t = f32;
            $body
        } else {
            type $t = f64;
            $body
        }
    };
}
pub(crate) use with_element_type;

/// The same for images, integers of 8 and 16 bits among them.
macro_rules! with_pixel_type {
    ($array:expr, $t:ident => $body:expr) => {
        if $array.is_instance_of::<numpy::PyArrayDyn<u8>>() {
            type $t = u8;
            $body
        } else if $array.is_instance_of::<numpy::PyArrayDyn<u16>>() {
            type $t = u16;
            $body
        } else {
            $crate::arrays::with_element_type!($array, $t => $body)
        }
    };
}
pub(crate) use with_pixel_type;

/// A mask of either type, borrowed.
pub(crate) enum MaskArray<'py, T: Number> {
    Weights(PyReadonlyArrayDyn<'py, T>),
    Known(PyReadonlyArrayDyn<'py, u8>),
}

impl<'py, T: Number> MaskArray<'py, T> {
    pub(crate) fn read(mask: &Bound<'py, PyAny>) -> PyResult<Self> {
        if mask.is_instance_of::<PyArrayDyn<u8>>() {
            read("mask", mask).map(Self::Known)
        } else {
            read("mask", mask).map(Self::Weights)
        }
    }

    pub(crate) fn view(&self) -> PyResult<Mask<'_, T>> {
        Ok(match self {
            Self::Weights(mask) => Mask::Weights(mask.as_slice()?),
            Self::Known(mask) => Mask::Known(mask.as_slice()?),
        })
    }
}

/// Borrows an array for reading.
pub(crate) fn read<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let array = typed::<T>(name, array)?;
    let borrowed = array.try_readonly();
    borrowed.map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

/// Borrows an array for writing.
pub(crate) fn write<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    let array = typed::<T>(name, array)?;
    let borrowed = array.try_readwrite();
    borrowed.map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

fn typed<'a, 'py, T: Element>(
    name: &str,
    array: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArrayDyn<T>>> {
    let array = array.cast::<PyArrayDyn<T>>().map_err(|_| {
        PyTypeError::new_err(format!(
            "{name} must be an array of float32 or float64, the same for all arguments"
        ))
    })?;
    if array.is_c_contiguous() {
        Ok(array)
    } else {
        Err(PyValueError::new_err(format!(
            "{name} must be C-contiguous"
        )))
    }
}

/// The layout of an array: (..., H, W) or (..., D, H, W), with the channels of a pixel behind
/// that if they come last.
pub(crate) fn layout(
    shape: &[usize],
    spatial_dims: usize,
    channels_last: bool,
) -> PyResult<Layout> {
    let (pixels, channels) = match (channels_last, shape) {
        (true, [pixels @ .., channels]) => (pixels, *channels),
        (_, pixels) => (pixels, 1),
    };
    let layout = match (spatial_dims, pixels) {
        (2, [planes @ .., rows, columns]) => {
            Layout::interleaved(product(planes)?, *rows, *columns, channels)
        }
        (3, [planes @ .., slices, rows, columns]) => {
            Layout::volumes(product(planes)?, *slices, *rows, *columns, channels)
        }
        _ => {
            return Err(PyValueError::new_err(format!(
                "u must have {spatial_dims} spatial dimensions, 2 or 3, got shape {shape:?}"
            )));
        }
    };
    layout.map_err(to_python)
}

fn product(sizes: &[usize]) -> PyResult<usize> {
    let product = sizes
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    product.ok_or_else(|| to_python(Error::Overflow))
}

/// Runs a kernel without the interpreter lock; a defect in it becomes a `RuntimeError`.
pub(crate) fn compute<R: Send>(
    py: Python<'_>,
    kernel: impl FnOnce(&dyn Executor) -> Result<R, Error> + Send,
) -> PyResult<R> {
    let run = || catch_unwind(AssertUnwindSafe(|| kernel(&*pool::executor())));
    match py.detach(run) {
        Ok(result) => result.map_err(to_python),
        Err(_) => Err(PyRuntimeError::new_err(
            "a dipfast kernel failed; please report it",
        )),
    }
}

pub(crate) fn to_python(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
