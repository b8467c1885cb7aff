"""Test forward models: exact adjoints for all sizes and channels, and their effect on images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor, nn

from dipfast.errors import InputError
from dipfast.model.operators import (
    BOUNDARIES,
    Blur,
    Compose,
    Downsample,
    Identity,
    LinearOperator,
    Mask,
    Wrapped,
    as_operator,
    beyond_border,
    gaussian_kernel,
    known_mask,
    sees_beyond_border,
    taken_as_it_is,
)

SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 2**16)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def check_adjoint(operator: LinearOperator, shape: tuple[int, ...], seed: int = 0) -> None:
    """Check that <A u, y> = <u, A' y>, and that A is linear."""
    u, other = random(*shape, seed=seed), random(*shape, seed=seed + 1)
    result = operator(u)
    y = random(*result.shape, seed=seed + 2)
    back = operator.adjoint(y)
    assert back.shape == u.shape
    left, right = (result * y).sum(), (u * back).sum()
    scale = result.norm() * y.norm() + 1e-300
    assert abs(float(left - right)) <= 1e-12 * float(scale)
    torch.testing.assert_close(operator(2 * u + other), 2 * result + operator(other))


@given(height=SIZES, width=SIZES, channels=st.integers(1, 4), seed=SEEDS)
def test_identity_and_mask(height: int, width: int, channels: int, seed: int) -> None:
    shape = (2, channels, height, width)
    check_adjoint(Identity(), shape, seed)
    for known in (random(height, width, seed=seed) > 0, random(*shape, seed=seed) > 0):
        check_adjoint(Mask(known), shape, seed)


@given(
    factor=st.integers(1, 8),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    channels=st.integers(1, 3),
    kernel=st.sampled_from(["lanczos2", "lanczos3", "bicubic", "bilinear", "box"]),
    seed=SEEDS,
)
def test_downsample(
    factor: int, height: int, width: int, channels: int, kernel: str, seed: int
) -> None:
    operator = Downsample(factor, kernel)
    shape = (1, channels, factor * height, factor * width)
    check_adjoint(operator, shape, seed)
    assert operator(random(*shape)).shape == (1, channels, height, width)
    ones = torch.ones(shape, dtype=torch.float64)
    torch.testing.assert_close(operator(ones), torch.ones_like(operator(ones)))


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    boundary=st.sampled_from(BOUNDARIES),
    separable=st.booleans(),
    seed=SEEDS,
)
def test_blur(rows: int, columns: int, boundary: str, separable: bool, seed: int) -> None:
    kernel = random(rows, columns, seed=seed)
    if separable:
        kernel = torch.outer(random(rows, seed=seed), random(columns, seed=seed + 1))
    operator = Blur(kernel, boundary)
    assert operator.separable == (separable or min(rows, columns) == 1)
    check_adjoint(operator, (2, 3, 7, 8), seed)


@pytest.mark.parametrize(
    ("boundary", "mode"),
    [
        ("unknown", "nearest"),
        ("reflect", "mirror"),
        ("replicate", "nearest"),
        ("circular", "wrap"),
        ("zero", "constant"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5), (4, 3), (1, 2), (6, 6)])
@pytest.mark.parametrize("separable", [True, False])
def test_blur_is_a_convolution(
    boundary: str, mode: str, shape: tuple[int, int], separable: bool
) -> None:
    kernel = random(*shape)
    if separable:
        kernel = torch.outer(random(shape[0]), random(shape[1], seed=1))
    image = random(1, 2, 9, 10)
    expected = [ndimage.convolve(plane.numpy(), kernel.numpy(), mode=mode) for plane in image[0]]
    np.testing.assert_allclose(Blur(kernel, boundary)(image)[0], expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (4, 3), (1, 2), (9, 20)])
@pytest.mark.parametrize("smaller", [False, True])
def test_an_image_that_goes_on_beyond_the_border(shape: tuple[int, int], smaller: bool) -> None:
    blur, size = Blur(random(*shape)), (24, 30)
    operator = Compose(blur, Downsample(2)) if smaller else blur
    found = beyond_border(operator)
    assert found is not None
    wide, (rows, columns) = found
    left, right, top, bottom = blur.margins
    shape_of_wide = (1, 2, size[0] + top + bottom, size[1] + left + right)
    check_adjoint(wide, shape_of_wide)
    image = random(*shape_of_wide)
    y, narrow = wide(image), image[..., rows, columns]
    assert narrow.shape[-2:] == size
    assert y.shape == operator(narrow).shape
    doubtful = sees_beyond_border(operator, tuple(y.shape[-2:]))
    if not smaller:  # a filter that makes pictures smaller reaches a pixel or two as well
        torch.testing.assert_close(y, blur(image)[..., rows, columns])
        same = ((blur(narrow) - y).abs() < 1e-9).all(dim=1, keepdim=True)
        assert torch.equal(same, ~doubtful)
    assert int((~doubtful).sum()) > 0


