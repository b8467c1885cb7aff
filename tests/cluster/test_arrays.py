"""Arrays block by block: what the whole would be, and in no more memory than a few blocks take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dipfast
from dipfast import NoiseModel
from dipfast.cluster import denoise_array
from dipfast.errors import InputError, InputTypeError

da = pytest.importorskip("dask.array")
zarr = pytest.importorskip("zarr")

SIGMA = 12.0
KNOWN: dict[str, Any] = {"noise": NoiseModel(SIGMA / 255), "quality": "fast"}


def noisy(*shape: int, seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    clean = 128 + 60 * np.sin(rows / 6) * np.cos(columns / 9)
    values = clean + np.random.default_rng(seed).normal(0, SIGMA, shape)
    return values.round().clip(0, 255).astype(np.uint8)


def test_planes_are_those_of_one_process() -> None:
    stack = noisy(2, 3, 24, 30)
    lazy = denoise_array(stack, **KNOWN)
    assert isinstance(lazy, da.Array)
    assert lazy.chunksize == (1, 1, 24, 30)
    assert lazy.dtype == np.uint8
    alone = [[dipfast.denoise(plane, **KNOWN).image for plane in planes] for planes in stack]
    assert np.array_equal(lazy.compute(), alone)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_blocks_with_a_halo_are_those_of_the_whole(dtype: str, axis: int | None) -> None:
    plane = noisy(750, 100).astype(dtype)
    if axis is not None:
        plane = np.stack([plane, plane[::-1].copy(), 255 - plane], axis=axis)
    options: Any = {**KNOWN, "channel_axis": axis, "data_range": 255.0}
    whole = dipfast.denoise(plane, **options).image
    # Channels belong together, however they are stored.
    chunks = tuple(1 if k == axis else n for k, n in enumerate(plane.shape))
    for x in (plane, da.from_array(plane, chunks=chunks)):
        lazy = denoise_array(x, tile=130, **options)
        assert np.prod(lazy.numblocks) > 2
        difference = np.abs(lazy.compute().astype(float) - whole)
        # The last bits differ, and an integer where one of them decides.
        assert difference.max() <= (1 if dtype == "uint8" else 1e-3)
        assert np.count_nonzero(difference > 1e-3) <= 1e-4 * difference.size


@pytest.mark.filterwarnings("ignore:99% of the values")
def test_blocks_of_a_high_dynamic_range_have_one_scale() -> None:
    sky = 100 + np.random.default_rng(0).normal(0, 5, (730, 96)).astype(np.float32)
    sky[100:104, 40:44] = 30000
    options: Any = {"noise": NoiseModel(5 / 31000), "data_range": 31000.0, "quality": "fast"}
    # The one with the star alone would be stretched.
    found = denoise_array(sky, tile=240, **options).compute()
    whole = dipfast.denoise(sky, stretch=False, **options).image
    assert np.abs(found - whole).max() <= 1e-2


def test_tiles_of_a_network_are_blended(use_small_network: Any) -> None:
    use_small_network(5)
    plane = noisy(90, 120)
    options: Any = {"method": "two_stage", "max_iterations": 5, "seed": 1}
    found = denoise_array(plane, tile=64, noise=KNOWN["noise"], **options).compute()
    assert found.shape == plane.shape
    assert found.dtype == np.uint8
    corner = dipfast.denoise(
        plane[:64, :64].astype(float), noise=KNOWN["noise"], data_range=255.0, **options
    ).image
    # Where there is a single tile, it is what that tile alone would be.
    assert np.array_equal(found[:26, :56], corner[:26, :56].round().astype(np.uint8))


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint32"])
def test_tiles_of_a_network_keep_an_offset(dtype: str, use_small_network: Any) -> None:
    use_small_network(2)
    plane = (noisy(64, 90) + 1e9).astype(dtype)
    options: Any = {"method": "dip", "max_iterations": 2, "seed": 1, "sigma": SIGMA}
    found = denoise_array(plane, tile=64, **options).compute()
    near = denoise_array(plane - plane.dtype.type(1e9), tile=64, **options).compute()
    assert found.dtype == dtype
    # Rounded, integers may differ in the last place.
    assert np.abs(found - 1e9 - near).max() <= (1e-3 if dtype == "float64" else 1)


def test_noise_is_estimated_once_and_before() -> None:
    stack = noisy(6, 64, 64)
    shared = dipfast.estimate_noise(stack, stack_axis=0)
    found = denoise_array(stack, quality="fast").compute()
    alone = dipfast.denoise(stack[2], quality="fast", noise=shared.model).image
    assert np.array_equal(found[2], alone)


def test_a_sigma_far_above_the_noise_is_compared_with_the_picture() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (64, 64))
    halves = np.where(np.arange(64) < 32, 1.0, 100.0)
    picture = (halves + noise).round().clip(0, 255).astype(np.uint8)
    found = denoise_array(picture, sigma=60.0, quality="fast").compute()
    assert np.array_equal(found, dipfast.denoise(picture, sigma=60.0, quality="fast").image)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
@pytest.mark.parametrize("spread", [0.0, 20.0])
def test_what_is_far_brighter_than_the_windows(dtype: str, spread: float) -> None:
    clean = np.full((20, 32, 32), 100.0 if spread else 0.0)
    noise = np.random.default_rng(0).normal(0, spread, clean.shape)
    clean[1, :12, :12] += 4000  # in no window
    noise[1] = np.random.default_rng(1).normal(0, 20, (32, 32))
    stack = (clean + noise).clip(0).astype(dtype)
    found = denoise_array(stack, sigma=20.0, quality="fast").compute()
    assert found.dtype == dtype
    errors = found[1].astype(float) - clean[1]
    assert np.sqrt(np.square(errors).mean()) < 10


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_noise_of_what_is_in_no_window_at_first(dtype: str) -> None:
    stack = np.zeros((20, 32, 32), dtype)
    stack[1] = noisy(32, 32)
    found = denoise_array(stack, quality="fast").compute()
    assert found[1].astype(float).std() < stack[1].std() - 1
    assert not found[2:].any()
    # A star that 72 windows do not see is something, too.
    wide = np.zeros((90, 8, 8), dtype)
    assert not denoise_array(wide, quality="fast").compute().any()
    wide[43] = noisy(8, 8)
    with pytest.raises(InputError, match=r"72 windows of it are constant.*sigma or noise tells it"):
        denoise_array(wide, quality="fast")


def test_windows_with_another_noise_are_told_of() -> None:
    levels = np.array([0.02, 0.02, 0.02, 0.02, 0.2])
    planes = np.random.default_rng(0).normal(0.5, levels[:, None, None], (5, 48, 48))
    options: Any = {"quality": "fast", "data_range": 1.0}
    with pytest.warns(UserWarning, match=r"the noise of 1 of the 5 windows of x .* sigma or noise"):
        denoise_array(planes, **options)
    denoise_array(planes, sigma=0.05, **options)
    levels = np.geomspace(0.003, 0.2, 6)
    planes = np.random.default_rng(0).normal(0.5, levels[:, None, None], (6, 48, 48))
    with pytest.raises(InputError, match=r"of the 6 windows of x .* clearly another one"):
        denoise_array(planes, **options)


@pytest.mark.parametrize("data_range", [None, 1.0])
def test_values_that_are_not_finite_are_refused_at_the_call(data_range: float | None) -> None:
    stack = noisy(3, 24, 24) / 255.0
    stack[2, 3, 4:6] = np.nan
    with pytest.raises(InputError, match="must be finite, got NaN or infinity at 2 of its"):
        denoise_array(stack, quality="fast", data_range=data_range)


def test_what_is_not_finite_beyond_the_windows_is_refused_where_all_is_read() -> None:
    stack = np.concatenate([noisy(9, 24, 24) / 255.0, np.full((1, 24, 24), 0.5)])
    stack[2, 3, 4] = np.inf  # in no window
    with pytest.raises(InputError, match="must be finite, got NaN or infinity among its values"):
        denoise_array(stack, method="dip", sigma=0.05)


def test_a_sigma_in_another_unit_is_refused_at_the_call() -> None:
    with pytest.raises(InputError, match=r"sigma=25 is in the unit of the array, whose range from"):
        denoise_array(noisy(2, 24, 24) / 255.0, sigma=25, quality="fast")


def test_a_few_bright_pixels_of_integers_are_not_in_another_unit() -> None:
    stack = np.random.default_rng(0).normal(500, 20, (10, 32, 32)).astype(np.uint16)
    stack[2, 3:8, 4:9] = 20000  # in no window
    options: Any = {"data_range": 1000.0, "quality": "fast"}
    found = denoise_array(stack, **options).compute()
    assert found.dtype == np.uint16
    for known in ({}, {"noise": NoiseModel(0.02)}):
        with pytest.raises(InputError, match="data_range=1000 is in another unit than x"):
            denoise_array(stack + np.uint16(30000), **known, **options)


def test_nothing_is_done_before_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = denoise_array(noisy(3, 24, 24), **KNOWN)
    monkeypatch.setattr(dipfast, "denoise", None)
    with pytest.raises(TypeError):
        lazy.compute(scheduler="synchronous")


def empty(path: Path, like: np.ndarray) -> Any:
    """Return a new Zarr array for pictures, with two in each chunk."""
    chunks = (2, *like.shape[1:])
    return zarr.open_array(str(path), mode="w", shape=like.shape, dtype=like.dtype, chunks=chunks)


def test_zarr_and_dask_in_zarr_out(tmp_path: Path) -> None:
    stack = noisy(4, 24, 24)
    stored = empty(tmp_path / "in.zarr", stack)
    stored[:] = stack
    lazy = denoise_array(stored, **KNOWN)
    assert lazy.chunksize == (2, 24, 24)  # each chunk is read once
    other = denoise_array(da.from_array(stack, chunks=(2, 12, 12)), **KNOWN)
    out = empty(tmp_path / "out.zarr", stack)
    da.store(lazy, out, lock=False)
    assert np.array_equal(out[:], other.compute())


def test_on_workers(client: Any) -> None:
    stack = noisy(4, 24, 24)
    lazy = denoise_array(stack, **KNOWN)
    here = lazy.compute(scheduler="synchronous")
    assert np.array_equal(client.compute(lazy).result(), here)


def test_a_masked_array_without_masked_pixels() -> None:
    stack = noisy(2, 24, 24)
    lazy = denoise_array(np.ma.masked_array(stack), **KNOWN)
    assert np.array_equal(lazy.compute(), denoise_array(stack, **KNOWN).compute())
    getdata = da.ma.getdata(da.from_array(np.ma.masked_array(stack)))
    assert np.array_equal(denoise_array(getdata, **KNOWN).compute(), lazy.compute())


MASKED = np.ma.masked_less(np.arange(9.0).reshape(3, 3), 2)


class DataArray:
    """What is like an array of xarray from outside."""

    __module__ = "xarray.core.dataarray"
    shape, dtype, ndim = (3, 3), np.dtype(float), 2


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        ([1, 2], {}, InputTypeError, "got list"),
        (np.zeros(3), {}, InputError, "2 axes at least"),
        (np.zeros((3, 3), bool), {}, InputTypeError, "got bool"),
        (np.zeros((3, 3, 3)), {"channel_axis": 3}, InputError, "no axis of x"),
        (np.zeros((3, 3)), {"tile": 8}, InputError, "tile must be"),
        (np.zeros((3, 3)), {"callback": print}, InputError, "callback does not work"),
        (np.zeros((3, 3)), {"neighbours": 4}, InputError, "neighbours does not work"),
        (np.zeros((3, 3)), {"noise": NoiseModel(0.1)}, InputError, "data_range is needed"),
        (MASKED, {}, InputError, "x has 2 masked pixels, which only inpaint fills"),
        (da.from_array(MASKED), {}, InputError, "masked pixels only inpaint fills"),
        (DataArray(), {}, InputTypeError, r"got DataArray: pass x\.data"),
        (torch.zeros(3, 3), {}, InputTypeError, r"got Tensor: pass x\.numpy"),
        (da.eye(9)[da.eye(9)[0] > 0], {}, InputError, r"x\.compute_chunk_sizes\(\) finds"),
    ],
)
def test_wrong_arguments(x: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        denoise_array(x, **{"quality": "fast", **options})


PROGRAM = """
import resource, sys
import dask, numpy as np, zarr
import dipfast
from dipfast.cluster import denoise_array

