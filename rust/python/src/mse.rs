//! Bindings of `dipfast_core::kernels::mse`.

use dipfast_core::kernels::{self, mse::Weights};
use dipfast_core::mem::Mask;
use pyo3::prelude::*;

use crate::arrays::{MaskArray, Pixel, compute, read, with_pixel_type, write};

/// Return the mean squared error of each of `images` parts; fill `gradient`, that with respect to
/// `a`, if it is given.
///
/// The mask is uint8 (counts where not zero), or of the type of the gradient.  It has a whole
/// number of planes of `mask_plane` elements; each stands for `mask_repeat` consecutive planes of
/// `a`.
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
        kernels::mse::mse(a, b, weights, images, gradient, exec)
    })
}
