//! Penalties of the differences at a pixel, and their derivatives.

use crate::element::Float;

/// A penalty of the differences at a pixel along x, y and z.
pub(super) trait Penalty<T>: Copy + Send + Sync {
    /// Whether the derivative by a difference depends on the differences along other axes too.
    const LAGGED: bool;
    /// Returns the penalty and its derivative by each of the differences.
    fn cost(self, d: [T; 3]) -> (T, [T; 3]);
}

/// The penalty sum |d_k|.
#[derive(Clone, Copy)]
pub(super) struct Anisotropic;

impl<T: Float> Penalty<T> for Anisotropic {
    const LAGGED: bool = false;

    #[inline(always)]
    fn cost(self, [x, y, z]: [T; 3]) -> (T, [T; 3]) {
        (x.abs() + y.abs() + z.abs(), [x.sign(), y.sign(), z.sign()])
    }
}

/// The penalty sqrt(|d|^2 + epsilon^2) - epsilon.
#[derive(Clone, Copy)]
pub(super) struct Isotropic<T> {
    square: T,
    /// The root of `square` as it is computed, so that the penalty of flat pixels is exactly 0.
    root: T,
}

impl<T: Float> Isotropic<T> {
    pub(super) fn new(epsilon: f64) -> Self {
        let epsilon = T::from_f64(epsilon);
        let square = epsilon * epsilon;
        Self {
            square,
            root: square.sqrt(),
        }
    }
}

impl<T: Float> Penalty<T> for Isotropic<T> {
    const LAGGED: bool = true;

    #[inline(always)]
    fn cost(self, [x, y, z]: [T; 3]) -> (T, [T; 3]) {
        let norm = (x * x + y * y + z * z + self.square).sqrt();
        let scale = norm.inverse();
        (norm - self.root, [x * scale, y * scale, z * scale])
    }
}

/// The penalty |d|^2 / (2 epsilon) where |d| <= epsilon, |d| - epsilon / 2 elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Huber<T> {
    epsilon: T,
    half: T,
    /// 1 / (2 epsilon), or 0 if epsilon is 0, where only a norm of 0 is multiplied by it.
    curvature: T,
}

impl<T: Float> Huber<T> {
    pub(super) fn new(epsilon: f64) -> Self {
        Self {
            epsilon: T::from_f64(epsilon),
            half: T::from_f64(0.5 * epsilon),
            curvature: T::from_f64(2.0 * epsilon).inverse(),
        }
    }
}

impl<T: Float> Penalty<T> for Huber<T> {
    const LAGGED: bool = true;

    #[inline(always)]
    fn cost(self, [x, y, z]: [T; 3]) -> (T, [T; 3]) {
        let square = x * x + y * y + z * z;
        let norm = square.sqrt();
        let scale = norm.max(self.epsilon).inverse();
        let cost = if norm <= self.epsilon {
            self.curvature * square
        } else {
            norm - self.half
        };
        (cost, [x * scale, y * scale, z * scale])
    }
}
