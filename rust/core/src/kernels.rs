//! The kernels, one module for each; [`total_variation`] also holds the objective that is
//! made of it and computed in the same pass.

pub mod batch_norm;
pub mod interleave;
pub mod mse;
pub mod nl_ridge;
pub mod normal;
pub mod resample;
pub mod ssim;
pub mod total_variation;
pub mod tv_denoise;