stored = zarr.open_array(sys.argv[1], mode="r")
options = {"quality": "fast", "noise": dipfast.NoiseModel(12 / 255), "data_range": 255.0}
dask.config.set(scheduler="synchronous")
denoise_array(stored[:2], **options).compute()  # imports, and caches what is needed once
def taken():
    return 1024 * int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
limit = taken() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    stored[:]
except MemoryError:
    print("the whole does not fit")
form = {"shape": stored.shape, "dtype": stored.dtype, "chunks": stored.chunks}
out = zarr.open_array(sys.argv[2], mode="w", **form)
dask.array.store(denoise_array(stored, **options), out, lock=False)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA of Linux")
def test_an_array_larger_than_memory(tmp_path: Path) -> None:
    """A volume of 39 MB, in a process that may take 28 MB more than it has."""
    planes = noisy(2, 256, 256).astype(np.float64)  # the most bytes for what is computed
    stored = empty(tmp_path / "in.zarr", np.broadcast_to(planes[:1], (74, 256, 256)))
    for first in range(0, 74, 2):
        stored[first : first + 2] = planes + first / 100
    arguments = [str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), str(28 * 2**20)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the whole does not fit" in done.stdout
    found = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    alone = dipfast.denoise(stored[50], **KNOWN, data_range=255.0).image
    assert np.allclose(found[50], alone, atol=1e-3)
