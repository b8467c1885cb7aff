//! The inputs of every result along one axis, and their weights.

use std::f64::consts::PI;
use std::ops::Range;

use crate::element::Float;
use crate::error::{Error, check_positive};

/// A linear map along one axis whose results are weighted sums of consecutive inputs.
///
/// It holds the rows of a banded matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Table<T = f64> {
    inputs: usize,
    spans: Vec<Span>,
    weights: Vec<T>,
}

/// The first input of one result, and the part of the weights that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: usize,
    from: usize,
    to: usize,
}

/// An interpolation kernel, antialiased: stretched by the factor where the image shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// sinc(x) sinc(x / 3) for |x| < 3.
    Lanczos3,
    /// Keys' cubic with a = -1/2.
    Bicubic,
    /// 1 - |x| for |x| < 1.
    Bilinear,
    /// 1 for -1/2 < x <= 1/2.
    Box,
}

/// The position of the samples that remain when every `factor`-th is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// On the first pixel of each group.
    Zero,
    /// Between the pixels of each group.
    Half,
}

impl Filter {
    /// Returns the distance from which on the kernel is 0.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos3 => 3.0,
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
            Self::Box => 0.5,
        }
    }

    /// Returns the kernel at a distance.
    fn value(self, x: f64) -> f64 {
        match self {
            Self::Lanczos3 => lanczos(x, 3.0),
            Self::Bicubic => {
                let x = x.abs();
                if x < 1.0 {
                    (1.5 * x - 2.5) * x * x + 1.0
                } else if x < 2.0 {
                    ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
                } else {
                    0.0
                }
            }
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
        }
    }
}

/// Returns sinc(x) sinc(x / a) for |x| < a, else 0.
fn lanczos(x: f64, a: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else if x.abs() >= a {
        0.0
    } else {
        a * (PI * x).sin() * (PI * x / a).sin() / (PI * PI * x * x)
    }
}

impl Table {
    /// Returns the table of resizing as Pillow does it: pixels are squares, the kernel is stretched
    /// where the axis shrinks and cut off at the border, and its weights are scaled to the sum 1.
    ///
    /// # Errors
    /// [`Error::NotPositive`] if a size is 0.
    pub fn resize(filter: Filter, inputs: usize, results: usize) -> Result<Self, Error> {
        check_positive("the number of inputs", inputs)?;
        check_positive("the number of results", results)?;
        let scale = inputs as f64 / results as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let mut table = Builder::new(inputs, results);
        for result in 0..results {
            let center = (result as f64 + 0.5) * scale;
            // `as` cuts off the fraction and takes 0 for what is negative.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(inputs);
            table.push(first, first..end, |input| {
                filter.value((input as f64 - center + 0.5) * (1.0 / stretch))
            });
        }
        Ok(table.finish())
    }

    /// Returns the table of Lanczos-2 down-sampling as in Deep Image Prior: the weights are the
    /// same for all results, and the border pixel stands for the pixels beyond the border.
    ///
    /// # Errors
    /// [`Error::NotPositive`] if a size is 0, or the factor, or if nothing would be left.
    pub fn lanczos2(inputs: usize, factor: usize, phase: Phase) -> Result<Self, Error> {
        check_positive("the number of inputs", inputs)?;
        check_positive("factor", factor)?;
        let (width, padding) = match phase {
            Phase::Zero => (4 * factor + 1, 2 * factor),
            Phase::Half => (4 * factor, (4 * factor - factor) / 2),
        };
        let results = (inputs + 2 * padding)
            .checked_sub(width)
            .map_or(0, |rest| rest / factor + 1);
        check_positive("the number of results", results)?;
        let middle = (width as f64 - 1.0) / 2.0;
        let weights: Vec<f64> = (0..width)
            .map(|k| lanczos((k as f64 - middle) / factor as f64, 2.0))
            .collect();
        let last = inputs - 1;
        let mut table = Builder::new(inputs, results);
        let mut sums = Vec::new();
        for result in 0..results {
            let input = |k: usize| (result * factor + k).saturating_sub(padding).min(last);
            let first = input(0);
            sums.clear();
            sums.resize(input(width - 1) + 1 - first, 0.0);
            for (k, weight) in weights.iter().enumerate() {
                sums[input(k) - first] += weight;
            }
            table.push(first, first..first + sums.len(), |input| {
                sums[input - first]
            });
        }
        Ok(table.finish())
    }

    /// Returns the table of the adjoint map, whose inputs are the results of this one.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut bounds = vec![(usize::MAX, 0); self.inputs];
        for result in 0..self.results() {
            let (first, weights) = self.row(result);
            for (from, to) in &mut bounds[first..first + weights.len()] {
                *from = (*from).min(result);
                *to = result + 1;
            }
        }
        let mut table = Builder::new(self.results(), self.inputs);
        for (input, (from, to)) in bounds.into_iter().enumerate() {
            table.push_as_it_is(from.min(to), from..to, |result| {
                let (first, weights) = self.row(result);
                let weight = input.checked_sub(first).and_then(|k| weights.get(k));
                weight.copied().unwrap_or(0.0)
            });
        }
        table.finish()
    }

    /// Returns the same table with weights of another type.
    pub(super) fn cast<T: Float>(&self) -> Table<T> {
        Table {
            inputs: self.inputs,
            spans: self.spans.clone(),
            weights: self.weights.iter().map(|&w| T::from_f64(w)).collect(),
        }
    }
}

impl<T> Table<T> {
    /// Returns the number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of results.
    #[must_use]
    pub fn results(&self) -> usize {
        self.spans.len()
    }

    /// Returns the first input of a result, and the weights of this and of the following inputs.
    #[inline(always)]
    #[must_use]
    pub fn row(&self, result: usize) -> (usize, &[T]) {
        let Span { first, from, to } = self.spans[result];
        (first, &self.weights[from..to])
    }

    /// Returns the inputs that some results need.
    pub(super) fn needed(&self, results: Range<usize>) -> Range<usize> {
        let spans = self.spans[results].iter();
        spans
            .filter(|span| span.from < span.to)
            .map(|span| span.first..span.first + (span.to - span.from))
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }

    /// Returns the number of all weights.
    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }
}

/// A table to which results are added one after the other.
struct Builder(Table);

impl Builder {
    fn new(inputs: usize, results: usize) -> Self {
        Self(Table {
            inputs,
            spans: Vec::with_capacity(results),
            weights: Vec::new(),
        })
    }

    /// Adds a result with weights that are scaled to the sum 1; zeros at the ends are left out.
    fn push(&mut self, first: usize, inputs: Range<usize>, weight: impl Fn(usize) -> f64) {
        let sum: f64 = inputs.clone().map(&weight).sum();
        let scale = if sum == 0.0 { 1.0 } else { 1.0 / sum };
        self.push_as_it_is(first, inputs, |input| weight(input) * scale);
    }

    /// Adds a result with weights that are not scaled.
    fn push_as_it_is(&mut self, first: usize, inputs: Range<usize>, weight: impl Fn(usize) -> f64) {
        let from = self.0.weights.len();
        let before = inputs.clone().take_while(|&k| weight(k) == 0.0).count();
        self.0.weights.extend(inputs.skip(before).map(weight));
        while self.0.weights.len() > from && self.0.weights.last() == Some(&0.0) {
            self.0.weights.pop();
        }
        let to = self.0.weights.len();
        let first = if to > from { first + before } else { 0 };
        self.0.spans.push(Span { first, from, to });
    }

    /// Returns the table.
    fn finish(self) -> Table {
        self.0
    }
}
