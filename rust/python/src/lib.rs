//! Python bindings: arrays in, arrays filled, nothing computed here.

mod arrays;
mod ending;
mod metrics;
mod pool;
mod resample;
mod rof;
mod tv;

use pyo3::prelude::*;

/// Compiled kernels of dipfast; call them through `dipfast.ops`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::ending::end_in_time;
    #[pymodule_export]
    use super::metrics::{mse, structural_similarity};
    #[pymodule_export]
    use super::pool::threads_are_lost;
    #[pymodule_export]
    use super::resample::Resampler;
    #[pymodule_export]
    use super::rof::TvSolver;
    #[pymodule_export]
    use super::tv::{total_variation, tv_objective};

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::pool::prepare();
        Ok(())
    }

    /// Version of the project.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
