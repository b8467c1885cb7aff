//! Bindings of `dipfast_core::kernels::nl_ridge`.

use dipfast_core::kernels::nl_ridge::{self, Filters, Parameters, Pictures, Size};
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{compute, read, write};
use crate::errors::input_error;

/// One pass of NL-Ridge over pictures of one size: channels, slices, rows, columns.
#[pyclass(module = "dipfast._native", frozen)]
pub(crate) struct NlRidgePass {
    size: Size,
    parameters: Parameters,
}

#[pymethods]
impl NlRidgePass {
    #[new]
    #[pyo3(signature = (
        shape, *, patch, group, reach, slices_reach=0, step, share=0.05, centred=false,
        filters="patches"
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        shape: [usize; 4],
        patch: usize,
        group: usize,
        reach: usize,
        slices_reach: usize,
        step: usize,
        share: f32,
        centred: bool,
        filters: &str,
    ) -> PyResult<Self> {
        let [channels, slices, rows, columns] = shape;
        let filters = match filters {
            "patches" => Filters::Patches,
            "values" => Filters::Values,
            "both" => Filters::Both,
            _ => {
                return Err(input_error(format!(
                    "filters must be patches, values or both, got {filters:?}"
                )));
            }
        };
        Ok(Self {
            size: Size {
                channels,
                slices,
                rows,
                columns,
            },
            parameters: Parameters {
                patch,
                group,
                reach,
                slices_reach,
                step,
                share,
                centred,
                filters,
            },
        })
    }

    /// The number of tiles of the pass.
    #[getter]
    fn tiles(&self) -> usize {
        nl_ridge::tiles(self.size, self.parameters)
    }

    /// Add the denoised patches of some tiles to `sums`, and their weights to `weights`.
    #[pyo3(signature = (
        noisy, guide, covariance, sums, weights, *, first, count, guide_covariance=None,
        pilot=None, gain=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn add(
        &self,
        noisy: &Bound<'_, PyAny>,
        guide: &Bound<'_, PyAny>,
        covariance: &Bound<'_, PyAny>,
        sums: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
        first: usize,
        count: usize,
        guide_covariance: Option<&Bound<'_, PyAny>>,
        pilot: Option<&Bound<'_, PyAny>>,
        gain: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = noisy.py();
        let noisy = read::<f32>("noisy", noisy)?;
        let guide = read::<f32>("guide", guide)?;
        let covariance = read::<f32>("covariance", covariance)?;
        let guide_covariance = guide_covariance
            .map(|x| read::<f32>("guide_covariance", x))
            .transpose()?;
        let pilot = pilot.map(|x| read::<f32>("pilot", x)).transpose()?;
        let gain = gain.map(|x| read::<f32>("gain", x)).transpose()?;
        let mut sums = write::<f32>("sums", sums)?;
        let mut weights = write::<f32>("weights", weights)?;
        if covariance.shape().first() != Some(&self.size.channels) {
            return Err(input_error(format!(
                "covariance must have a square for each channel, got shape {:?}",
                covariance.shape()
            )));
        }
        let pictures = Pictures {
            noisy: noisy.as_slice()?,
            pilot: pilot.as_ref().map(|x| x.as_slice()).transpose()?,
            guide: guide.as_slice()?,
            guide_covariance: guide_covariance
                .as_ref()
                .map(|x| x.as_slice())
                .transpose()?,
            gain: gain.as_ref().map(|x| x.as_slice()).transpose()?,
            covariance: covariance.as_slice()?,
        };
        let (sums, weights) = (sums.as_slice_mut()?, weights.as_slice_mut()?);
        let which = first..first.saturating_add(count);
        compute(py, |exec| {
            nl_ridge::nl_ridge(
                pictures,
                self.size,
                self.parameters,
                which,
                sums,
                weights,
                exec,
            )
        })
    }
}
