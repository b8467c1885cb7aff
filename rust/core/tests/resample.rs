//! Resampling against plain loops in double precision, on random shapes and layouts.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::num::NonZeroUsize;

use dipfast_core::Error;
use dipfast_core::exec::{Executor, Serial, Threads};
use dipfast_core::kernels::resample::{Filter, Phase, Resampler, Table};
use dipfast_core::mem::Layout;
use proptest::prelude::*;

fn table(limit: usize) -> impl Strategy<Value = Table> {
    let filter = prop_oneof![
        Just(Filter::Lanczos3),
        Just(Filter::Bicubic),
        Just(Filter::Bilinear),
        Just(Filter::Box),
    ];
    let resize = (filter, 1..limit, 1..limit)
        .prop_map(|(filter, inputs, results)| Table::resize(filter, inputs, results).unwrap());
    let down = (2..limit, 1..6_usize, any::<bool>()).prop_map(|(inputs, factor, half)| {
        let phase = if half { Phase::Half } else { Phase::Zero };
        Table::lanczos2(inputs, factor.min(inputs - 1), phase).unwrap()
    });
    (prop_oneof![resize, down], any::<bool>())
        .prop_map(|(table, adjoint)| if adjoint { table.transposed() } else { table })
}

/// The matrix of a table, row by row.
fn dense(table: &Table) -> Vec<Vec<f64>> {
    let row = |result| {
        let (first, weights) = table.row(result);
        let mut row = vec![0.0; table.inputs()];
        row[first..first + weights.len()].copy_from_slice(weights);
        row
    };
    (0..table.results()).map(row).collect()
}

fn wave(count: usize) -> Vec<f64> {
    (0..count).map(|k| (k as f64 * 0.7).sin()).collect()
}

fn apply(
    rows: &Table,
    columns: &Table,
    layout: Layout,
    x: &[f64],
    exec: &dyn Executor,
) -> Vec<f64> {
    let resampler = Resampler::<f64>::new(rows, columns);
    let mut y = vec![f64::NAN; resampler.result(layout).unwrap().len()];
    resampler.apply(x, layout, &mut y, exec).unwrap();
    y
}

proptest! {
    #[test]
    fn resampling_is_the_product_with_both_matrices(
        rows in table(30), columns in table(70), planes in 1..4_usize, channels in 1..4_usize,
    ) {
        let layout =
            Layout::interleaved(planes, rows.inputs(), columns.inputs(), channels).unwrap();
        let x = wave(layout.len());
        let y = apply(&rows, &columns, layout, &x, &Serial);
        let (r, c) = (dense(&rows), dense(&columns));
        let mut at = 0;
        for plane in 0..planes {
            for r in &r {
                for c in &c {
                    for channel in 0..channels {
                        let mut sum = 0.0;
                        for (i, r) in r.iter().enumerate() {
                            for (j, c) in c.iter().enumerate() {
                                let row = plane * rows.inputs() + i;
                                let pixel = row * columns.inputs() + j;
                                sum += r * c * x[pixel * channels + channel];
                            }
                        }
                        prop_assert!((y[at] - sum).abs() < 1e-12, "{} is not {}", y[at], sum);
                        at += 1;
                    }
                }
            }
        }
        prop_assert_eq!(at, y.len());
    }

    #[test]
    fn transposing_is_transposing(table in table(40)) {
        let (a, b) = (dense(&table), dense(&table.transposed()));
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                prop_assert_eq!(a[j].to_bits(), b[i].to_bits());
            }
        }
        prop_assert_eq!(dense(&table.transposed().transposed()), a);
    }

    #[test]
    fn weights_sum_to_one(inputs in 2..60_usize, results in 1..60_usize, factor in 1..9_usize) {
        let mut tables = vec![
            Table::resize(Filter::Lanczos3, inputs, results).unwrap(),
            Table::resize(Filter::Box, inputs, results).unwrap(),
        ];
        for phase in [Phase::Zero, Phase::Half] {
            tables.push(Table::lanczos2(inputs, factor.min(inputs - 1), phase).unwrap());
        }
        for table in tables {
            for result in 0..table.results() {
                let sum: f64 = table.row(result).1.iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-14);
            }
        }
    }

    /// What is not finite reaches the results that have a weight for it, and no other.
    #[test]
    fn nan_stays_where_it_is(rows in table(20), columns in table(60), at in 0..10_000_usize) {
        let layout = Layout::planar(1, rows.inputs(), columns.inputs()).unwrap();
        let mut x = wave(layout.len());
        let at = at % x.len();
        x[at] = f64::NAN;
        let y = apply(&rows, &columns, layout, &x, &Serial);
        let (r, c) = (dense(&rows), dense(&columns));
        for (k, y) in y.iter().enumerate() {
            let (i, j) = (k / columns.results(), k % columns.results());
            let weight = r[i][at / columns.inputs()] * c[j][at % columns.inputs()];
            if weight != 0.0 {
                prop_assert!(y.is_nan());
            } else if within(&r[i], at / columns.inputs()) && within(&c[j], at % columns.inputs()) {
                // A zero between weights is a weight too.
            } else {
                prop_assert!(!y.is_nan());
            }
        }
    }
}