@pytest.mark.parametrize(
    "operator", [Identity(), Blur(torch.ones(3, 3), "reflect"), Compose(Downsample(2))]
)
def test_nothing_is_unknown_beyond_the_border_of_others(operator: LinearOperator) -> None:
    assert beyond_border(operator) is None
    assert sees_beyond_border(operator, (4, 4)) is None


def test_a_point_becomes_the_point_spread_function() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 4] = 1
    kernel = torch.rand(3, 5)
    torch.testing.assert_close(Blur(kernel)(image)[0, 0, 3:6, 2:7], kernel)


def test_gaussian_kernel() -> None:
    kernel = gaussian_kernel(1.6, 25)
    assert kernel.shape == (25, 25)
    assert kernel.sum().item() == pytest.approx(1)
    offsets = torch.arange(25) - 12.0
    assert (kernel.sum(0) * offsets.square()).sum().item() == pytest.approx(1.6**2, rel=1e-3)
    assert Blur(kernel).separable


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_downsampled_pixels_are_central_in_their_blocks(factor: int) -> None:
    # For a ramp, each pixel of the measurement has the value at the centre of its block.
    size = 12 * factor
    ramp = torch.arange(size, dtype=torch.float64).expand(1, 1, size, size)
    centres = torch.arange(12) * factor + (factor - 1) / 2
    inner = slice(3, -3)  # the border is left out: beyond it the image is no ramp
    torch.testing.assert_close(
        Downsample(factor)(ramp)[0, 0, 5, inner], centres[inner].double(), rtol=0, atol=1e-6
    )


def test_composition() -> None:
    blur, smaller = Blur(gaussian_kernel(1.0, 5).double()), Downsample(2)
    mask = Mask(random(4, 5) > 0)
    camera = Compose(blur, smaller, mask)
    check_adjoint(camera, (1, 3, 8, 10))
    image = random(1, 3, 8, 10)
    torch.testing.assert_close(camera(image), mask(smaller(blur(image))))
    assert known_mask(camera) is mask.known
    assert known_mask(Compose(mask, blur)) is None
    assert known_mask(Compose(blur, Compose(smaller, mask))) is mask.known


def test_shape_of_the_images_of_a_composition() -> None:
    assert Compose(Blur(gaussian_kernel(1.0)), Downsample(2)).image_shape((1, 3, 4, 5)) == (
        1,
        3,
        8,
        10,
    )
    of_three = Compose(Wrapped(lambda u: u.mean(1, keepdim=True), (3, 8, 10)), Downsample(2))
    assert of_three.image_shape((1, 1, 4, 5)) == (1, 3, 8, 10)


def test_a_mask_that_is_an_array() -> None:
    known = np.array([[True, False]])
    assert torch.equal(Mask(known).known, torch.from_numpy(known))


class Faded(Identity):
    """Halve the brightness, as a class derived from one that leaves it."""

    def forward(self, image: Tensor) -> Tensor:
        return image / 2

    def adjoint(self, measurement: Tensor) -> Tensor:
        return measurement / 2


class FadedMask(Mask):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) / 2


class NamedMask(Mask):
    name = "a mask that computes what a mask does"


def test_a_derived_class_with_its_own_map_is_taken_as_it_is() -> None:
    image, known = random(1, 1, 4, 5), random(4, 5) > 0
    faded = taken_as_it_is(Faded())
    assert not isinstance(faded, Identity)
    check_adjoint(faded, (1, 1, 4, 5))
    torch.testing.assert_close(faded(image), image / 2)
    masked = taken_as_it_is(FadedMask(known))
    assert not isinstance(masked, Mask)
    assert torch.equal(known_mask(masked), known)
    torch.testing.assert_close(masked(image), torch.where(known, image / 2, 0))
    whole = taken_as_it_is(Compose(Faded(), Mask(known)))
    assert not isinstance(whole.operators[0], Identity)
    for operator in (NamedMask(known), Compose(Identity(), Mask(known)), Blur(torch.ones(3, 3))):
        assert taken_as_it_is(operator) is operator
    assert isinstance(as_operator(Faded()), Wrapped)


