//! Bindings of what lies between the convolutions of a network:
//! `dipfast_core::kernels::{batch_norm, interleave, normal}`.

use dipfast_core::element::{Bf16, Value};
use dipfast_core::kernels;
use dipfast_core::kernels::batch_norm::{Border, Form, Geometry, Weights};
use numpy::{Element, PyArrayDyn, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{compute, read, write};
use crate::errors::input_error;

/// An element type of layers, as NumPy knows it: it has no type of 16 bits but with other digits.
trait Stored: Element {
    type Value: Value;
}
impl Stored for f32 {
    type Value = f32;
}
impl Stored for u16 {
    type Value = Bf16;
}

/// Returns numbers as the kernels take them.
fn values<T: Stored>(stored: &[T]) -> &[T::Value] {
    // SAFETY: a `Bf16` is a `u16`, by `repr(transparent)`, and an `f32` an `f32`.
    unsafe { std::slice::from_raw_parts(stored.as_ptr().cast(), stored.len()) }
}

/// Returns numbers as the kernels fill them.
fn values_mut<T: Stored>(stored: &mut [T]) -> &mut [T::Value] {
    // SAFETY: as in `values`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(stored.as_mut_ptr().cast(), stored.len()) }
}

/// Runs the expression with `$t` set to the element type of a layer.
macro_rules! with_layer_type {
    ($array:expr, $t:ident => $body:expr) => {
        if $array.is_instance_of::<PyArrayDyn<u16>>() {
            type $t = u16;
            $body
        } else {
            type $t = f32;
            $body
        }
    };
}

/// Normalise, activate and pad a layer: fill `v` and `statistics`.
///
/// Layers are float32, or the bits of bfloat16 as uint16, (N, H, W, C).
#[pyfunction]
#[pyo3(signature = (x, weights, v, statistics, *, slope, epsilon, crop, pad, reflect))]
#[allow(clippy::too_many_arguments, reason = "those of the kernel")]
pub(crate) fn batch_norm(
    x: &Bound<'_, PyAny>,
    weights: Vec<Bound<'_, PyAny>>,
    v: &Bound<'_, PyAny>,
    statistics: &Bound<'_, PyAny>,
    slope: f32,
    epsilon: f32,
    crop: usize,
    pad: usize,
    reflect: bool,
) -> PyResult<()> {
    with_layer_type!(x, T => {
        let x = read::<T>("x", x)?;
        let geometry = geometry(&x, crop, pad, reflect)?;
        let mut v = write::<T>("v", v)?;
        let mut statistics = write::<f32>("statistics", statistics)?;
        let vectors = vectors(&weights)?;
        let (input, output) = (values(x.as_slice()?), values_mut(v.as_slice_mut()?));
        let statistics = statistics.as_slice_mut()?;
        let weights = as_weights(&vectors)?;
        let form = Form { slope, epsilon };
        compute(x.py(), |exec| {
            kernels::batch_norm::forward(input, geometry, weights, form, statistics, output, exec)
        })
    })
}

/// Fill the gradients of `batch_norm` in x and in the weights.
#[pyfunction]
#[pyo3(signature = (
    of_v, x, weights, statistics, of_x, of_weights, *, slope, epsilon, crop, pad, reflect
))]
#[allow(clippy::too_many_arguments, reason = "those of the kernel")]
pub(crate) fn batch_norm_backward(
    of_v: &Bound<'_, PyAny>,
    x: &Bound<'_, PyAny>,
    weights: Vec<Bound<'_, PyAny>>,
    statistics: &Bound<'_, PyAny>,
    of_x: &Bound<'_, PyAny>,
    of_weights: &Bound<'_, PyAny>,
    slope: f32,
    epsilon: f32,
    crop: usize,
    pad: usize,
    reflect: bool,
) -> PyResult<()> {
    with_layer_type!(x, T => {
        let (x, of_v) = (read::<T>("x", x)?, read::<T>("of_v", of_v)?);
        let geometry = geometry(&x, crop, pad, reflect)?;
        let mut of_x = write::<T>("of_x", of_x)?;
        let statistics = read::<f32>("statistics", statistics)?;
        let mut of_weights = write::<f32>("of_weights", of_weights)?;
        let vectors = vectors(&weights)?;
        let (gradient, input) = (values(of_v.as_slice()?), values(x.as_slice()?));
        let (of_x, of_weights) = (values_mut(of_x.as_slice_mut()?), of_weights.as_slice_mut()?);
        let statistics = statistics.as_slice()?;
        let weights = as_weights(&vectors)?;
        let form = Form { slope, epsilon };
        compute(x.py(), |exec| {
            kernels::batch_norm::backward(
                gradient, input, geometry, weights, form, statistics, of_x, of_weights, exec,
            )
        })
    })
}

/// Add the four results a pixel of a coarse layer to a layer of twice its size: fill `out`.
#[pyfunction]
pub(crate) fn interleave(
    fine: &Bound<'_, PyAny>,
    coarse: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    with_layer_type!(fine, T => {
        let (fine, coarse) = (read::<T>("fine", fine)?, read::<T>("coarse", coarse)?);
        let mut out = write::<T>("out", out)?;
        let shape = shape(&fine)?;
        let (py, output) = (fine.py(), values_mut(out.as_slice_mut()?));
        let (fine, coarse) = (values(fine.as_slice()?), values(coarse.as_slice()?));
        compute(py, |exec| kernels::interleave::forward(fine, coarse, shape, output, exec))
    })
}

