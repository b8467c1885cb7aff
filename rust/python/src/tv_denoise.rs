//! Bindings of `dipfast_core::kernels::tv_denoise`.

use dipfast_core::kernels::tv_denoise::{self, Norm};
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{Number, compute, layout, read, with_element_type, write};
use crate::errors::{input_error, input_type_error};

/// A problem of total-variation denoising, and the present state of its solution.
///
/// The image f has its channels in front of its rows and columns (or slices, rows and columns);
/// each group of `channels` consecutive planes shares one norm.  `dual` is the dual variable of
/// a former solution to start from.
#[pyclass(module = "dipfast._native", frozen)]
pub(crate) struct TvDenoiser(std::sync::Mutex<Typed>);

enum Typed {
    Single(tv_denoise::TvDenoiser<f32>),
    Double(tv_denoise::TvDenoiser<f64>),
}

/// An element type that there is a denoiser for.
trait Element: Number {
    fn wrap(denoiser: tv_denoise::TvDenoiser<Self>) -> Typed
    where
        Self: Sized;
}

impl Element for f32 {
    fn wrap(denoiser: tv_denoise::TvDenoiser<Self>) -> Typed {
        Typed::Single(denoiser)
    }
}

impl Element for f64 {
    fn wrap(denoiser: tv_denoise::TvDenoiser<Self>) -> Typed {
        Typed::Double(denoiser)
    }
}

/// Runs the expression with `$denoiser` bound to the denoiser, whatever its type.
macro_rules! with_denoiser {
    ($any:expr, $denoiser:ident => $body:expr) => {
        match $any {
            Typed::Single($denoiser) => $body,
            Typed::Double($denoiser) => $body,
        }
    };
}

#[pymethods]
impl TvDenoiser {
    #[new]
    #[pyo3(signature = (f, weight, *, kind="isotropic", spatial_dims=2, channels=1, dual=None))]
    fn new(
        f: &Bound<'_, PyAny>,
        weight: f64,
        kind: &str,
        spatial_dims: usize,
        channels: usize,
        dual: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let norm = match (kind, channels) {
            ("anisotropic", 1) => Norm::Anisotropic,
            ("isotropic", 1) => Norm::Isotropic,
            ("isotropic", 2..) => Norm::Joint { channels },
            _ => {
                return Err(input_error(format!(
                    "kind must be isotropic, or anisotropic with 1 channel, got {kind:?} with \
                     {channels}"
                )));
            }
        };
        with_element_type!(f, T => typed_new::<T>(f, weight, norm, spatial_dims, dual))
    }

    /// Make this many iterations.
    fn advance(&self, py: Python<'_>, iterations: usize) -> PyResult<()> {
        compute(py, |exec| {
            let mut any = self.lock();
            with_denoiser!(&mut *any, denoiser => denoiser.advance(iterations, exec));
            Ok(())
        })
    }

    /// Return the relative gap, an upper bound on how far the objective is above the optimum; NaN
    /// if f is not finite.
    fn gap(&self, py: Python<'_>) -> PyResult<f64> {
        compute(py, |exec| {
            let any = self.lock();
            Ok(with_denoiser!(&*any, denoiser => denoiser.gap(exec)))
        })
    }

    /// Fill an array of the size of f with the image.
    fn image(&self, out: &Bound<'_, PyAny>) -> PyResult<()> {
        self.export(out, false)
    }

    /// Fill an array with the dual variable: one image of the size of f for each axis, the last
    /// axis last.
    fn dual(&self, out: &Bound<'_, PyAny>) -> PyResult<()> {
        self.export(out, true)
    }
}

impl TvDenoiser {
    fn lock(&self) -> std::sync::MutexGuard<'_, Typed> {
        // After a panic, which has been reported, the values are still numbers.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn export(&self, out: &Bound<'_, PyAny>, dual: bool) -> PyResult<()> {
        let py = out.py();
        match with_element_type!(out, T => size_of::<T>()) {
            4 => {
                let mut out = write::<f32>("out", out)?;
                let out = out.as_slice_mut()?;
                compute(py, |exec| match &*self.lock() {
                    Typed::Single(denoiser) if dual => denoiser.dual(out, exec).map(|()| true),
                    Typed::Single(denoiser) => denoiser.image(out, exec).map(|()| true),
                    Typed::Double(_) => Ok(false),
                })
            }
            _ => {
                let mut out = write::<f64>("out", out)?;
                let out = out.as_slice_mut()?;
                compute(py, |exec| match &*self.lock() {
                    Typed::Double(denoiser) if dual => denoiser.dual(out, exec).map(|()| true),
                    Typed::Double(denoiser) => denoiser.image(out, exec).map(|()| true),
                    Typed::Single(_) => Ok(false),
                })
            }
        }?
        .then_some(())
        .ok_or_else(|| input_type_error("out must have the dtype of f".to_owned()))
    }
}

fn typed_new<T: Element>(
    f: &Bound<'_, PyAny>,
    weight: f64,
    norm: Norm,
    spatial_dims: usize,
    dual: Option<&Bound<'_, PyAny>>,
) -> PyResult<TvDenoiser> {
    let py = f.py();
    let f = read::<T>("f", f)?;
    let layout = layout(f.shape(), spatial_dims, false)?;
    let dual = dual.map(|dual| read::<T>("dual", dual)).transpose()?;
    let f = f.as_slice()?;
    let dual = dual.as_ref().map(|dual| dual.as_slice()).transpose()?;
    let denoiser = compute(py, |exec| {
        tv_denoise::TvDenoiser::new(f, layout, norm, weight, dual, exec)
    })?;
    Ok(TvDenoiser(std::sync::Mutex::new(T::wrap(denoiser))))
}
