"""Choose the passes of non-local ridge regression: patches, groups, and how many."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Pass", "Speed", "first_share", "passes_of"]

Speed: TypeAlias = Literal["fast", "balanced", "best"]


class Pass(NamedTuple):
    """Hold the parameters of a pass.

    The picture that it filters is the pilot plus a share ``kept`` of what the noisy picture has
    beyond it.  Similar patches are looked for within ``reach`` rows and columns to each side.
    """

    patch: int
    group: int
    step: int
    kept: float = 1.0
    filters: Literal["patches", "values", "both"] = "values"
    reach: int = 18


def _last(patch: int, group: int, step: int) -> Pass:
    """Return a last pass: few patches that are small and near, which follow what is fine."""
    return Pass(patch, group, step, reach=8)


# For the tables: patch, group, step, and the share that is kept of the noisy picture.
P = Pass
Far = partial(Pass, reach=24)
Both = partial(Pass, filters="both")

_Passes: TypeAlias = tuple[Pass, ...]
_Rows: TypeAlias = tuple[tuple[float, _Passes], ...]
# The passes for pictures of several channels, and of one, by the standard deviation as a share of
# the range, below which they are taken.  All but the last one find what is smooth, with the larger
# patches the stronger the noise is; the last one, which has a good pilot, takes small patches in
# small groups, and finds edges and lines.  Chosen on pictures that are in no table (astronaut,
# coffee, chelsea, immunohistochemistry of scikit-image, barbara, comic, monarch, flowers, zebra,
# coastguard of Set14, butterfly and woman of Set5, 256x256) with noise of sigma 5 to 75.
_COLOUR: dict[str, _Rows] = {
    "fast": (
        (8 / 255, (P(3, 16, 3), P(4, 80, 4), _last(4, 24, 3))),
        (15 / 255, (P(4, 16, 4), P(5, 80, 5), _last(4, 24, 4))),
        (30 / 255, (P(5, 16, 5), P(5, 80, 5), _last(4, 16, 4))),
        (42 / 255, (P(5, 16, 5), P(6, 80, 5), _last(4, 16, 4))),
        (60 / 255, (P(5, 16, 5), P(6, 80, 5), _last(5, 16, 4))),
        (math.inf, (P(6, 16, 5), P(8, 60, 6), _last(5, 16, 4))),
    ),
    "balanced": (
        (8 / 255, (P(3, 16, 3), P(4, 80, 4), P(6, 60, 6), _last(4, 24, 3))),
        (15 / 255, (P(4, 16, 4), P(4, 80, 4), P(6, 60, 6), P(6, 80, 6, 0.7), _last(4, 24, 3))),
        (30 / 255, (P(4, 16, 4), P(4, 80, 4), P(6, 60, 6), P(6, 80, 6, 0.6), _last(4, 16, 3))),
        (42 / 255, (P(4, 16, 4), P(5, 80, 5), P(7, 60, 6), P(7, 80, 6, 0.6), _last(4, 16, 3))),
        (60 / 255, (P(5, 16, 5), P(7, 80, 6), P(8, 60, 6), P(8, 80, 6, 0.5), _last(5, 16, 3))),
        (math.inf, (P(5, 16, 5), P(8, 80, 6), P(8, 60, 6), P(9, 80, 6, 0.5), _last(5, 16, 3))),
    ),
    "best": (
        (8 / 255, (P(3, 16, 2), P(4, 80, 3), P(6, 60, 5), _last(4, 24, 2))),
        (15 / 255, (P(4, 16, 2), P(4, 80, 3), P(6, 60, 5), P(8, 80, 5, 0.7), _last(4, 24, 2))),
        (
            30 / 255,
            (P(4, 16, 2), Far(5, 80, 4), Far(8, 80, 5), Far(8, 80, 5, 0.5), _last(4, 16, 2)),
        ),
        (
            42 / 255,
            (P(4, 16, 2), Far(6, 80, 4), Far(8, 80, 5), Far(8, 80, 5, 0.5), _last(4, 16, 2)),
        ),
        (60 / 255, (P(5, 16, 3), P(7, 80, 4), P(8, 80, 5), P(9, 80, 5, 0.5), _last(5, 16, 2))),
        (math.inf, (P(5, 16, 3), P(8, 80, 5), P(9, 80, 5), P(10, 80, 5, 0.5), _last(5, 16, 2))),
    ),
}
_GREY: dict[str, _Rows] = {
    "fast": (
        (42 / 255, (P(7, 16, 5), Both(7, 60, 6), _last(6, 16, 4))),
        # A pass more, for half of its time again, brings 0.1 dB, of a few photons 0.2 to 0.3.
        (60 / 255, (P(7, 16, 5), Both(8, 60, 6), P(9, 60, 6, 0.5), _last(7, 16, 4))),
        (math.inf, (P(8, 16, 5), Both(9, 60, 6), P(10, 60, 6, 0.5), _last(7, 16, 4))),
    ),
    "balanced": (
        (
            42 / 255,
            (P(6, 16, 4), Both(7, 60, 5), Both(8, 60, 6), P(8, 60, 6, 0.5), _last(6, 16, 3)),
        ),
        (
            60 / 255,
            (P(6, 16, 4), Both(8, 60, 5), Both(9, 60, 6), P(9, 60, 6, 0.5), _last(5, 16, 3)),
        ),
        (
            math.inf,
            (P(7, 16, 4), Both(9, 60, 5), Both(10, 60, 6), P(10, 60, 6, 0.5), _last(6, 16, 3)),
        ),
    ),
    "best": (
        (
            42 / 255,
            (P(6, 16, 4), Both(6, 60, 4), Both(8, 60, 5), P(10, 80, 6, 0.5), _last(5, 16, 2)),
        ),
        (
            60 / 255,
            (P(6, 16, 4), Both(7, 60, 4), Both(9, 60, 5), P(10, 80, 6, 0.5), _last(5, 16, 2)),
        ),
        (
            math.inf,
            (P(7, 16, 4), Both(8, 60, 5), Both(10, 60, 5), P(11, 80, 6, 0.5), _last(6, 16, 2)),
        ),
    ),
}


# The passes for correlated noise, of pictures of any number of channels.  Filters of values rely on
# the shape of the noise within patches, which is never known so well; chosen on the same pictures
# as simulated cameras take them (benches.quality.noise.simulate), with the noise as it is found.
def _correlated(first: int) -> dict[str, _Passes]:
    """Return the passes for correlated noise, by the patches of the first one."""
    return {
        speed: tuple(
            P(patch, group, step, filters="patches", reach=reach)
            for patch, group in ((first, 24), (8, 60))
        )
        for speed, step, reach in (("fast", 5, 18), ("balanced", 4, 18), ("best", 3, 24))
    }


_CORRELATED, _VOLUME_CORRELATED = _correlated(6), _correlated(8)
# The passes for volumes, whose patches are of three slices: chosen on photographs that move
# (camera, astronaut and gravel of scikit-image) and on blobs and filaments, at sigma 25.
_VOLUME_COLOUR: dict[str, _Passes] = {
    "fast": (P(5, 48, 5), P(5, 96, 5), _last(4, 24, 3)),
    "balanced": (P(5, 48, 5), Both(5, 96, 5), P(6, 96, 6, 0.5), _last(4, 24, 3)),
    "best": (
        Far(5, 48, 4),
        Far(5, 96, 4, filters="both"),
        Far(6, 96, 5, filters="both"),
        Far(6, 96, 5, 0.5),
        _last(4, 24, 2),
    ),
}
_VOLUME_GREY: dict[str, _Passes] = {
    "fast": (P(7, 48, 6), P(7, 96, 6), _last(5, 24, 4)),
    "balanced": (
        P(7, 48, 5),
        Both(7, 96, 5),
        Both(7, 96, 6),
        P(7, 96, 6, 0.5),
        _last(5, 24, 4),
    ),
    "best": (
        Far(7, 48, 4),
        Far(7, 96, 4, filters="both"),
        Far(7, 96, 5, filters="both"),
        Far(7, 96, 5, 0.5),
        _last(5, 24, 2),
    ),
}
# The a of the first pass: of 0.05, 0.25, 0.5, 1 and 2, 1 gave the highest PSNR on average at sigma
# 25.  Pictures of several channels with weaker noise take more, by what the noise is below.
_SHARE, _SHARE_OF_WEAKER, _SHARE_OF_WEAKEST, _SHARE_OF_CORRELATED = 1.0, 2.0, 4.0, 2.0
_WEAKER, _WEAKEST = 18 / 255, 12 / 255


def passes_of(
    channels: int, level: float, correlated: bool, speed: Speed, depth: int = 1
) -> tuple[Pass, ...]:
    """Return the passes for a picture; the stronger its noise, the larger are its patches."""
    if depth > 1:
        if correlated:
            return _VOLUME_CORRELATED[speed]
        return (_VOLUME_GREY if channels == 1 else _VOLUME_COLOUR)[speed]
    if correlated:
        return _CORRELATED[speed]
    rows = (_GREY if channels == 1 else _COLOUR)[speed]
    return next(passes for below, passes in rows if level < below)


def first_share(channels: int, level: float, correlated: bool, depth: int = 1) -> float:
    """Return the a of the first pass for a picture."""
    if correlated:
        return _SHARE_OF_CORRELATED
    if channels == 1 or depth > 1 or level >= _WEAKER:
        return _SHARE
    return _SHARE_OF_WEAKER if level >= _WEAKEST else _SHARE_OF_WEAKEST
