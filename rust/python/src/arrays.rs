//! NumPy arrays as the slices and layouts of the kernels, checked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dipfast_core::Error;
use dipfast_core::element::{Float, Sample, Sum};
use dipfast_core::exec::Executor;
use dipfast_core::mem::{Layout, Mask};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::errors::{from_core, input_error, input_type_error, kernel_panicked};
use crate::threads;

/// An element type of the kernels that NumPy has too.
pub(crate) trait Number: Float + Element {}
impl Number for f32 {}
impl Number for f64 {}

/// An element type of images that NumPy has too.
pub(crate) trait Pixel: Sample<Float = Self::Number> + Element {
    /// The type of the results.
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

/// Runs the expression with `$t` set to the element type of an image, which may also be `u8` or
/// `u16`.
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

/// A borrowed mask, of weights or of bytes that are not zero where pixels are known.
pub(crate) enum MaskArray<'py, T: Number> {
    Weights(PyReadonlyArrayDyn<'py, T>),
    Known(PyReadonlyArrayDyn<'py, u8>),
}

impl<'py, T: Number> MaskArray<'py, T> {
    /// Borrows an array of bytes, or of the element type of the image, as a mask.
    pub(crate) fn read(mask: &Bound<'py, PyAny>) -> PyResult<Self> {
        if mask.is_instance_of::<PyArrayDyn<u8>>() {
            read("mask", mask).map(Self::Known)
        } else {
            read("mask", mask).map(Self::Weights)
        }
    }

    /// Returns the mask as the kernels take it.
    pub(crate) fn view(&self) -> PyResult<Mask<'_, T>> {
        Ok(match self {
            Self::Weights(mask) => Mask::Weights(mask.as_slice()?),
            Self::Known(mask) => Mask::Known(mask.as_slice()?),
        })
    }
}

/// Borrows an array of this element type for reading.
pub(crate) fn read<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let array = typed::<T>(name, array)?;
    let borrowed = array.try_readonly();
    borrowed.map_err(|error| input_error(format!("{name}: {error}")))
}

/// Borrows an array of this element type for writing.
pub(crate) fn write<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    let array = typed::<T>(name, array)?;
    let borrowed = array.try_readwrite();
    borrowed.map_err(|error| input_error(format!("{name}: {error}")))
}

/// Returns an array as one of this element type; it must be C-contiguous.
fn typed<'a, 'py, T: Element>(
    name: &str,
    array: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArrayDyn<T>>> {
    let array = array.cast::<PyArrayDyn<T>>().map_err(|_| {
        input_type_error(format!(
            "{name} must be an array of float32 or float64, the same for all arguments"
        ))
    })?;
    if array.is_c_contiguous() {
        Ok(array)
    } else {
        Err(input_error(format!("{name} must be C-contiguous")))
    }
}

/// Returns the layout of an array (..., H, W) or (..., D, H, W), or with the channels of a pixel
/// as one more axis behind these.
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
            return Err(input_error(format!(
                "u must have {spatial_dims} spatial dimensions, 2 or 3, got shape {shape:?}"
            )));
        }
    };
    layout.map_err(from_core)
}

/// Returns the product of sizes, or the exception for one that overflows.
fn product(sizes: &[usize]) -> PyResult<usize> {
    let product = sizes
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    product.ok_or_else(|| from_core(Error::SizeOverflow))
}

/// Runs a kernel without the interpreter lock; a defect in it becomes a `RuntimeError`.
pub(crate) fn compute<R: Send>(
    py: Python<'_>,
    kernel: impl FnOnce(&dyn Executor) -> Result<R, Error> + Send,
) -> PyResult<R> {
    let run = || catch_unwind(AssertUnwindSafe(|| kernel(&*threads::executor())));
    match py.detach(run) {
        Ok(result) => result.map_err(from_core),
        Err(_) => Err(kernel_panicked()),
    }
}