/// Whether a place lies between the first and the last weight.
fn within(row: &[f64], at: usize) -> bool {
    row[..=at].iter().any(|&w| w != 0.0) && row[at..].iter().any(|&w| w != 0.0)
}

#[test]
fn same_bits_for_every_number_of_threads() {
    let rows = Table::lanczos2(300, 4, Phase::Half).unwrap();
    let columns = Table::resize(Filter::Bicubic, 301, 77).unwrap();
    for (rows, columns) in [
        (rows.clone(), columns.clone()),
        (rows.transposed(), columns.transposed()),
    ] {
        let layout = Layout::planar(3, rows.inputs(), columns.inputs()).unwrap();
        let x = wave(layout.len());
        let expected = apply(&rows, &columns, layout, &x, &Serial);
        for threads in [1, 2, 3, 8] {
            let threads = Threads(NonZeroUsize::new(threads).unwrap());
            assert!(apply(&rows, &columns, layout, &x, &threads) == expected);
        }
    }
}

#[test]
fn known_weights() {
    let table = Table::resize(Filter::Bilinear, 2, 4).unwrap();
    assert_eq!(table.row(0), (0, &[1.0][..]));
    assert_eq!(table.row(1), (0, &[0.75, 0.25][..]));
    // Beyond the border lies the border pixel again.
    let table = Table::lanczos2(1, 1, Phase::Zero).unwrap();
    assert_eq!(table.row(0), (0, &[1.0][..]));
}

#[test]
fn what_cannot_be_is_refused() {
    assert_eq!(
        Table::resize(Filter::Box, 0, 1),
        Err(Error::NotPositive("the number of inputs"))
    );
    assert!(Table::resize(Filter::Box, 1, 0).is_err());
    assert_eq!(
        Table::lanczos2(4, 0, Phase::Half),
        Err(Error::NotPositive("factor"))
    );
    // Nothing is left: the original refuses it too.
    assert!(Table::lanczos2(3, 3, Phase::Half).is_err());
    let table = Table::resize(Filter::Box, 4, 2).unwrap();
    let resampler = Resampler::<f32>::new(&table, &table);
    let layout = Layout::planar(1, 4, 4).unwrap();
    let (x, mut y) = ([0.0; 16], [0.0; 4]);
    assert!(resampler.apply(&x[1..], layout, &mut y, &Serial).is_err());
    assert!(resampler.apply(&x, layout, &mut y[1..], &Serial).is_err());
    let other = Layout::planar(1, 2, 8).unwrap();
    assert!(resampler.apply(&x, other, &mut y, &Serial).is_err());
    let nothing = Layout::planar(0, 4, 4).unwrap();
    assert_eq!(resampler.apply(&[], nothing, &mut [], &Serial), Ok(()));
}
