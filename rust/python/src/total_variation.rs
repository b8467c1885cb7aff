//! Bindings of `dipfast_core::kernels::total_variation`.

use dipfast_core::kernels::{
    self,
    total_variation::{Data, Kind},
};
use dipfast_core::mem::Layout;
use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{MaskArray, Number, compute, layout, read, with_element_type, write};
use crate::errors::input_error;

/// Return the total variation of `u`; fill `gradient` if it is given.
#[pyfunction]
#[pyo3(signature = (
    u, *, kind="anisotropic", epsilon=0.0, spatial_dims=2, channels_last=false, gradient=None
))]
pub(crate) fn total_variation(
    u: &Bound<'_, PyAny>,
    kind: &str,
    epsilon: f64,
    spatial_dims: usize,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    let kind = kind_of(kind, epsilon)?;
    with_element_type!(u, T => {
        typed_total_variation::<T>(u, kind, spatial_dims, channels_last, gradient)
    })
}

fn typed_total_variation<T: Number>(
    u: &Bound<'_, PyAny>,
    kind: Kind,
    spatial_dims: usize,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    let py = u.py();
    let u = read::<T>("u", u)?;
    let layout = layout(u.shape(), spatial_dims, channels_last)?;
    let mut gradient = gradient.map(|g| write::<T>("gradient", g)).transpose()?;
    let u = u.as_slice()?;
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    compute(py, |exec| {
        kernels::total_variation::total_variation(u, layout, kind, gradient, exec)
    })
}

/// Return the terms 1/2 || m (u - y) ||^2 and TV(u) of the objective; fill `gradient`, that of
/// their sum with TV times `weight`, if it is given.
///
/// The mask is of the type of `u`, or uint8 (known where not zero).  It has a whole number of
/// planes; each stands for `mask_repeat` consecutive planes of `u`.
#[pyfunction]
#[pyo3(signature = (
    u, y, mask, weight, *, mask_repeat=1, kind="anisotropic", epsilon=0.0, spatial_dims=2,
    channels_last=false, gradient=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments")]
pub(crate) fn tv_objective(
    u: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    mask: Option<&Bound<'_, PyAny>>,
    weight: f64,
    mask_repeat: usize,
    kind: &str,
    epsilon: f64,
    spatial_dims: usize,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<(f64, f64)> {
    let kind = kind_of(kind, epsilon)?;
    with_element_type!(u, T => {
        let u = read::<T>("u", u)?;
        let layout = layout(u.shape(), spatial_dims, channels_last)?;
        let mask = mask.map(MaskArray::<T>::read).transpose()?;
        typed_tv_objective::<T>(u, y, mask, mask_repeat, weight, kind, layout, gradient)
    })
}

#[allow(clippy::too_many_arguments, reason = "those of the function above")]
fn typed_tv_objective<T: Number>(
    u: PyReadonlyArrayDyn<'_, T>,
    y: &Bound<'_, PyAny>,
    mask: Option<MaskArray<'_, T>>,
    mask_repeat: usize,
    weight: f64,
    kind: Kind,
    layout: Layout,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<(f64, f64)> {
    let py = y.py();
    let y = read::<T>("y", y)?;
    let mut gradient = gradient.map(|g| write::<T>("gradient", g)).transpose()?;
    let u = u.as_slice()?;
    let data = Data {
        y: y.as_slice()?,
        mask: mask.as_ref().map(MaskArray::view).transpose()?,
        mask_repeat,
        weight,
    };
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    let terms = compute(py, |exec| {
        kernels::total_variation::tv_objective(u, data, layout, kind, gradient, exec)
    })?;
    Ok((terms.data, terms.tv))
}

/// Returns the kind of total variation of this name.
fn kind_of(kind: &str, epsilon: f64) -> PyResult<Kind> {
    match kind {
        "anisotropic" => Ok(Kind::Anisotropic),
        "isotropic" => Ok(Kind::Isotropic { epsilon }),
        "huber" => Ok(Kind::Huber { epsilon }),
        _ => Err(input_error(format!(
            "kind must be anisotropic, isotropic or huber, got {kind:?}"
        ))),
    }
}
