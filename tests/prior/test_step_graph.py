"""Test recorded steps without a GPU: operations that torch dispatches are recorded and replayed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from dipfast.networks import HourglassConfig
from dipfast.prior import step_graph
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.objective import Goal
from dipfast.prior.stages import Stage
from dipfast.prior.step_graph import StepGraph

SMALL = HourglassConfig((4, 6), (5, 7), (2, 3), upsampling="nearest")


def tensors_in(result: Any) -> list[Tensor]:
    return [x for x in tree_flatten(result)[0] if isinstance(x, Tensor)]


class Recorder(TorchDispatchMode):
    """Stand for a CUDA graph: repeat operations on the same tensors and the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.replays = 0

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, tensors_in(result)))
        return result

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, results in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(results, tensors_in(again), strict=True):
                    # Views, and what is changed in place, share their memory with what was there.
                    if new.data_ptr() != old.data_ptr():
                        old.copy_(new)


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    @contextmanager
    def record(graph: Recorder, **_: object) -> Iterator[None]:
        # A graph computes nothing while it is recorded.  What the host keeps must not change then
        # either, or it would be one step ahead.
        before = [(x, x.clone()) for x in tensors_of(loops[-1])]
        state = graph.generator.get_state()
        with graph:
            yield
        for x, value in before:
            x.copy_(value)
        graph.generator.set_state(state)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(step_graph, "_stream", lambda device: device)
    return made


loops: list[DeepImagePrior] = []


def tensors_of(prior: DeepImagePrior) -> list[Tensor]:
    moments = [x for state in prior._optimizer.state.values() for x in state.values()]
    own = [prior.output, prior._average, prior._noise_level, prior._terms]
    return [x.detach() for x in (*prior._weights, *moments, *own) if isinstance(x, Tensor)]


def make(recorded: bool, *stages: Stage, **options: Any) -> DeepImagePrior:
    noisy = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    prior = DeepImagePrior(noisy, stages, network=SMALL, input_noise=(0.05, 0.01), **options)
    prior.network.is_fused = False

    def noisy_input() -> Tensor:  # as on a GPU
        noise = torch.randn(prior.z.shape, generator=prior._generator)
        return torch.addcmul(prior.z, noise, prior._noise_level)

    prior._noisy_input = noisy_input  # type: ignore[method-assign]
    if recorded:
        prior._graph = StepGraph(prior._compute, prior._generator)
    loops[:] = [prior]
    return prior


STAGES = Stage("tv", 7, 0.1), Stage("details", 9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"final_learning_rate": 0.1},
        {"optimizer": "muon", "learning_rate": 0.2, "final_learning_rate": 0.5},
    ],
    ids=str,
)
def test_replayed_steps_are_those_that_are_not_recorded(
    recorders: list[Recorder], options: dict[str, Any]
) -> None:
    plain = [(s.image, s.average, s.terms) for s in make(False, *STAGES, **options)]
    replayed = [(s.image, s.average, s.terms) for s in make(True, *STAGES, **options)]
    assert [recorder.replays for recorder in recorders] == [4, 6]  # from the fourth of a stage on
    for (image, average, terms), (other, other_average, other_terms) in zip(plain, replayed):
        torch.testing.assert_close(image, other, rtol=0, atol=1e-4)
        torch.testing.assert_close(average, other_average, rtol=0, atol=1e-4)
        torch.testing.assert_close(terms, other_terms, rtol=1e-3, atol=1e-5)


def test_a_loaded_state_is_recorded_anew(recorders: list[Recorder]) -> None:
    plain, replayed = make(False, Stage("dip", 14)), make(True, Stage("dip", 14))
    for prior in (plain, replayed):
        loops[:] = [prior]
        for state in prior:
            if state.iteration == 6:
                learned = prior.learned()
            if state.iteration == 8:
                prior.load(learned)
                prior.learning_rate /= 2
    assert [recorder.replays for recorder in recorders] == [5, 3]
    torch.testing.assert_close(plain.average, replayed.average, rtol=0, atol=1e-4)


def test_goals_that_change_are_not_recorded(recorders: list[Recorder]) -> None:
    prior = make(True, Stage("dip", 9))
    graph = prior._graph
    assert graph is not None
    assert not any(graph.replay(Goal(0.1 + 0.01 * k)) for k in range(9))
    guide = torch.zeros_like(prior.output)
    assert not any(graph.replay(Goal(guide=guide, guide_weight=1.0)) for _ in range(9))
    assert not recorders


def test_steps_that_cannot_be_recorded_are_computed(recorders: list[Recorder]) -> None:
    def compute(goal: Goal) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    make(True, Stage("dip", 1))
    graph = StepGraph(compute, torch.Generator())
    assert not any(graph.replay(Goal(0.1)) for _ in range(9))
    assert len(recorders) == 1


def test_one_step_is_recorded_at_a_time(
    recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    both, together = threading.Barrier(2), []

    @contextmanager
    def record(graph: Recorder, **_: object) -> Iterator[None]:
        with suppress(threading.BrokenBarrierError):
            together.append(both.wait(timeout=0.2))
        yield

    def fit() -> None:
        graph = StepGraph(lambda goal: None, torch.Generator())
        replayed.append([graph.replay(Goal(0.1)) for _ in range(5)])

    monkeypatch.setattr(torch.cuda, "graph", record)
    replayed: list[list[bool]] = []
    threads = [threading.Thread(target=fit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together
    assert replayed == [[False, False, False, True, True]] * 2


def test_steps_are_recorded_on_their_device(
    recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    current = [torch.device("cuda:0")]
    recorded = []

    @contextmanager
    def use(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    @contextmanager
    def record(graph: Recorder, *, stream: torch.device, **_: object) -> Iterator[None]:
        recorded.append((current[-1], stream))
        yield

    monkeypatch.setattr(torch.cuda, "device", use)
    monkeypatch.setattr(torch.cuda, "graph", record)
    second: Any = SimpleNamespace(device=torch.device("cuda:1"))
    graph = StepGraph(lambda goal: None, second)
    assert [graph.replay(Goal(0.1)) for _ in range(5)] == [False] * 3 + [True] * 2
    assert recorded == [(second.device, second.device)]
    assert current == [torch.device("cuda:0")]
