"""Layout, dtype and value range are recognised, refused if ambiguous, and restored."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipfast
from dipfast.arrays import as_pixels, check_image, find_channel_axis
from dipfast.errors import InputError
from dipfast.images import layout as layout_module
from dipfast.images.layout import Layout, find_data_range

INTEGERS = ("uint8", "uint16", "int16")
FLOATS = ("float16", "float32", "float64")


def random_image(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype in FLOATS:
        return rng.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def round_trip(image: Any, **options: Any) -> Any:
    layout = Layout.of(image, **options)
    return layout.to_image(layout.to_tensor(image))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one.dtype == other.dtype and np.array_equal(one, other)


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
    @pytest.mark.parametrize(
        ("shape", "axis"),
        [
            ((4, 5), None),
            ((4, 5, 3), 0),
            ((4, 5, 3), 1),
            ((4, 5, 3), 2),
            ((4, 5, 3), -1),
            ((4, 5, 3), -3),
            ((1, 5, 4), 0),
            ((6, 5, 1), None),
            ((7, 4, 5), 0),
        ],
    )
    def test_arrays(self, dtype: str, shape: tuple[int, ...], axis: int | None) -> None:
        image = random_image(shape, dtype)
        data_range = 255 if dtype == "uint8" else (-40000, 70000) if dtype in INTEGERS else 1
        back = round_trip(image, channel_axis=axis, data_range=data_range)
        assert isinstance(back, np.ndarray)
        assert back.flags.c_contiguous
        if dtype == "float64":  # the network works on float32
            assert back.dtype == np.float64
            np.testing.assert_allclose(back, image, rtol=1e-7)
        else:
            assert same(back, image)

    @pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bfloat16"])
    @pytest.mark.parametrize(
        ("shape", "axis"),
        [
            ((4, 5), None),
            ((3, 4, 5), None),
            ((7, 4, 5), 0),
            ((4, 5, 3), 2),
            ((2, 3, 4, 5), None),
            ((2, 3, 4, 5), 1),
            ((2, 4, 5, 3), -1),
            ((1, 1, 4, 5), None),
        ],
    )
    def test_tensors(self, dtype: str, shape: tuple[int, ...], axis: int | None) -> None:
        values = random_image(shape, "float32" if dtype == "bfloat16" else dtype)
        image = torch.from_numpy(values).to(getattr(torch, dtype))
        data_range = 255 if dtype == "uint8" else (-40000, 70000) if dtype in INTEGERS else 1
        back = round_trip(image, channel_axis=axis, data_range=data_range)
        assert isinstance(back, torch.Tensor)
        assert back.is_contiguous()
        if dtype == "float64":
            assert back.dtype == torch.float64
            torch.testing.assert_close(back, image, rtol=1e-7, atol=0)
        else:
            assert same(back, image)

    @pytest.mark.filterwarnings("ignore:99% of the values")
    @given(data=st.data())
    def test_integers_come_back_exactly(self, data: st.DataObject) -> None:
        dtype = data.draw(st.sampled_from(INTEGERS), label="dtype")
        size = st.integers(1, 6)
        shape = data.draw(st.tuples(size, size) | st.tuples(size, size, size), label="shape")
        axis = None if len(shape) == 2 else data.draw(st.integers(-3, 2), label="axis")
        low = data.draw(st.integers(-70000, 69999), label="darkest")
        high = data.draw(st.integers(low + 1, 70000), label="brightest")
        image: Any = random_image(shape, dtype, data.draw(st.integers(0, 99), label="seed"))
        if data.draw(st.booleans(), label="tensor"):
            image = torch.from_numpy(image)
        # Far outside of the range, too, which is refused where it is given.
        layout = replace(Layout.of(image, channel_axis=axis), data_range=(low, high))
        assert same(layout.to_image(layout.to_tensor(image)), image)

    @pytest.mark.parametrize("tensor", [False, True])
    def test_integers_that_float32_does_not_have(self, tensor: bool) -> None:
        image: Any = np.arange(256, dtype=np.int32).reshape(16, 16) + 2**30
        image = torch.from_numpy(image) if tensor else image
        assert same(round_trip(image, data_range=(2**30, 2**30 + 255)), image)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_floats_in_any_unit(self, dtype: str) -> None:
        image = (random_image((6, 7), dtype) * 40 - 10).astype(dtype)
        back = round_trip(image, data_range=(-10, 30))
        assert back.dtype == image.dtype
        np.testing.assert_allclose(back, image, rtol=0, atol=0.02 if dtype == "float16" else 1e-5)


class TestToTensor:
    def test_data_range_becomes_zero_to_one(self) -> None:
        image = np.array([[100, 300], [500, 600]], dtype=np.uint16)
        x = Layout.of(image, data_range=(100, 500)).to_tensor(image)
        assert x.dtype == torch.float32
        assert torch.equal(x, torch.tensor([[[[0, 0.5], [1, 1.25]]]]))

    def test_scalar_data_range_begins_at_zero(self) -> None:
        image = np.array([[0, 4095]], dtype=np.uint16)
        layout = Layout.of(image, data_range=4095)
        assert layout.data_range == (0.0, 4095.0)
        assert layout.to_tensor(image).tolist() == [[[[0.0, 1.0]]]]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_channels_of_arrays(self, axis: int) -> None:
        image = random_image((4, 5, 3), "float32")
        x = Layout.of(image, channel_axis=axis, data_range=1).to_tensor(image)
        assert x.shape == (1, image.shape[axis], *np.delete(image.shape, axis))
        assert x.is_contiguous()
        for channel in range(image.shape[axis]):
            assert np.array_equal(x[0, channel].numpy(), image.take(channel, axis))

    def test_batches_of_tensors(self) -> None:
        image = torch.rand(2, 4, 5, 3)
        x = Layout.of(image, channel_axis=3, data_range=1).to_tensor(image)
        assert torch.equal(x, image.permute(0, 3, 1, 2))
        assert x.is_contiguous()

    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_shares_no_memory(self, dtype: str, tensor: bool) -> None:
        image: Any = random_image((4, 5), dtype)
        image = torch.from_numpy(image) if tensor else image
        before = image.clone() if tensor else image.copy()
        Layout.of(image).to_tensor(image).add_(1)
        assert same(image, before)


class TestToImage:
    def test_integers_are_rounded_and_kept_in_their_range(self) -> None:
        image = np.zeros((1, 5), dtype=np.uint8)
        x = torch.tensor([[[[-1.0, 99.4 / 255, 99.6 / 255, 1.0, 7.0]]]])
        assert Layout.of(image).to_image(x).tolist() == [[0, 99, 100, 255, 255]]

    def test_rounding_changes_integers_by_a_known_amount(self) -> None:
        layout = Layout.of(np.zeros((200, 200), dtype=np.uint8), data_range=50)
        x = torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
        change = layout.to_tensor(layout.to_image(x)) - x
        measured = float(change.square().mean())
        assert measured == pytest.approx(layout.rounding_variance, rel=0.03)
        assert Layout.of(np.zeros((4, 5)), data_range=50).rounding_variance == 0

    def test_integers_keep_what_is_outside_of_the_data_range(self) -> None:
        image = np.array([[-1000, 0, 3000]], dtype=np.int16)
        assert same(round_trip(image, data_range=(-100, 200)), image)

    @pytest.mark.parametrize("tensor", [False, True])
    def test_takes_another_size(self, tensor: bool) -> None:
        image: Any = random_image((4, 5, 3), "uint8")
        image = torch.from_numpy(image) if tensor else image
        back = Layout.of(image, channel_axis=2).to_image(torch.rand(1, 3, 8, 10))
        assert back.shape == (8, 10, 3)

    def test_takes_what_has_gradients(self) -> None:
        layout = Layout.of(np.zeros((4, 5)), data_range=1)
        x = torch.rand(1, 1, 4, 5, requires_grad=True)
        assert np.array_equal(layout.to_image(x).astype("float32"), x.detach()[0, 0].numpy())

    @pytest.mark.parametrize("kind", ["array", "tensor"])
    def test_floats_beyond_their_dtype_are_its_largest_and_not_infinite(self, kind: str) -> None:
        image: Any = np.array([[0, 65504]], np.float16)
        image = torch.from_numpy(image) if kind == "tensor" else image
        layout = Layout.of(image)
        assert layout.to_image(torch.tensor([[[[-2.0, 1.2]]]])).tolist() == [[-65504, 65504]]


@pytest.mark.parametrize("shape", [(13, 7), (13, 7, 3), (2, 3, 13, 7)])
def test_large_images_are_converted_in_bands(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in (random_image(shape, "uint16"), torch.rand(shape)):
        if isinstance(image, np.ndarray) and len(shape) == 4:
            continue
        layout = Layout.of(image)
        monkeypatch.setattr(layout_module, "_BAND", 1 << 20)
        tensor = layout.to_tensor(image)
        monkeypatch.setattr(layout_module, "_BAND", 60)
        assert torch.equal(layout.to_tensor(image), tensor)
        assert tensor.is_contiguous()
        assert same(layout.to_image(tensor), image) or "float" in str(image.dtype)
        larger = tensor.repeat(1, 1, 2, 3)
        assert layout.to_image(larger).shape == layout.shape_of(tuple(larger.shape))


class TestUnusualMemory:
    @pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
    @pytest.mark.parametrize(
        "view",
        [
            lambda a: a[::2, 1::3],
            lambda a: a[::-1, ::-1],
            lambda a: a.transpose(1, 0, 2),
            lambda a: np.broadcast_to(a[:1], a.shape),
            np.asfortranarray,
        ],
    )
    def test_strides_of_arrays(self, dtype: str, view: Any) -> None:
        image = view(random_image((10, 15, 3), dtype))
        np.testing.assert_allclose(round_trip(image), image, rtol=1e-7)

    @pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
    def test_read_only_arrays(self, dtype: str) -> None:
        image = random_image((6, 9), dtype)
        image.flags.writeable = False
        back = round_trip(image)
        np.testing.assert_allclose(back, image, rtol=1e-7)
        assert back.flags.writeable

    @pytest.mark.parametrize("dtype", [">u2", ">f2", ">f4", ">f8", "<u2", "<f4"])
    def test_byte_order(self, dtype: str) -> None:
        native = random_image((6, 9), np.dtype(dtype).name)
        image = native.astype(dtype)
        assert Layout.of(image).data_range == Layout.of(native).data_range
        back = round_trip(image)
        assert back.dtype == image.dtype
        np.testing.assert_allclose(back, image, rtol=1e-7)

    def test_strides_of_tensors(self) -> None:
        image = torch.arange(162, dtype=torch.uint8).reshape(9, 6, 3).permute(2, 1, 0)
        assert not image.is_contiguous()
        assert same(round_trip(image), image)

    def test_tensors_with_gradients(self) -> None:
        image = torch.rand(3, 4, 5, requires_grad=True)
        back = round_trip(image)
        torch.testing.assert_close(back, image.detach())
        assert not back.requires_grad


class TestDataRange:
    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize(
        ("dtype", "lowest", "highest", "expected"),
        [
            ("uint8", 0, 255, (0, 255)),
            ("uint8", 0, 3, (0, 255)),
            ("uint16", 7, 1000, (7, 1000)),
            ("uint16", 0, 65535, (0, 65535)),
            ("int16", -300, 4095, (-300, 4095)),
            ("int32", -5, 255, (-5, 255)),
            ("int64", -(2**53), 2**53, (-(2**53), 2**53)),
            ("float16", 0, 1, (0, 1)),
            ("float64", 0.3, 0.4, (0.3, 0.4)),
            ("float64", -1e300, 2e300, (-1e300, 2e300)),
            ("float32", -0.25, 2, (-0.25, 2)),
            ("float64", 1e-12, 3e-12, (1e-12, 3e-12)),
        ],
    )
    def test_found(
        self, dtype: str, lowest: float, highest: float, expected: tuple[int, int], tensor: bool
    ) -> None:
        image: Any = np.array([[lowest, highest]], dtype=dtype)
        image = torch.from_numpy(image) if tensor else image
        layout = Layout.of(image)
        assert layout.data_range == expected
        assert layout.range_source == ("dtype" if dtype == "uint8" else "data")
        assert layout.ends == (0, 1)

    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("dtype", ["uint16", "int32", "float16", "float32", "float64"])
    @pytest.mark.parametrize("value", [0.0, 1.0, 7.0, 30000.0])
    def test_one_value_comes_back(self, dtype: str, value: float, tensor: bool) -> None:
        image: Any = np.full((3, 5), value, dtype=dtype)
        image = torch.from_numpy(image) if tensor else image
        layout = Layout.of(image)
        for output in (0.0, 0.3, 0.5, 0.9999):
            back = np.asarray(layout.to_image(torch.full((1, 1, 3, 5), output)))
            np.testing.assert_allclose(back, np.asarray(image), rtol=1e-6, atol=1e-37)

    def test_only_what_is_known_counts(self) -> None:
        image = np.array([[5.0, 7.0, math.nan], [-9999.0, math.inf, 6.0]])
        known = np.isfinite(image) & (image > 0)
        layout = Layout.of(image, known=known[None, None])
        assert layout.data_range == (5, 7)
        assert layout.filled(image, ~known[None, None]).tolist() == [[5, 7, 5], [5, 5, 6]]
        with pytest.raises(ValueError, match="image must be finite, got NaN or infinity at 1"):
            Layout.of(image, known=(known | (image == math.inf))[None, None])

    @pytest.mark.filterwarnings("ignore:99% of the values")
    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32", "float64"])
    def test_black_of_every_dtype(self, dtype: str, tensor: bool) -> None:
        image: Any = np.arange(10, 22, dtype=dtype).reshape(3, 4)
        missing = (image == 15)[None, None]
        image = torch.from_numpy(image) if tensor else image
        filled = Layout.of(image, known=~missing).filled(image, missing)
        assert filled.dtype == image.dtype
        assert filled[1, 1] == (0 if dtype == "uint8" else 10)
        assert image[1, 1] == 15
        below = Layout.of(image, data_range=(-70000, 70000)).filled(image, missing)
        least = np.iinfo(dtype).min if "int" in dtype else max(-70000, float(np.finfo(dtype).min))
        assert below[1, 1] == least

    def test_margin(self) -> None:
        layout = Layout.of(np.array([[10.0, 18.0]]), margin=0.25)
        assert layout.data_range == (8, 20)
        assert layout.ends == (2 / 12, 10 / 12)
        assert Layout.of(np.zeros((1, 2), np.uint8), margin=0.25).data_range == (0, 255)
        assert Layout.of(np.eye(2), margin=0.25, data_range=3).data_range == (0, 3)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.array([[2**53 + 2, 0]]), r"integers up to 2\*\*53, .* subtract an offset first"),
            (np.array([[-(2**62), 0]]), r"integers up to 2\*\*53"),
            (np.array([[-1.7e308, 1.7e308]]), "too far apart for float64: divide it"),
        ],
    )
    def test_beyond_float64(self, image: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=f"photo .*{message}"):
            find_data_range("photo", image)

    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("dtype", ["uint16", "float32"])
    def test_low_contrast_is_warned_of(self, dtype: str, tensor: bool) -> None:
        sky: Any = np.random.default_rng(0).integers(95, 105, (64, 64)).astype(dtype)
        sky[10, 20] = 60_000
        image = torch.from_numpy(sky) if tensor else sky
        message = r"99% of the values of image lie between 95 and 104, .* the few others set the"
        with pytest.warns(UserWarning, match=message):
            Layout.of(image)
        with pytest.warns(UserWarning, match="the range is given"):
            Layout.of(image, data_range=65535)
        Layout.of(image, data_range=(90, 200))
        sky[sky < 60_000] = 100  # a constant image has no contrast to lose
        Layout.of(sky)

    @pytest.mark.parametrize(
        ("given_range", "expected"),
        [
            (4095, (0, 4095)),
            (0.5, (0, 0.5)),
            (np.float32(2), (0, 2)),
            ((-10, 30), (-10, 30)),
            ([0, 1023], (0, 1023)),
            (np.array([1, 2]), (1, 2)),
        ],
    )
    def test_given(self, given_range: Any, expected: tuple[float, float]) -> None:
        got = Layout.of(np.zeros((2, 2), np.uint8), data_range=given_range).data_range
        assert got == expected
        assert all(type(value) is float for value in got)

    @pytest.mark.parametrize(
        "malformed",
        [
            0,
            -255,
            float("nan"),
            float("inf"),
            (1, 1),
            (255, 0),
            (0, float("inf")),
            (),
            (255,),
            (0, 1, 2),
            "wide",
            ("black", "white"),
            [[0, 1], [2]],
            {},
        ],
    )
    def test_malformed(self, malformed: Any) -> None:
        message = r"data_range must be a positive number or a pair \(darkest, brightest\), got "
        with pytest.raises(ValueError, match=message) as caught:
            Layout.of(np.zeros((2, 2), np.uint8), data_range=malformed)
        assert repr(malformed) in str(caught.value)


class TestKinds:
    @pytest.mark.filterwarnings("ignore:the matrix subclass")
    def test_subclasses_become_plain(self, tmp_path: Any) -> None:
        values = random_image((4, 5), "float32")
        np.save(tmp_path / "a.npy", values)
        mapped = np.load(tmp_path / "a.npy", mmap_mode="r")

        class Tagged(np.ndarray):
            unit = None

        for image in (mapped, np.matrix(values), values.view(Tagged), np.ma.masked_array(values)):
            pixels = as_pixels("photo", image)
            assert type(pixels) is np.ndarray
            assert np.array_equal(pixels, values)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ([[0.0, 1.0]], r"got list: pass np\.asarray\(photo\)"),
            (PIL.Image.new("P", (3, 4)), r"got Image: pass np\.asarray\(photo\.convert\('RGB'\)\)"),
            ("photo.png", r"got str: read the file first, as dipfast\.read_image\(name\)\.image"),
            (Path("photo.png"), "got .*Path: read the file first"),
            (memoryview(b"1234"), "got memoryview"),
            (7, "got int"),
            (torch.zeros(3, 4).to_sparse(), r"one that is sparse: to_dense\(\) it"),
            (torch.zeros(3, 4, device="meta"), "hold data, got a tensor on the device 'meta'"),
        ],
    )
    def test_others_are_refused_with_the_next_step(self, image: Any, message: str) -> None:
        with pytest.raises(TypeError, match=f"photo must .*{message}"):
            as_pixels("photo", image)

    def test_units_are_refused(self) -> None:
        class Quantity(np.ndarray):
            unit = "adu"

        with pytest.raises(TypeError, match=r"got Quantity in adu: pass photo\.value, and all num"):
            as_pixels("photo", np.zeros((3, 4)).view(Quantity))

    @pytest.mark.parametrize(
        ("home", "step"), [("pandas.core.frame", r"\.to_numpy\(\)"), ("xarray.core", r"\.values")]
    )
    def test_labelled_arrays_are_refused(self, home: str, step: str) -> None:
        kind = type("Labelled", (), {"__module__": home, "__array__": lambda self: np.zeros(3)})
        with pytest.raises(TypeError, match=f"got Labelled: pass photo{step}"):
            as_pixels("photo", kind())

    def test_masked_pixels_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"photo has 3 masked pixels, which only inpaint fill"):
            as_pixels("photo", np.ma.masked_less(np.arange(12.0).reshape(3, 4), 3))


class TestRefusals:
    @pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
    @pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4, 4, 0)])
    def test_empty(self, kind: Any, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="photo must not be empty, got shape ") as caught:
            check_image("photo", kind(shape))
        assert str(caught.value).endswith(str(shape))

    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_not_finite(self, value: float, tensor: bool) -> None:
        image: Any = np.zeros((4, 5), np.float32)
        image[1:3, 2] = value
        image = torch.from_numpy(image) if tensor else image
        message = "photo must be finite, got NaN or infinity at 2 of its values"
        with pytest.raises(ValueError, match=message):
            check_image("photo", image)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros(()), r"an array \(H, W\) or \(H, W, C\), got 0 dimensions, shape \(\)"),
            (np.zeros(4), r"an array \(H, W\) or \(H, W, C\), got 1 dimensions, shape \(4,\)"),
            (np.zeros((1, 3, 4, 5)), r"an array .*, got 4 dimensions, shape \(1, 3, 4, 5\)"),
            (np.zeros((1, 1, 3, 4, 5)), r"an array .*, got 5 dimensions"),
            (torch.zeros(4), r"a tensor \(H, W\), \(C, H, W\) or \(N, C, H, W\), got 1 dim"),
            (torch.zeros((1, 1, 3, 4, 5)), r"a tensor .*, got 5 dimensions"),
        ],
    )
    def test_dimensions(self, image: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"photo must be {message}"):
            check_image("photo", image)

    @pytest.mark.parametrize(
        ("image", "dtype"),
        [
            (np.zeros((4, 5), complex), "complex128"),
            (np.zeros((4, 5), bool), "bool"),
            (np.zeros((4, 5), object), "object"),
            (np.zeros((4, 5), "U3"), "<U3"),
            (torch.zeros((4, 5), dtype=torch.complex64), "torch.complex64"),
            (torch.zeros((4, 5), dtype=torch.bool), "torch.bool"),
        ],
    )
    def test_not_real(self, image: Any, dtype: str) -> None:
        message = rf"photo must hold real numbers \(integers or floats\), got {dtype}$"
        with pytest.raises(TypeError, match=message):
            check_image("photo", image)

    @pytest.mark.parametrize(("image", "kind"), [([[0.0]], "list"), (None, "NoneType")])
    def test_neither_array_nor_tensor(self, image: Any, kind: str) -> None:
        message = f"photo must be a NumPy array or a torch tensor, got {kind}"
        with pytest.raises(TypeError, match=message):
            check_image("photo", image)

    @pytest.mark.parametrize(
        ("shape", "axis"), [((4, 5, 3), 3), ((4, 5, 3), -4), ((4, 5), 0), ((4, 5), -1)]
    )
    def test_channel_axis_that_is_not_there(self, shape: tuple[int, ...], axis: int) -> None:
        with pytest.raises(ValueError, match=rf"channel_axis={axis} does not fit photo") as caught:
            Layout.of(np.zeros(shape), channel_axis=axis, name="photo")
        assert ("leave it out for (H, W)" in str(caught.value)) == (len(shape) == 2)

    @pytest.mark.parametrize("axis", [0, -4])
    def test_channel_axis_that_is_the_batch(self, axis: int) -> None:
        with pytest.raises(ValueError, match=f"channel_axis={axis} is the batch axis of photo"):
            Layout.of(torch.zeros(2, 3, 4, 5), channel_axis=axis, name="photo")

    def test_channel_axis_that_is_not_obvious(self) -> None:
        message = r"channel_axis is needed for photo of shape \(7, 8, 9\): which of its axes"
        with pytest.raises(ValueError, match=message):
            Layout.of(np.zeros((7, 8, 9)), name="photo")

    @pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
    @pytest.mark.parametrize("shape", [(3, 8, 3), (1, 200, 3), (4, 4, 4), (1, 1, 1)])
    def test_channel_axis_that_may_be_two(self, kind: Any, shape: tuple[int, ...]) -> None:
        message = r"channel_axis is needed for photo of shape .*: are the channels its last axis "
        with pytest.raises(ValueError, match=message):
            Layout.of(kind(shape), name="photo")
        assert Layout.of(kind(shape), channel_axis=-1).channel_axis == 2
        assert Layout.of(kind(shape), channel_axis=-3).channel_axis == 0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros((8, 9)), None),
        (np.zeros((8, 9, 1)), 2),
        (np.zeros((8, 9, 4)), 2),
        (torch.zeros(8, 9), None),
        (np.zeros((3, 8, 9)), 0),
        (torch.zeros(3, 8, 9), 0),
        (torch.zeros(8, 9, 3), 2),
        (torch.zeros(7, 8, 9), 0),
        (torch.zeros(7, 2, 5), 0),
        (torch.zeros(2, 7, 8, 9), 1),
        (torch.zeros(2, 8, 9, 3), 3),
    ],
)
def test_channel_axis_is_found(image: Any, expected: int | None) -> None:
    assert find_channel_axis("image", image, None) == expected


class TestOpacityInArrays:
    @staticmethod
    def of(alpha: Any, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
        colours = np.random.default_rng(0).integers(0, 200, (24, 32, channels))
        full = np.broadcast_to(alpha, (24, 32))[..., None]
        return np.concatenate([colours, full], axis=-1).astype(dtype)

    @pytest.mark.parametrize("tensor", [False, True])
    @pytest.mark.parametrize("alpha", [255, 200, np.indices((24, 32))[1] // 12 * 127])
    def test_it_is_warned_of(self, alpha: Any, tensor: bool) -> None:
        image: Any = self.of(alpha)
        image = torch.from_numpy(image) if tensor else image
        with pytest.warns(UserWarning, match=r"photo\[..., :3\] .* or channel_axis=-1") as told:
            Layout.of(image, name="photo")
        assert len(told) == 1
        Layout.of(image, channel_axis=-1, name="photo")

    def test_grey_of_16_bits(self) -> None:
        with pytest.warns(UserWarning, match=r"pass image\[..., 0\] and keep"):
            Layout.of(self.of(999, 1, "uint16"), data_range=999)

    def test_other_channels_are_not(self) -> None:
        noisy = np.random.default_rng(1).integers(0, 200, (24, 32))
        black = self.of(0, 3)
        black[:20] = 0  # a dark background of all channels
        black[21, 3] = 9
        for image in (self.of(noisy), black, self.of(255, 2), self.of(1.0, dtype="float32")):
            Layout.of(image)
        Layout.of(np.moveaxis(self.of(255), -1, 0))

    def test_tasks_warn_once(self) -> None:
        with pytest.warns(UserWarning, match="looks like opacity") as told:
            dipfast.denoise(self.of(255), quality="fast")
        assert sum("opacity" in str(each.message) for each in told) == 1
        assert told[0].filename == __file__


class TestRangeInAnotherUnit:
    @pytest.mark.parametrize("tensor", [False, True])
    def test_integers_far_outside_are_refused(self, tensor: bool) -> None:
        image: Any = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
        image = torch.from_numpy(image) if tensor else image
        with pytest.raises(InputError, match=r"data_range=1 is in another unit than image, which"):
            Layout.of(image, data_range=1)
        with pytest.raises(InputError, match=r"data_range=\(0.5, 1\) is"):
            Layout.of(image, data_range=(0.5, 1))
        if not tensor:
            with pytest.raises(InputError, match="is in another unit"):
                Layout.of(image.astype(">u2"), data_range=1)

    def test_what_is_kept(self) -> None:
        image = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
        image[3, 4] = 65535  # a hot pixel
        assert Layout.of(image, data_range=4095).data_range == (0, 4095)
        assert Layout.of(image, data_range=1000).data_range == (0, 1000)
        assert Layout.of(image % 2, data_range=1).data_range == (0, 1)
        Layout.of(image.astype("float32"), data_range=1)
