"""Jobs on an executor: the result of one process, and a refusal of what stays in it."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import dipfast
from dipfast.errors import InputError, InputTypeError, ProcessError

STACK = np.random.default_rng(0).normal(128, 20, (4, 20, 20)).clip(0, 255).astype(np.uint8)


class Pickling:
    """Run each job at once, as another process would: from what was pickled of it."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        import pickle

        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        self.jobs.append(arguments)
        future: Future[Any] = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return future


@pytest.mark.parametrize(
    "options", [{"quality": "fast"}, {"method": "two_stage", "max_iterations": 4}]
)
def test_result_is_that_of_one_process(options: Any) -> None:
    executor = Pickling()
    there = dipfast.denoise(STACK, stack_axis=0, executor=executor, **options)
    here = dipfast.denoise(STACK, stack_axis=0, **options)
    assert len(executor.jobs) == len(STACK)
    assert np.array_equal(there.image, here.image)
    of_time = {"seconds"}
    assert {k: v for k, v in there.report().items() if k not in of_time} == {
        k: v for k, v in here.report().items() if k not in of_time
    }


def test_jobs_carry_their_own_masks() -> None:
    executor = Pickling()
    missing = np.random.default_rng(1).random(STACK.shape) < 0.3
    dipfast.inpaint(STACK, missing, stack_axis=0, quality="fast", executor=executor)
    masks = [job.problem.operator.known for ((job,),) in executor.jobs]
    assert len(masks) == len(STACK)
    assert [mask.untyped_storage().nbytes() for mask in masks] == [STACK[0].size] * len(STACK)


def test_threads() -> None:
    with ThreadPoolExecutor(2) as executor:
        there = dipfast.denoise(STACK, stack_axis=0, quality="fast", executor=executor)
    here = dipfast.denoise(STACK, stack_axis=0, quality="fast")
    assert np.array_equal(there.image, here.image)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("callback", print),
        ("interrupt", dipfast.Interrupt()),
        ("time_limit", 10),
        ("snapshots", 1),
        ("checkpoint", "x"),
    ],
)
def test_what_stays_in_the_process_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} works in the process that calls"):
        dipfast.denoise(STACK, stack_axis=0, executor=Pickling(), **{name: value})


def test_no_executor() -> None:
    with pytest.raises(InputTypeError, match="must have the method submit"):
        dipfast.denoise(STACK, stack_axis=0, executor=3)  # type: ignore[arg-type]


def test_an_executor_that_breaks() -> None:
    class Breaking(Pickling):
        def submit(self, function: Any, *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if self.jobs:
                return future
            self.jobs.append(arguments)
            future.set_exception(BrokenExecutor("a process died"))
            return future

    with pytest.raises(ProcessError, match="a process died"):
        dipfast.denoise(STACK, stack_axis=0, quality="fast", executor=Breaking())


def test_an_executor_that_is_broken_takes_no_more_jobs() -> None:
    class Broken(Pickling):
        def submit(self, function: Any, *arguments: Any) -> Future[Any]:
            if self.jobs:  # the process of the first job has died meanwhile
                raise BrokenExecutor("a process died")
            self.jobs.append(arguments)
            return Future()

    with pytest.raises(ProcessError, match="a process died"):
        dipfast.denoise(STACK, stack_axis=0, quality="fast", executor=Broken())
