//! Bindings of `dipfast_core::kernels::ssim`.

use dipfast_core::kernels::{self, ssim::Outputs};
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{Pixel, compute, layout, read, with_pixel_type, write};

/// Return the mean structural similarity of each of `images` groups of planes; fill `map`, which
/// has 10 rows and columns less than the images, and `to_a` and `to_b`, the gradients of the values
/// with respect to `a` and `b`, where they are given.
#[pyfunction]
#[pyo3(signature = (
    a, b, data_range, *, images=1, channels_last=false, map=None, to_a=None, to_b=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn ssim(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    data_range: f64,
    images: usize,
    channels_last: bool,
    map: Option<&Bound<'_, PyAny>>,
    to_a: Option<&Bound<'_, PyAny>>,
    to_b: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<f64>> {
    with_pixel_type!(a, T => {
        typed_ssim::<T>(a, b, data_range, images, channels_last, map, to_a, to_b)
    })
}

#[allow(clippy::too_many_arguments, reason = "those of the function above")]
fn typed_ssim<T: Pixel>(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    data_range: f64,
    images: usize,
    channels_last: bool,
    map: Option<&Bound<'_, PyAny>>,
    to_a: Option<&Bound<'_, PyAny>>,
    to_b: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<f64>> {
    let py = a.py();
    let (a, b) = (read::<T>("a", a)?, read::<T>("b", b)?);
    let layout = layout(a.shape(), 2, channels_last)?;
    let mut map = map.map(|m| write::<T::Number>("map", m)).transpose()?;
    let map = map.as_mut().map(|m| m.as_slice_mut()).transpose()?;
    let mut to_a = to_a.map(|to| write::<T::Number>("to_a", to)).transpose()?;
    let to_a = to_a.as_mut().map(|to| to.as_slice_mut()).transpose()?;
    let mut to_b = to_b.map(|to| write::<T::Number>("to_b", to)).transpose()?;
    let to_b = to_b.as_mut().map(|to| to.as_slice_mut()).transpose()?;
    let (a, b) = (a.as_slice()?, b.as_slice()?);
    let outputs = Outputs { map, to_a, to_b };
    compute(py, |exec| {
        kernels::ssim::ssim(a, b, layout, images, data_range, outputs, exec)
    })
}
