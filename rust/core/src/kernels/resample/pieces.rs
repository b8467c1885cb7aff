//! A row cut into pieces that fit into registers.

/// The number of elements of a long piece.
pub(super) const WIDE: usize = 64;

/// The number of elements of a short piece.
const NARROW: usize = 8;

/// Work on a piece of a row; implementations must be `#[inline(always)]`.
pub(super) trait Visit {
    /// Works on `N` elements from `at` on.
    fn piece<const N: usize>(&mut self, at: usize);
}

/// Cuts a row into pieces and works on them.  Pieces may overlap, because the work on an element
/// gives the same result each time.
#[inline(always)]
pub(super) fn pieces<V: Visit>(length: usize, visit: &mut V) {
    let mut at = 0;
    while at + WIDE <= length {
        visit.piece::<WIDE>(at);
        at += WIDE;
    }
    if length < NARROW {
        for at in 0..length {
            visit.piece::<1>(at);
        }
        return;
    }
    while at < length {
        at = at.min(length - NARROW);
        visit.piece::<NARROW>(at);
        at += NARROW;
    }
}
