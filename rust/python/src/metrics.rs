//! Bindings of `dipfast_core::metrics`.

use dipfast_core::metrics;
use pyo3::prelude::*;

use crate::arrays::{Number, compute, read, with_element_type, write};

/// Mean squared error; fills `gradient`, that with respect to `a`, if it is given.
#[pyfunction]
#[pyo3(signature = (a, b, *, gradient=None))]
pub(crate) fn mse(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    with_element_type!(a, T => typed_mse::<T>(a, b, gradient))
}

fn typed_mse<T: Number>(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    gradient: Option<&Bound<'_, PyAny>>,
) -> PyResult<f64> {
    let py = a.py();
    let (a, b) = (read::<T>("a", a)?, read::<T>("b", b)?);
    let mut gradient = gradient.map(|g| write::<T>("gradient", g)).transpose()?;
    let (a, b) = (a.as_slice()?, b.as_slice()?);
    let gradient = gradient.as_mut().map(|g| g.as_slice_mut()).transpose()?;
    compute(py, |exec| metrics::mse(a, b, gradient, exec))
}

/// Peak signal-to-noise ratio in dB.
#[pyfunction]
pub(crate) fn psnr(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, data_range: f64) -> PyResult<f64> {
    Ok(metrics::psnr(mse(a, b, None)?, data_range))
}