/// Fill the gradient of `interleave` in the coarse layer.
#[pyfunction]
pub(crate) fn interleave_backward(
    gradient: &Bound<'_, PyAny>,
    of_coarse: &Bound<'_, PyAny>,
) -> PyResult<()> {
    with_layer_type!(gradient, T => {
        let gradient = read::<T>("gradient", gradient)?;
        let mut of_coarse = write::<T>("of_coarse", of_coarse)?;
        let shape = shape(&gradient)?;
        let (py, output) = (gradient.py(), values_mut(of_coarse.as_slice_mut()?));
        let gradient = values(gradient.as_slice()?);
        compute(py, |exec| kernels::interleave::backward(gradient, shape, output, exec))
    })
}

/// Split 3x3 weights (K, 3, 3, F + C) in two: fill `of_fine` (K, 3, 3, F) and `of_coarse`
/// (4 K, 2, 2, C).
#[pyfunction]
pub(crate) fn split_weights(
    weights: &Bound<'_, PyAny>,
    of_fine: &Bound<'_, PyAny>,
    of_coarse: &Bound<'_, PyAny>,
) -> PyResult<()> {
    with_layer_type!(of_coarse, T => {
        let weights = read::<f32>("weights", weights)?;
        let mut of_fine = write::<T>("of_fine", of_fine)?;
        let mut of_coarse = write::<T>("of_coarse", of_coarse)?;
        let sizes = (shape_of(of_fine.shape())?, shape_of(of_coarse.shape())?);
        let shape = [sizes.0[0], sizes.0[3], sizes.1[3]];
        let (py, weights) = (weights.py(), weights.as_slice()?);
        let (fine, coarse) = (of_fine.as_slice_mut()?, of_coarse.as_slice_mut()?);
        let (fine, coarse) = (values_mut(fine), values_mut(coarse));
        compute(py, |exec| {
            kernels::interleave::split_weights(weights, shape, fine, coarse, exec)
        })
    })
}

/// Fill the gradient of `split_weights` in the weights.
#[pyfunction]
pub(crate) fn join_weights(
    of_fine: &Bound<'_, PyAny>,
    of_coarse: &Bound<'_, PyAny>,
    gradient: &Bound<'_, PyAny>,
) -> PyResult<()> {
    with_layer_type!(of_coarse, T => {
        let (of_fine, of_coarse) = (read::<T>("of_fine", of_fine)?, read::<T>("of_coarse", of_coarse)?);
        let mut gradient = write::<f32>("gradient", gradient)?;
        let sizes = (shape(&of_fine)?, shape(&of_coarse)?);
        let shape = [sizes.0[0], sizes.0[3], sizes.1[3]];
        let (py, fine) = (of_fine.py(), values(of_fine.as_slice()?));
        let (coarse, gradient) = (values(of_coarse.as_slice()?), gradient.as_slice_mut()?);
        compute(py, |exec| {
            kernels::interleave::join_weights(fine, coarse, shape, gradient, exec)
        })
    })
}

/// Fill `out` with z + level n, n the normal numbers of (seed, iteration, index).
#[pyfunction]
pub(crate) fn add_normal(
    z: PyReadonlyArrayDyn<'_, f32>,
    level: f32,
    seed: u64,
    iteration: u64,
    mut out: PyReadwriteArrayDyn<'_, f32>,
) -> PyResult<()> {
    let (py, z, out) = (z.py(), z.as_slice()?, out.as_slice_mut()?);
    compute(py, |exec| {
        kernels::normal::add_normal(z, level, seed, iteration, out, exec)
    })
}

/// Returns the four sizes of a layer.
fn shape<T: Element>(layer: &PyReadonlyArrayDyn<'_, T>) -> PyResult<[usize; 4]> {
    shape_of(layer.shape())
}

fn shape_of(shape: &[usize]) -> PyResult<[usize; 4]> {
    <[usize; 4]>::try_from(shape)
        .map_err(|_| input_error(format!("a layer must be (N, H, W, C), got shape {shape:?}")))
}

/// Returns the geometry of a layer whose margin does not count.
fn geometry<T: Element>(
    layer: &PyReadonlyArrayDyn<'_, T>,
    crop: usize,
    pad: usize,
    reflect: bool,
) -> PyResult<Geometry> {
    let [images, rows, columns, channels] = shape(layer)?;
    let inner = |size: usize| {
        let inner = crop
            .checked_mul(2)
            .and_then(|margin| size.checked_sub(margin));
        inner.ok_or_else(|| input_error(format!("crop {crop} leaves nothing of {size} rows")))
    };
    Ok(Geometry {
        images,
        rows: inner(rows)?,
        columns: inner(columns)?,
        channels,
        crop,
        pad,
        border: if reflect {
            Border::Reflect
        } else {
            Border::Edge
        },
    })
}

fn vectors<'py>(weights: &[Bound<'py, PyAny>]) -> PyResult<Vec<PyReadonlyArrayDyn<'py, f32>>> {
    weights.iter().map(|w| read::<f32>("weights", w)).collect()
}

/// Returns two or four vectors as the weights of one or two normalisations.
fn as_weights<'a>(vectors: &'a [PyReadonlyArrayDyn<'_, f32>]) -> PyResult<Weights<'a>> {
    let slices: Vec<&[f32]> = vectors
        .iter()
        .map(|v| v.as_slice().map_err(PyErr::from))
        .collect::<PyResult<_>>()?;
    match *slices.as_slice() {
        [weight, bias] => Ok(Weights {
            first: [weight, bias],
            second: None,
        }),
        [weight, bias, weight2, bias2] => Ok(Weights {
            first: [weight, bias],
            second: Some([weight2, bias2]),
        }),
        _ => Err(input_error(format!(
            "weights must be 2 or 4 vectors, got {}",
            slices.len()
        ))),
    }
}
