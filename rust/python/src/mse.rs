//! Bindings of `dipfast_core::metrics`.

use dipfast_core::metrics::{self, Weights};
use dipfast_core::{Mask, ssim};
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{MaskArray, Pixel, compute, layout, read, with_pixel_type, write};

/// Mean squared error of each of `images` parts; fills `gradient`, that with respect to `a`,
/// if it is given.
///
/// The mask is uint8 (counts where not zero), or of the type of the gradient; it has a whole
/// number of planes of `mask_plane` elements, each of which serves `mask_repeat` planes of
/// `a` in a row.
#[pyfunction]
#[pyo3(signature = (
    a, b, *, mask=None, mask_plane=1, mask_repeat=1, images=1, gradient=None
))]
pub(crate) fn mse(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    mask: Option<&Bound<'_, PyAny>>,
    mask_plane: usize,
    mask_repeat: usize,
    images: usize,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<f64>> {
    with_pixel_type!(a, T => {
        typed_mse::<T>(a, b, mask, mask_plane, mask_repeat, images, gradient)
    })
}

fn typed_mse<T: Pixel>(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    mask: Option<&Bound<'_, PyAny>>,
    mask_plane: usize,
    mask_repeat: usize,
    images: usize,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<f64>> {
    let py = a.py();
    let (a, b) = (read::<T>("a", a)?, read::<T>("b", b)?);
    let mask = mask.map(MaskArray::<T::Number>::read).transpose()?;
    let mut gradient = gradient
        .map(|g| write::<T::Number>("gradient", g))
        .transpose()?;
    let (a, b) = (a.as_slice()?, b.as_slice()?);
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    let weights = mask.as_ref().map(MaskArray::view).transpose()?;
    let weights = weights.map(|mask: Mask<'_, T::Number>| Weights {
        mask,
        plane: mask_plane,
        repeat: mask_repeat,
    });
    compute(py, |exec| {
        metrics::mse(a, b, weights, images, gradient, exec)
    })
}

/// Mean structural similarity of each of `images` groups of planes; fills `map`, which has 10
/// rows and columns less, and the gradients of the values with respect to `a` and `b`, where they
/// are given.
#[pyfunction]
#[pyo3(name = "ssim")]
#[pyo3(signature = (
    a, b, data_range, *, images=1, channels_last=false, map=None, to_a=None, to_b=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn structural_similarity(
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
    let outputs = ssim::Outputs { map, to_a, to_b };
    compute(py, |exec| {
        ssim::ssim(a, b, layout, images, data_range, outputs, exec)
    })
}
