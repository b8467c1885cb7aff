//! Bindings of `dipfast_core::kernels::resample`.

use dipfast_core::kernels::resample::{self, Filter, Phase, Table};
use numpy::{PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{Number, compute, layout, read, with_element_type, write};
use crate::errors::{from_core, input_error};

/// The resampling of images of `size` to images of `result`, with all its weights.
///
/// `factor` and `phase` are for "lanczos2" only; they determine the size of the result, which
/// `result` must equal.  With `adjoint` it is the adjoint map, which takes images of `result` to
/// images of `size`.
#[pyclass(frozen, module = "dipfast._native")]
pub(crate) struct Resampler {
    rows: Table,
    columns: Table,
    single: resample::Resampler<f32>,
    double: resample::Resampler<f64>,
}

type Matrix<'py> = Bound<'py, PyArray2<f64>>;

/// An element type that a resampler has weights of.
trait Typed: Number {
    /// Returns the weights of this type.
    fn of(resampler: &Resampler) -> &resample::Resampler<Self>;
}

impl Typed for f32 {
    fn of(resampler: &Resampler) -> &resample::Resampler<Self> {
        &resampler.single
    }
}

impl Typed for f64 {
    fn of(resampler: &Resampler) -> &resample::Resampler<Self> {
        &resampler.double
    }
}

#[pymethods]
impl Resampler {
    #[new]
    #[pyo3(signature = (kernel, size, result, *, factor=1, phase=0.5, adjoint=false))]
    fn new(
        kernel: &str,
        size: (usize, usize),
        result: (usize, usize),
        factor: usize,
        phase: f64,
        adjoint: bool,
    ) -> PyResult<Self> {
        let axis = |inputs, results| table(kernel, inputs, results, factor, phase);
        let (mut rows, mut columns) = (axis(size.0, result.0)?, axis(size.1, result.1)?);
        if adjoint {
            (rows, columns) = (rows.transposed(), columns.transposed());
        }
        Ok(Self {
            single: resample::Resampler::new(&rows, &columns),
            double: resample::Resampler::new(&rows, &columns),
            rows,
            columns,
        })
    }

    /// Fill `y` with the resampled images `x`.
    #[pyo3(signature = (x, y, *, channels_last=false))]
    fn apply(
        &self,
        x: &Bound<'_, PyAny>,
        y: &Bound<'_, PyAny>,
        channels_last: bool,
    ) -> PyResult<()> {
        with_element_type!(x, T => self.typed_apply::<T>(x, y, channels_last))
    }

    /// Return the matrices R and C of Y = R X C', in double precision.
    fn matrices<'py>(&self, py: Python<'py>) -> PyResult<(Matrix<'py>, Matrix<'py>)> {
        Ok((matrix(py, &self.rows)?, matrix(py, &self.columns)?))
    }
}

impl Resampler {
    fn typed_apply<T: Typed>(
        &self,
        x: &Bound<'_, PyAny>,
        y: &Bound<'_, PyAny>,
        channels_last: bool,
    ) -> PyResult<()> {
        let py = x.py();
        let (x, mut y) = (read::<T>("x", x)?, write::<T>("y", y)?);
        let layout = layout(x.shape(), 2, channels_last)?;
        let (x, y) = (x.as_slice()?, y.as_slice_mut()?);
        compute(py, |exec| T::of(self).apply(x, layout, y, exec))
    }
}

/// Returns the weights along one axis.
fn table(
    kernel: &str,
    inputs: usize,
    results: usize,
    factor: usize,
    phase: f64,
) -> PyResult<Table> {
    let filter = match kernel {
        "lanczos2" => {
            let phase = if phase == 0.0 {
                Phase::Zero
            } else if phase == 0.5 {
                Phase::Half
            } else {
                return Err(input_error(format!("phase must be 0 or 0.5, got {phase}")));
            };
            let table = Table::lanczos2(inputs, factor, phase).map_err(from_core)?;
            if table.results() != results {
                return Err(input_error(format!(
                    "result must be {} for {inputs} pixels, got {results}",
                    table.results()
                )));
            }
            return Ok(table);
        }
        "lanczos3" => Filter::Lanczos3,
        "bicubic" => Filter::Bicubic,
        "bilinear" => Filter::Bilinear,
        "box" => Filter::Box,
        _ => {
            return Err(input_error(format!(
                "kernel must be lanczos2, lanczos3, bicubic, bilinear or box, got '{kernel}'"
            )));
        }
    };
    Table::resize(filter, inputs, results).map_err(from_core)
}

/// Returns the weights along one axis as a dense matrix.
fn matrix<'py>(py: Python<'py>, table: &Table) -> PyResult<Matrix<'py>> {
    let matrix = PyArray2::<f64>::zeros(py, [table.results(), table.inputs()], false);
    {
        let mut rows = matrix.try_readwrite()?;
        let rows = rows.as_slice_mut()?.chunks_mut(table.inputs());
        for (result, row) in rows.enumerate() {
            let (first, weights) = table.row(result);
            row[first..first + weights.len()].copy_from_slice(weights);
        }
    }
    Ok(matrix)
}
