//! Bindings of `dipfast_core::rof`.

use dipfast_core::rof::{Norm, Solver};
use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Number, compute, layout, read, with_element_type, write};

/// Total-variation denoising: a problem, and how far its solution has come.
///
/// f has its channels before its rows and columns (or slices, rows and columns); so many
/// consecutive `channels` share their norm.  `dual` is that of a former solution.
#[pyclass(module = "dipfast._native", frozen)]
pub(crate) struct TvSolver(std::sync::Mutex<AnySolver>);

enum AnySolver {
    Single(Solver<f32>),
    Double(Solver<f64>),
}

/// A type that a solver is made for.
trait Solved: Number {
    fn wrap(solver: Solver<Self>) -> AnySolver
    where
        Self: Sized;
}

impl Solved for f32 {
    fn wrap(solver: Solver<Self>) -> AnySolver {
        AnySolver::Single(solver)
    }
}

impl Solved for f64 {
    fn wrap(solver: Solver<Self>) -> AnySolver {
        AnySolver::Double(solver)
    }
}

/// Runs the expression with `$solver` bound to the solver, whatever its type.
macro_rules! with_solver {
    ($any:expr, $solver:ident => $body:expr) => {
        match $any {
            AnySolver::Single($solver) => $body,
            AnySolver::Double($solver) => $body,
        }
    };
}

#[pymethods]
impl TvSolver {
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
                return Err(PyValueError::new_err(format!(
                    "kind must be isotropic, or anisotropic with 1 channel, got {kind:?} with \
                     {channels}"
                )));
            }
        };
        with_element_type!(f, T => typed_new::<T>(f, weight, norm, spatial_dims, dual))
    }

    /// Makes this many iterations.
    fn advance(&self, py: Python<'_>, iterations: usize) -> PyResult<()> {
        compute(py, |exec| {
            let mut any = self.lock();
            with_solver!(&mut *any, solver => solver.advance(iterations, exec));
            Ok(())
        })
    }

    /// Relative upper bound on how far the objective is above the optimum; NaN if f is not
    /// finite.
    fn gap(&self, py: Python<'_>) -> PyResult<f64> {
        compute(py, |exec| {
            let any = self.lock();
            Ok(with_solver!(&*any, solver => solver.gap(exec)))
        })
    }

    /// Fills an array of the size of f with the image.
    fn image(&self, out: &Bound<'_, PyAny>) -> PyResult<()> {
        self.export(out, false)
    }

    /// Fills an array of the size of f for each axis, the last axis last, with the dual
    /// variable.
    fn dual(&self, out: &Bound<'_, PyAny>) -> PyResult<()> {
        self.export(out, true)
    }
}

impl TvSolver {
    fn lock(&self) -> std::sync::MutexGuard<'_, AnySolver> {
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
                    AnySolver::Single(solver) if dual => solver.dual(out, exec).map(|()| true),
                    AnySolver::Single(solver) => solver.image(out, exec).map(|()| true),
                    AnySolver::Double(_) => Ok(false),
                })
            }
            _ => {
                let mut out = write::<f64>("out", out)?;
                let out = out.as_slice_mut()?;
                compute(py, |exec| match &*self.lock() {
                    AnySolver::Double(solver) if dual => solver.dual(out, exec).map(|()| true),
                    AnySolver::Double(solver) => solver.image(out, exec).map(|()| true),
                    AnySolver::Single(_) => Ok(false),
                })
            }
        }?
        .then_some(())
        .ok_or_else(|| pyo3::exceptions::PyTypeError::new_err("out must have the dtype of f"))
    }
}

fn typed_new<T: Solved>(
    f: &Bound<'_, PyAny>,
    weight: f64,
    norm: Norm,
    spatial_dims: usize,
    dual: Option<&Bound<'_, PyAny>>,
) -> PyResult<TvSolver> {
    let py = f.py();
    let f = read::<T>("f", f)?;
    let layout = layout(f.shape(), spatial_dims, false)?;
    let dual = dual.map(|dual| read::<T>("dual", dual)).transpose()?;
    let f = f.as_slice()?;
    let dual = dual.as_ref().map(|dual| dual.as_slice()).transpose()?;
    let solver = compute(py, |exec| Solver::new(f, layout, norm, weight, dual, exec))?;
    Ok(TvSolver(std::sync::Mutex::new(T::wrap(solver))))
}
