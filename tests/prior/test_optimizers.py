"""Test Muon: against a plain iteration, over shapes and layouts, through checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dipfast.errors import InputError, InputTypeError
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.prior.optimizers import Muon

SMALL = HourglassConfig(down=(4, 6), up=(5, 7), skip=(2, 0))
SHAPES = [(16, 8, 3, 3), (16, 1, 1, 1), (12, 12, 1, 1), (3, 16, 1, 1), (1, 1, 1, 1), (9, 2)]


def plain_newton_schulz(x: Tensor, steps: int = 5) -> Tensor:
    """Orthogonalise one matrix as the formula reads, in double precision."""
    x = x.double()
    norm = x.norm()
    x = x / norm if norm > 0 else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def updates(gradients: list[Tensor], **options: float) -> list[Tensor]:
    """Return what the first step subtracts from parameters with these gradients."""
    parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    Muon(parameters, **{"lr": 1.0, "momentum": 0.0, **options}).step()
    return [-parameter.detach() for parameter in parameters]


def network(seed: int = 0) -> Hourglass:
    made = Hourglass(3, 2, SMALL)
    made.initialise(torch.Generator().manual_seed(seed))
    return made


def fit(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    z, target = normal(1, 3, 16, 16, seed=1), normal(1, 2, 16, 16, seed=2).sigmoid()
    for _ in range(steps):
        optimizer.zero_grad()
        (network(z) - target).square().mean().backward()
        optimizer.step()


def moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for k, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            yield f"{k}.{name}", value


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    for left, right in zip(a.parameters(), b.parameters()):
        assert torch.equal(left, right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (128, 1152), (4, 128), (1, 9), (1, 1)])
def test_singular_values_of_an_update_are_nearly_equal(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    (update,) = updates([normal(*shape, dtype=dtype)])
    rows, columns = shape
    values = torch.linalg.svdvals(update) / max(1, rows / columns) ** 0.5
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("size", [2, 16, 128])
def test_singular_values_of_square_matrices_are_nearly_equal(size: int) -> None:
    left, _ = torch.linalg.qr(normal(size, size))
    right, _ = torch.linalg.qr(normal(size, size, seed=1))
    (update,) = updates([left * torch.linspace(0.1, 1, size) @ right])
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.6
    assert values.max() < 1.3


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3])),
        min_size=1,
        max_size=5,
    ),
    st.integers(-9, 9),
    st.integers(0, 100),
)
def test_updates_are_those_of_the_formula(
    shapes: list[tuple[int, int, int]], exponent: int, seed: int
) -> None:
    gradients = [
        10.0**exponent * normal(rows, columns, kernel, kernel, seed=seed + k)
        for k, (rows, columns, kernel) in enumerate(shapes)
    ]
    for update, gradient in zip(updates(gradients), gradients):
        matrix = gradient.flatten(1)
        rows, columns = matrix.shape
        expected = max(1, rows / columns) ** 0.5 * plain_newton_schulz(matrix)
        torch.testing.assert_close(update.flatten(1).double(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("smallest", [-2, -4, -8])
def test_small_singular_values_are_those_of_the_plain_iteration(smallest: int) -> None:
    left, _ = torch.linalg.qr(normal(64, 64, dtype=torch.float64))
    right, _ = torch.linalg.qr(normal(576, 64, seed=1, dtype=torch.float64))
    x = left * torch.logspace(0, smallest, 64, dtype=torch.float64) @ right.T
    (update,) = updates([x.float()])
    expected = plain_newton_schulz(x)
    torch.testing.assert_close(update.double(), expected, rtol=0, atol=2e-3)
    values = torch.linalg.svdvals(expected)
    torch.testing.assert_close(torch.linalg.svdvals(update.double()), values, rtol=0, atol=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_number_of_newton_schulz_steps(steps: int) -> None:
    x = normal(8, 36)
    (update,) = updates([x], ns_steps=steps)
    torch.testing.assert_close(update.double(), plain_newton_schulz(x, steps), rtol=0, atol=1e-3)


def test_steps_are_those_of_the_formula() -> None:
    weight = normal(6, 4, 3, 3).requires_grad_()
    expected, momentum = weight.detach().double().flatten(1), torch.zeros(6, 36).double()
    optimizer = Muon([weight], lr=0.3, momentum=0.9)
    for k in range(4):
        weight.grad = normal(6, 4, 3, 3, seed=k + 1)
        gradient = weight.grad.double().flatten(1)
        momentum = 0.9 * momentum + 0.1 * gradient
        expected -= 0.3 * plain_newton_schulz(0.9 * momentum + 0.1 * gradient)
        optimizer.step()
    torch.testing.assert_close(weight.detach().double().flatten(1), expected, rtol=0, atol=1e-3)


def test_matrices_in_one_batch_are_updated_as_by_themselves() -> None:
    gradients = [normal(*shape, seed=k) for k, shape in enumerate(SHAPES + SHAPES)]
    together = updates(gradients)
    for update, gradient in zip(together, gradients):
        (alone,) = updates([gradient])
        torch.testing.assert_close(update, alone, rtol=0, atol=1e-3)


def test_other_parameters_are_updated_as_by_adam() -> None:
    parameters = [normal(8), normal(1)[0], normal(5, seed=1)]
    ours = [parameter.clone().requires_grad_() for parameter in parameters]
    others = [parameter.clone().requires_grad_() for parameter in parameters]
    optimizer, adam = Muon(ours, adam_lr=0.03), torch.optim.Adam(others, lr=0.03, fused=True)
    for k in range(3):
        for p, q in zip(ours, others):
            p.grad = normal(8, seed=k)[: p.numel()].view(p.shape)
            q.grad = p.grad.clone()
        optimizer.step()
        adam.step()
    for p, q in zip(ours, others):
        assert torch.equal(p, q)


@pytest.mark.parametrize("others", [True, False])
def test_one_group_may_be_empty(others: bool) -> None:
    parameter = normal(*((4,) if others else (4, 4))).requires_grad_()
    before = parameter.detach().clone()
    parameter.grad = torch.ones_like(parameter)
    Muon([parameter]).step()
    assert (parameter != before).all()


def test_learning_rates_may_be_tensors() -> None:
    networks = network(), network()
    fit(networks[0], Muon(networks[0].parameters(), 0.1, 0.01), 3)
    rates = torch.tensor(0.1), torch.tensor(0.01)
    fit(networks[1], Muon(networks[1].parameters(), *rates), 3)
    for p, q in zip(*(n.parameters() for n in networks)):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)


def test_a_schedule_scales_both_groups() -> None:
    fitted = network()
    optimizer = Muon(fitted.parameters(), lr=0.2, adam_lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 / (k + 1))
    fit(fitted, optimizer, 1)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_the_objective_falls() -> None:
    fitted = network()
    z, target = normal(1, 3, 16, 16, seed=1), normal(1, 2, 16, 16, seed=2).sigmoid()
    before = (fitted(z) - target).square().mean()
    fit(fitted, Muon(fitted.parameters()), 30)
    assert (fitted(z) - target).square().mean() < 0.7 * before


def test_step_returns_what_the_closure_returns() -> None:
    weight = normal(3, 3).requires_grad_()

    def closure() -> Tensor:
        value = weight.square().sum()
        value.backward()
        return value

    before = weight.detach().clone()
    assert Muon([weight]).step(closure) == before.square().sum()
    assert (weight != before).any()


def resumed(optimizer: Muon, fitted: nn.Module, memory_format: torch.memory_format) -> Muon:
    """Return an optimiser with the state of another, as the loop stores it: tensors by name."""
    stored = {k: v.clone(memory_format=torch.contiguous_format) for k, v in moments(optimizer)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in stored.items():
        k, _, key = name.partition(".")
        value = value.contiguous(memory_format=memory_format) if value.ndim == 4 else value
        state.setdefault(int(k), {})[key] = value.clone()
    other = Muon(fitted.parameters())
    other.load_state_dict({"state": state, "param_groups": other.state_dict()["param_groups"]})
    return other


@pytest.mark.parametrize("stored", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("used", [torch.contiguous_format, torch.channels_last])
def test_a_resumed_fit_has_the_same_bits(
    stored: torch.memory_format, used: torch.memory_format
) -> None:
    fitted = network().to(memory_format=used)
    optimizer = Muon(fitted.parameters())
    fit(fitted, optimizer, 3)
    other = copy.deepcopy(fitted)
    again = resumed(optimizer, other, stored)
    for (name, a), (_, b) in zip(moments(optimizer), moments(again)):
        assert torch.equal(a, b), name
        assert a.stride() == b.stride(), name
    fit(fitted, optimizer, 3)
    fit(other, again, 3)
    assert_same_bits(fitted, other)


def test_a_copy_continues_with_the_same_bits() -> None:
    fitted = network()
    optimizer = Muon(fitted.parameters())
    fit(fitted, optimizer, 2)
    other, again = copy.deepcopy((fitted, optimizer))
    fit(fitted, optimizer, 2)
    fit(other, again, 2)
    assert_same_bits(fitted, other)


def test_channels_last_has_the_same_trajectory() -> None:
    fitted, other = network().double(), network().double().to(memory_format=torch.channels_last)
    z, target = normal(1, 3, 16, 16, seed=1).double(), normal(1, 2, 16, 16, seed=2).sigmoid()
    optimizers = [Muon(n.parameters()) for n in (fitted, other)]
    for _ in range(3):
        for n, optimizer in zip((fitted, other), optimizers):
            optimizer.zero_grad()
            (n(z) - target).square().mean().backward()
            optimizer.step()
    assert any(not p.is_contiguous() for p in other.parameters())
    for p, q in zip(fitted.parameters(), other.parameters()):
        if p.ndim == 4:  # gradients of biases before batch normalisation are rounding alone
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 0],
}


@pytest.mark.parametrize("of_gradient", LAYOUTS)
@pytest.mark.parametrize("of_weight", LAYOUTS)
def test_every_layout_gets_the_same_update(of_weight: str, of_gradient: str) -> None:
    x, gradient = normal(6, 4, 3, 2), normal(6, 4, 3, 2, seed=1)
    results = []
    for layouts in (("contiguous", "contiguous"), (of_weight, of_gradient)):
        weight = LAYOUTS[layouts[0]](x.clone()).requires_grad_()
        optimizer = Muon([weight])
        for _ in range(2):
            weight.grad = LAYOUTS[layouts[1]](gradient.clone())
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(*results, rtol=0, atol=1e-4)


def test_vectors_with_gaps_get_the_same_update() -> None:
    results = []
    for x in (normal(8), torch.stack([normal(8)] * 2, dim=-1)[:, 0]):
        x = x.requires_grad_()
        optimizer = Muon([x])
        for k in range(2):
            x.grad = torch.tensor(float(k + 1)).expand(8)
            optimizer.step()
        results.append(x.detach())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("shape", [*SHAPES, (5,)])
def test_a_gradient_of_zeros_changes_nothing(shape: tuple[int, ...]) -> None:
    (update,) = updates([torch.zeros(shape)])
    assert torch.equal(update, torch.zeros(shape))


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e-14, 1e15])
def test_updates_are_bounded_for_gradients_of_any_scale(scale: float) -> None:
    (update,) = updates([scale * normal(16, 144)])
    assert update.isfinite().all()
    assert torch.linalg.svdvals(update).max() < 1.3


def test_gradients_that_are_no_numbers_are_not_hidden() -> None:
    gradients = [normal(4, 6), normal(4, 6, seed=1), normal(5)]
    gradients[0][1, 2] = gradients[2][3] = torch.nan
    first, second, vector = updates(gradients)
    assert first.isnan().any()
    assert second.isfinite().all()
    assert vector.isnan().any()


def test_parameters_without_gradient_are_left_as_they_are() -> None:
    parameters = [normal(*shape).requires_grad_() for shape in ((4, 3), (4, 3), (4,), (4,))]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = Muon(parameters)
    optimizer.step()
    assert not optimizer.state_dict()["state"]
    for k in (1, 2):
        parameters[k].grad = torch.ones_like(parameters[k])
    optimizer.step()
    changed = [not torch.equal(p, q) for p, q in zip(parameters, before)]
    assert changed == [False, True, True, False]


def test_a_step_reads_no_values() -> None:
    shapes = [(16, 8, 3, 3), (32, 4, 1, 1), (16,)]
    # On this device there are none.
    parameters = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
    optimizer = Muon(parameters)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    buffers = [value for name, value in moments(optimizer) if not name.endswith("step")]
    assert len(buffers) == 4
    assert all(value.is_meta for value in buffers)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_parameters_without_elements_are_no_obstacle(shape: tuple[int, ...]) -> None:
    (update,) = updates([torch.zeros(shape)])
    assert update.shape == shape


def test_small_singular_values_survive_a_reduced_precision_of_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = normal(16, 144) * torch.logspace(0, -4, 16)[:, None]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    (update,) = updates([x])
    expected = plain_newton_schulz(x)
    torch.testing.assert_close(update.double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -0.1},
        {"adam_lr": -0.1},
        {"lr": float("nan")},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"betas": (0.9, 1.0)},
        {"betas": (0.9,)},
        {"betas": (0.9, 0.99, 0.999)},
        {"eps": 0.0},
        {"ns_steps": 0},
        {"ns_steps": 2.5},
    ],
)
def test_values_out_of_range_are_refused(options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=name):
        Muon([normal(3, 3)], **options)


def test_parameters_have_to_be_tensors() -> None:
    with pytest.raises(InputError, match="got none"):
        Muon([])
    with pytest.raises(InputTypeError, match="must be tensors"):
        Muon([{"params": [normal(3)]}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({0: {"step": torch.ones(()), "exp_avg": normal(4, 3)}}, "must have"),
        ({0: {"momentum_buffer": normal(3, 4)}}, "shape"),
        ({1: {"momentum_buffer": normal(4)}}, "must have"),
        ({1: {"step": torch.ones(()), "exp_avg": normal(4), "exp_avg_sq": normal(5)}}, "shape"),
    ],
)
def test_the_state_of_another_optimiser_is_refused(state: dict, message: str) -> None:
    optimizer = Muon([normal(4, 3), normal(4)])
    groups = optimizer.state_dict()["param_groups"]
    with pytest.raises(InputError, match=message):
        optimizer.load_state_dict({"state": state, "param_groups": groups})
