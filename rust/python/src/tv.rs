//! Bindings of `dipfast_core::tv`.

use dipfast_core::tv;
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{Number, compute, layout, read, with_element_type, write};

/// Anisotropic total variation; fills `gradient` if it is given.
#[pyfunction]
#[pyo3(signature = (u, *, channels_last=false, gradient=None))]
pub(crate) fn total_variation(
    u: &Bound<'_, PyAny>,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    with_element_type!(u, T => typed_total_variation::<T>(u, channels_last, gradient))
}

fn typed_total_variation<T: Number>(
    u: &Bound<'_, PyAny>,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    let py = u.py();
    let u = read::<T>("u", u)?;
    let layout = layout(u.shape(), channels_last)?;
    let mut gradient = gradient.map(|g| write::<T>("gradient", g)).transpose()?;
    let u = u.as_slice()?;
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    compute(py, |exec| tv::anisotropic(u, layout, gradient, exec))
}

/// Both terms of 1/2 || m (u - y) ||^2 + weight TV(u); fills `gradient` if it is given.
#[pyfunction]
#[pyo3(signature = (u, y, mask, weight, *, channels_last=false, gradient=None))]
pub(crate) fn tv_objective(
    u: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    mask: Option<&Bound<'_, PyAny>>,
    weight: f64,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<(f64, f64)> {
    with_element_type!(u, T => {
        typed_tv_objective::<T>(u, y, mask, weight, channels_last, gradient)
    })
}

fn typed_tv_objective<T: Number>(
    u: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    mask: Option<&Bound<'_, PyAny>>,
    weight: f64,
    channels_last: bool,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<(f64, f64)> {
    let py = u.py();
    let u = read::<T>("u", u)?;
    let y = read::<T>("y", y)?;
    let mask = mask.map(|m| read::<T>("mask", m)).transpose()?;
    let layout = layout(u.shape(), channels_last)?;
    let mut gradient = gradient.map(|g| write::<T>("gradient", g)).transpose()?;
    let (u, y) = (u.as_slice()?, y.as_slice()?);
    let mask = mask.as_ref().map(|m| m.as_slice()).transpose()?;
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    let terms = compute(py, |exec| {
        tv::objective(u, y, mask, weight, layout, gradient, exec)
    })?;
    Ok((terms.data, terms.tv))
}
