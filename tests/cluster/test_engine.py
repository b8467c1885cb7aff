"""Orders on workers: each value once, whatever happens to workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tests.cluster import on_workers

from dipfast.cluster import connect
from dipfast.cluster.engine import Failure, Order, _failure, run_orders
from dipfast.cluster.plugin import WorkerShare, jobs_on_cores
from dipfast.errors import (
    InputError,
    InputTypeError,
    MemoryLimitError,
    MissingExtraError,
    ProcessError,
)


def begun(folder: Path) -> Counter[str]:
    return Counter(path.name.split("-")[0] for path in folder.iterdir())


def orders(count: int, *arguments: Any) -> Any:
    return (Order(number, (number, *arguments)) for number in range(count))


def test_each_order_is_done_once(client: Any, tmp_path: Path) -> None:
    found = dict(run_orders(client, on_workers.square, orders(30, str(tmp_path))))
    assert found == {number: number**2 for number in range(30)}
    assert set(begun(tmp_path).values()) == {1}


def test_values_come_before_all_orders_are_made(client: Any, tmp_path: Path) -> None:
    made = []

    def making() -> Any:
        for order in orders(30, str(tmp_path)):
            made.append(order.item)
            yield order

    next(run := run_orders(client, on_workers.square, making()))
    assert len(made) < 10
    run.close()


def test_a_failure_ends_no_other(client: Any) -> None:
    found = dict(run_orders(client, on_workers.fail, orders(4)))
    assert isinstance(found.pop(1).error, ValueError)
    assert found == {0: 0, 2: 2, 3: 3}


def test_one_that_no_worker_has_the_memory_for_is_not_sent(client: Any, tmp_path: Path) -> None:
    large = Order(0, (0, str(tmp_path)), memory=10**15)
    found = dict(run_orders(client, on_workers.square, iter([large, Order(1, (1, str(tmp_path)))])))
    assert isinstance(found[0].error, MemoryLimitError)
    assert "1000000.0 GB, and the largest worker has" in str(found[0].error)
    assert found[1] == 1
    assert set(begun(tmp_path)) == {"1"}


def test_others_go_on_at_once_beside_one_that_is_too_large() -> None:
    begun: list[int] = []
    orders = (Order(n, (n, 0.0), memory=10**15 if n == 0 else 1) for n in range(4))
    with connect("threads", workers=3) as client:
        run = run_orders(client, on_workers.square_after, orders, begin=begun.append)
        assert isinstance(next(run)[1], Failure)
        next(run)
        assert begun == [1, 2, 3]
        run.close()


def test_memory_is_booked(client: Any) -> None:
    resources = [worker["resources"] for worker in client.scheduler_info()["workers"].values()]
    limits = [worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()]
    assert [each["memory"] for each in resources] == limits


def test_threads_book_the_memory_that_they_are_given() -> None:
    with connect("threads", workers=2, memory_limit="1 GB") as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["resources"] == {"memory": 2e9}
        large = Order(0, (0, 0.0), memory=3 * 10**9)
        (only,) = run_orders(client, on_workers.square_after, iter([large]))
        assert isinstance(only[1].error, MemoryLimitError)


def test_no_limit_of_memory_books_none() -> None:
    with connect("threads", workers=2, memory_limit=0) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["resources"] == {}
        large = Order(3, (3, 0.0), memory=10**15)
        begun = time.monotonic()
        stop = lambda: time.monotonic() > begun + 20  # noqa: E731
        run = run_orders(client, on_workers.square_after, iter([large]), stop=stop)
        assert list(run) == [(3, 9)]


def test_a_large_order_waits_where_memory_is_not_booked(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = {"nthreads": 4, "resources": {}, "memory_limit": 8 * 10**9}
    monkeypatch.setattr("dipfast.cluster.engine._Workers._there", lambda self: [worker])
    sizes = [1, 1, 1, 7, 1]
    orders = (Order(n, (n, 0.1), memory=size * 10**9) for n, size in enumerate(sizes))
    flying: set[int] = set()
    together: list[set[int]] = []

    def begin(item: int) -> None:
        flying.add(item)
        together.append(set(flying))

    with connect("threads", workers=4) as client:
        for item, _ in run_orders(client, on_workers.square_after, orders, begin=begin):
            flying.remove(item)
    assert together == [{0}, {0, 1}, {0, 1, 2}, {3}, {4}]


def test_workers_of_one_computer_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"a": ("one", [0, 1, 2, 3]), "b": ("one", [0, 1, 2, 3]), "c": ("two", [0])}
    jobs = jobs_on_cores(places, {"a": 1, "b": 1, "c": 1})
    monkeypatch.setattr("dipfast.cluster.plugin.cores_of", lambda: places["a"])
    before = torch.get_num_threads()
    worker = Mock(state=Mock(nthreads=1))
    try:
        for counted, threads in ((jobs, 2), ({}, 4)):
            share = WorkerShare(None, counted)
            share.setup(worker)
            assert torch.get_num_threads() == threads
            share.teardown(worker)
            assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("leaves", [False, True])
def test_workers_that_were_started_here_leave_ctrl_c_to_the_program(leaves: bool) -> None:
    handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    try:
        share = WorkerShare(threads, leaves_ctrl_c=leaves)
        share.setup(Mock())
        there = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, handler)
        torch.set_num_threads(threads)
    assert there == (signal.SIG_IGN if leaves else handler)


def test_workers_of_a_client_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    before = torch.get_num_threads()
    counted = Mock(return_value={})
    monkeypatch.setattr("dipfast.cluster.plugin.jobs_on_cores", counted)
    options: dict[str, Any] = {"dashboard_address": None, "processes": False}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        distributed.Client(cluster) as own,
        connect(own),
    ):
        cores, running = counted.call_args.args
        assert set(cores) == set(running)
        assert list(running.values()) == [1, 1]
    assert torch.get_num_threads() == before


def test_one_whose_worker_is_killed_is_done_by_another(client: Any, tmp_path: Path) -> None:
    found = dict(
        run_orders(client, on_workers.square_or_die, orders(12, str(tmp_path), mortal := 5, 1))
    )
    assert found == {number: number**2 for number in range(12)}
    times = begun(tmp_path)
    assert times.pop(str(mortal)) == 2
    assert set(times.values()) == {1}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_one_whose_worker_is_killed_before_its_value_is_fetched_is_done_again(client: Any) -> None:
    seconds = {1: 0.0, 2: 0.5, 3: 0.0}
    run = run_orders(
        client,
        on_workers.square_after,
        (Order(number, (number, after)) for number, after in seconds.items()),
    )
    assert next(run) == (1, 1)
    slow = list(client.futures)[-1]  # a third order is sent when this one has been taken
    until = time.monotonic() + 30
    while client.futures[slow].status == "pending" and time.monotonic() < until:
        time.sleep(0.005)
    (holder,) = client.who_has()[slow]
    os.kill(client.run(os.getpid, workers=[holder])[holder], signal.SIGKILL)
    while client.futures[slow].status == "finished" and time.monotonic() < until:
        time.sleep(0.005)
    assert dict(run) == {2: 4, 3: 9}


def test_stop_gives_up_what_is_not_done(client: Any) -> None:
    asked = iter([False, False, True])
    assert list(run_orders(client, on_workers.slow, orders(5), stop=lambda: next(asked))) == []


def test_one_that_ends_three_workers_for_memory_fails_and_the_others_go_on() -> None:
    with connect("processes", workers=1, memory_limit="1.5 GB", threads=1) as client:
        large, *others = (Order(number, (number * 10**9,)) for number in (3, 0, 0))
        found = list(run_orders(client, on_workers.take_memory, iter([large, *others])))
    (number, failure), *rest = found
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ProcessError)
    assert "3 workers ended while doing it" in str(failure.error)
    assert "memory" in str(failure.error)
    assert [number, *rest] == [3, (0, 0), (0, 0)]


def test_as_many_deaths_are_told_as_the_scheduler_allows() -> None:
    from distributed import Future, KilledWorker

    future = Mock(spec=Future, status="error")
    future.exception.return_value = KilledWorker("key", Mock(), 0)
    assert str(_failure(future).error).startswith("its worker ended while doing it")


def test_threads_leave_the_threads_of_torch_as_they_were() -> None:
    before = torch.get_num_threads()
    with connect("threads", workers=2, threads=before + 2) as client:
        assert client.submit(torch.get_num_threads).result() == before + 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"scheduler": "nearby"}, InputError, "'threads', 'processes', 'local', or an address"),
        ({"scheduler": 2}, InputTypeError, "got int"),
        ({"memory_limit": -5}, InputError, "memory_limit must be .* got -5"),
        ({"memory_limit": "4 foo"}, InputError, "memory_limit must be .* got '4 foo'"),
        ({"memory_limit": "auto"}, InputError, "memory_limit must be .* got 'auto'"),
        ({"workers": 0}, InputError, "workers must be a whole number from 1 up, got 0"),
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, InputError, "workers is for a cluster"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text), connect(**arguments):
        pass


def test_no_scheduler_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dipfast.cluster.engine._WAITING", 0.5)
    with pytest.raises(InputError, match="no scheduler of Dask at tcp"), connect("tcp://[::1]:1"):
        pass


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dipfast\[cluster\]'"), connect():
        pass
