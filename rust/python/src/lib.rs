//! Python bindings of `dipfast_core`: arrays in, arrays filled, nothing computed here.
//!
//! Each kernel has a file of the name that it has in `dipfast_core::kernels`.

mod arrays;
mod blocks;
mod ending;
mod errors;
mod layers;
mod mse;
mod nl_ridge;
mod resample;
mod ssim;
mod threads;
mod total_variation;
mod tv_denoise;

use pyo3::prelude::*;

/// Compiled kernels of dipfast; call them through `dipfast.ops`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::blocks::keep_blocks;
    #[pymodule_export]
    use super::ending::end_in_time;
    #[pymodule_export]
    use super::layers::{
        add_normal, batch_norm, batch_norm_backward, interleave, interleave_backward, join_weights,
        split_weights,
    };
    #[pymodule_export]
    use super::mse::mse;
    #[pymodule_export]
    use super::nl_ridge::NlRidgePass;
    #[pymodule_export]
    use super::resample::Resampler;
    #[pymodule_export]
    use super::ssim::ssim;
    #[pymodule_export]
    use super::threads::threads_are_lost;
    #[pymodule_export]
    use super::total_variation::{total_variation, tv_objective};
    #[pymodule_export]
    use super::tv_denoise::TvDenoiser;

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::threads::prepare();
        Ok(())
    }

    /// Version of the project.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