class Physics(nn.Module):
    """Stand for a forward model with the interface of deepinv."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self.gain * x.mean(1, keepdim=True)

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        return self.gain * y.expand(-1, 3, -1, -1) / 3

    forward = A


class TestAnyOperator:
    def test_a_module(self) -> None:
        convolution = nn.Conv2d(3, 2, 3, stride=2, bias=False, dtype=torch.float64)
        operator = as_operator(convolution, (3, 9, 9))
        check_adjoint(operator, (1, 3, 9, 9))
        # The operator is a copy whose parameters are not fitted.
        assert not any(p.requires_grad for p in operator.parameters())
        assert convolution.weight.requires_grad

    def test_a_function(self) -> None:
        check_adjoint(as_operator(lambda u: u.flip(-1), None), (1, 2, 3, 4))
        check_adjoint(as_operator(lambda u: u[..., ::2], (2, 3, 4)), (1, 2, 3, 4))

    @pytest.mark.parametrize(
        "function", [lambda u: u[..., ::-1], lambda u: np.roll(u, 1, axis=-1)], ids=["flip", "roll"]
    )
    def test_a_function_of_numpy(self, function: Any) -> None:
        operator = as_operator(function)
        with pytest.raises(InputError, match=r"get torch tensors, .* such as torch\.flip"):
            operator.adjoint(torch.ones(1, 1, 4, 4))

    def test_physics_of_deepinv(self) -> None:
        operator = as_operator(Physics())
        check_adjoint(operator, (1, 3, 4, 5))
        assert list(operator.parameters())  # registered, so that it moves between devices

    def test_an_object_with_an_adjoint(self) -> None:
        class Halves:
            def __call__(self, image: Tensor) -> Tensor:
                return image / 2

            def adjoint(self, measurement: Tensor) -> Tensor:
                return measurement / 2

        check_adjoint(as_operator(Halves()), (1, 2, 3, 4))

    def test_an_operator_of_the_package(self) -> None:
        assert isinstance(as_operator(Downsample(2)), Downsample)

    def test_gradients_flow_through_the_adjoint(self) -> None:
        y = random(1, 1, 2, 2).requires_grad_()
        operator = Downsample(2, "box")
        (slope,) = torch.autograd.grad(operator.adjoint(y).sum(), y)
        torch.testing.assert_close(slope, torch.ones_like(y))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mask(torch.ones(2, 2)), TypeError, r"known must be a boolean.*float32"),
        (lambda: Downsample(0), ValueError, "factor must be positive, got 0"),
        (lambda: Downsample(2.5), TypeError, "factor must be an integer, got 2.5"),
        (lambda: Downsample(2, "sinc"), ValueError, "kernel must be one of lanczos2.*'sinc'"),
        (lambda: Downsample(2)(torch.ones(1, 1, 3, 4)), ValueError, "multiples of factor=2"),
        (lambda: Blur(np.ones((3, 3), int)), TypeError, "kernel must be a tensor or an array"),
        (lambda: Blur(torch.ones(3)), ValueError, r"kernel must be finite, of shape.*\(3,\)"),
        (lambda: Blur(torch.full((3, 3), math.nan)), ValueError, "kernel must be finite"),
        (lambda: Blur(torch.ones(3, 3), "wrap"), ValueError, "boundary must be one of"),
        (
            lambda: Blur(torch.ones(9, 9), "reflect")(torch.ones(1, 1, 4, 8)),
            ValueError,
            "too small for a",
        ),
        (lambda: Mask(np.ones((2, 2))), TypeError, r"known must be a boolean.*one of float64"),
        (lambda: Mask([[True]]), TypeError, r"known must be a boolean.*got list"),
        (lambda: Compose(), ValueError, "operators must be one at least"),
        (lambda: Compose(Identity(), torch.abs), TypeError, r"modules, got abs; .*Wrapped\(abs\)"),
        (
            lambda: Compose(Identity(), nn.AvgPool2d(2)).adjoint(torch.ones(1, 1, 2, 2)),
            TypeError,
            r"operators must have an adjoint each, got AvgPool2d; .*\(C, H, W\)",
        ),
        (
            lambda: as_operator(aslinearoperator(np.eye(4))),
            TypeError,
            "operator must be .* which maps vectors of NumPy",
        ),
        (lambda: gaussian_kernel(0.0), ValueError, "sigma must be positive, got 0"),
        (lambda: gaussian_kernel(1.0, 4), ValueError, "size must be odd and positive, got 4"),
        (lambda: as_operator(3), TypeError, "operator must be a torch module.*got int"),
        (
            lambda: Wrapped(lambda u: u, (1, 2, 2)).adjoint(torch.ones(1, 1, 3, 3)),
            ValueError,
            r"measurement must have shape \(1, 1, 2, 2\)",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_blur_by_an_array() -> None:
    """The kernel may be an array, of either order of bytes."""
    kernel = np.array([[0.0, 0.25, 0.0], [0.125, 0.5, 0.125], [0.0, 0.0, 0.0]])
    image = torch.rand(1, 2, 7, 9)
    expected = Blur(torch.from_numpy(kernel).float())(image)
    for array in (kernel, kernel.astype(">f4"), np.asfortranarray(kernel)):
        assert torch.equal(Blur(array)(image), expected)
    assert repr(Blur(kernel)) == "Blur(kernel of 3 x 3, boundary='unknown')"


@pytest.mark.parametrize("made_inside", [True, False])
def test_adjoints_in_inference_mode(made_inside: bool) -> None:
    class Scale(LinearOperator):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.full((1,), 3.0))

        def forward(self, image: Tensor) -> Tensor:
            factor: Any = self.factor
            return image * factor

    def operators() -> list[LinearOperator]:
        blur = Blur(gaussian_kernel(0.5))
        return [blur, Downsample(2), Compose(blur, Downsample(2)), Scale()]

    y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    outside = operators()
    expected = [operator.adjoint(y) for operator in outside]
    with torch.inference_mode():
        inside = operators() if made_inside else outside
        got = [operator.adjoint(y.clone()) for operator in inside]
    for a, b in zip(got, expected):
        assert torch.equal(a, b)
