"""Open a cluster, and map a function over orders on its workers."""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import WeakSet

from dipfast.errors import (
    InputError,
    InputTypeError,
    MemoryLimitError,
    MissingExtraError,
    ProcessError,
)

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Failure", "Order", "Scheduler", "connect", "passes", "room_of", "run_orders"]

Scheduler: TypeAlias = "str | Client"
"""Where to work: ``"threads"``, ``"processes"``, ``"local"``, an address, or a client of Dask."""

Item = TypeVar("Item")

_log = logging.getLogger("dipfast.cluster")
# Clients whose workers are prepared.
_ready: WeakSet[Client] = WeakSet()

# Resources that workers declare, and jobs book.
_MEMORY, _GPU = "memory", "GPU"
# A job that so many workers died with is not sent to another one.
_MOST_DEATHS = 3
# How often a job is sent again whose worker could not read or write for a moment.
_RETRIES = 2
# Errors of a disk or a network that may be gone at the next try.
_PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
# Seconds after which the workers are counted again, and the caller is asked whether to go on.
_COUNTING, _LOOKING = 1.0, 0.1
# Seconds to wait for a scheduler, and for its first worker.
_WAITING = 30


@dataclass(frozen=True)
class Order(Generic[Item]):
    """Hold one job for a worker.

    Parameters
    ----------
    item
        What the caller knows it by.
    arguments
        The arguments of the function, which are pickled.
    memory
        Bytes that it takes beyond those of an idle worker.
    """

    item: Item
    arguments: tuple[Any, ...]
    memory: int = 0


@dataclass(frozen=True)
class Failure:
    """Hold why an order has no value.

    Parameters
    ----------
    error
        The exception: one that the function raised; a MemoryLimitError of an order that no worker
        has the memory for, which was not sent; or a ProcessError of one that workers died with.
    """

    error: BaseException


def check_extra() -> None:
    """Refuse to go on without the packages of the extra.

    Raises
    ------
    MissingExtraError
        If they are missing.
    """
    try:
        import dask.array  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "working on a cluster needs Dask: pip install 'dipfast[cluster]'"
        ) from error


@contextmanager
def connect(
    scheduler: Scheduler = "local",
    *,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
) -> Iterator[Client]:
    """Open a client of a cluster whose workers are prepared for jobs of dipfast.

    Parameters
    ----------
    scheduler
        ``"local"``, the default: worker processes on this computer with a dashboard;
        ``"processes"``: the same without one; ``"threads"``: threads of this process, which share
        its memory; the address of a scheduler of Dask, such as ``"tcp://10.0.0.1:8786"``; or a
        ``distributed.Client``, which is left open.
    workers
        How many workers there are of a cluster that is made here; None, the default, for one for
        every two cores.
    memory_limit
        The memory of each of them, in bytes or as ``"4 GB"``; None, the default, for its share of
        the memory of this computer, and 0 for no limit.  A worker that takes more is ended, and
        its job is done again; a thread cannot be ended, and no more jobs run at once than all
        threads have memory for.
    threads
        Threads of torch for each job; None, the default, divides the cores of a computer by the
        jobs that all its workers run at once.

    Yields
    ------
    distributed.Client
        The client.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    InputError, InputTypeError
        If there is no such scheduler, or an argument is invalid.

    Examples
    --------
    >>> with connect("threads", workers=2) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    check_extra()
    from distributed import Client, LocalCluster
    from distributed.system import MEMORY_LIMIT

    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InputError(f"{name} must be a whole number from 1 up, got {number!r}")
    if isinstance(scheduler, Client):
        is_ready = scheduler in _ready
        sizes = {"workers": workers, "memory_limit": memory_limit}
        _refuse("of a client", **sizes, **({"threads": threads} if is_ready else {}))
        if is_ready:
            yield scheduler
            return
        with _prepared(scheduler, threads):
            yield scheduler
        return
    if not isinstance(scheduler, str):
        raise InputTypeError(
            "scheduler must be 'threads', 'processes', 'local', an address or a client of Dask, "
            f"got {type(scheduler).__name__}"
        )
    if "://" in scheduler:
        _refuse(f"at {scheduler}", workers=workers, memory_limit=memory_limit)
        try:
            client = Client(scheduler, timeout=_WAITING)
        except (OSError, ValueError) as error:
            raise InputError(
                f"there is no scheduler of Dask at {scheduler}: {error}; 'dask scheduler' starts "
                "one, and tells its address"
            ) from error
        with client, _prepared(client, threads):
            yield client
        return
    if scheduler not in ("threads", "processes", "local"):
        raise InputError(
            "scheduler must be 'threads', 'processes', 'local', or an address such as "
            f"tcp://10.0.0.1:8786, got {scheduler!r}"
        )
    count = workers or max((os.cpu_count() or 1) // 2, 1)
    in_threads = scheduler == "threads"
    limit = MEMORY_LIMIT // count if memory_limit is None else _bytes_of(memory_limit)
    cluster = LocalCluster(
        n_workers=1 if in_threads else count,
        threads_per_worker=count if in_threads else 1,
        processes=not in_threads,
        # A thread cannot be ended for what it takes.
        memory_limit=0 if in_threads else limit,
        # What jobs book, of what is limited; threads have theirs together.
        resources={_MEMORY: count * limit if in_threads else limit} if limit else None,
        dashboard_address="127.0.0.1:0",  # any free port, and only for this computer
        silence_logs=logging.CRITICAL,
        scheduler_kwargs={
            "allowed_failures": _MOST_DEATHS - 1,
            "dashboard": None if scheduler == "local" else False,
        },
    )
    share = threads or max((os.cpu_count() or 1) // count, 1)
    with cluster, Client(cluster) as client, _prepared(client, share, are_ours=not in_threads):
        yield client


def _bytes_of(memory_limit: int | str) -> int:
    """Return a limit in bytes, 0 for none."""
    from dask.utils import parse_bytes

    try:
        limit = int(parse_bytes(memory_limit))
    except (ValueError, OverflowError, AttributeError):
        limit = -1
    if limit < 0:
        raise InputError(
            "memory_limit must be a number of bytes or a text such as '4 GB', 0 for no limit, got "
            f"{memory_limit!r}"
        )
    return limit


def _refuse(whose: str, **options: int | str | None) -> None:
    """Refuse what has been decided where a cluster was made."""
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name} is for a cluster that is made here, and that {whose} has its workers "
                "already; leave it out"
            )


@contextmanager
def _prepared(client: Client, threads: int | None, *, are_ours: bool = False) -> Iterator[None]:
    """Prepare the workers of a client that are there, and those that come.

    ``are_ours`` says that they are processes that were started here, and end with this one.
    """
    import torch

    from dipfast.cluster.plugin import WorkerShare, cores_of, jobs_on_cores

    before = torch.get_num_threads()
    try:
        client.wait_for_workers(1, timeout=_WAITING)
    except TimeoutError as error:
        raise ProcessError(
            f"the scheduler at {client.scheduler.address} has no worker after {_WAITING} s; "
            "'dask worker ADDRESS' starts one"
        ) from error
    jobs = None
    if threads is None:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        running = {address: worker["nthreads"] for address, worker in workers.items()}
        jobs = jobs_on_cores(client.run(cores_of), running)
    share = WorkerShare(threads, jobs, leaves_ctrl_c=are_ours)
    client.register_plugin(share)
    if client.dashboard_link:
        _log.info("dashboard: %s", client.dashboard_link)
    _ready.add(client)
    try:
        yield
    finally:
        _ready.discard(client)
        client.unregister_worker_plugin(share.name)
        # Workers that are threads of this process have set it, too.
        torch.set_num_threads(before)


def run_orders(
    client: Client,
    function: Callable[..., Any],
    orders: Iterator[Order[Item]],
    *,
    begin: Callable[[Item], object] = lambda item: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Item, Any]]:
    """Run a function on the workers of a cluster, and yield its values as they come.

    So many orders are sent at a time as can be worked on at once: when a worker dies, only what it
    was doing is suspected.  A job whose worker dies is sent to another one, until three have died.

    Parameters
    ----------
    client
        The client, of :func:`connect`.
    function
        A function of a module that workers can import.
    orders
        The orders.
    begin
        Called with the item of an order before it is sent.
    stop
        Asked several times a second; True ends, and the jobs that were not done are given up.

    Yields
    ------
    tuple
        The item of each order, and what the function returned, or a :class:`Failure`.

    Raises
    ------
    ProcessError
        If the scheduler is gone.
    """
    workers = _Workers(client)
    finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
    flying: dict[str, tuple[Order[Item], Future]] = {}
    again: list[Future] = []
    orders, left = iter(orders), True
    held: Order[Item] | None = None
    try:
        while not stop():
            while left and len(flying) < workers.slots():
                order = held or next(orders, None)
                held = None
                if order is None:
                    left = False
                    break
                if order.memory > workers.memory:
                    yield order.item, Failure(MemoryLimitError(_too_large(order, workers)))
                    continue
                workers.largest = max(workers.largest, order.memory)
                if len(flying) >= workers.slots():  # there is no room for one of this size yet
                    held = order
                    break
                begin(order.item)
                future = client.submit(
                    function,
                    *order.arguments,
                    pure=False,
                    retries=_RETRIES,
                    resources=workers.booking(order.memory),
                )
                flying[future.key] = order, future
                future.add_done_callback(finished.put)
            if not flying:
                if not left:
                    return
                continue
            arrived = [*again, *_take_all(finished)]
            values = _values(client, arrived)
            # Their workers died before the values were fetched, and others do them again.
            again = [future for future in arrived if future.key not in values]
            for key, value in values.items():
                yield flying.pop(key)[0].item, value
    finally:
        if flying:
            client.cancel([future for _, future in flying.values()], force=True)


def passes(error: BaseException) -> bool:
    """Return whether an error may be gone at the next try, on another worker perhaps."""
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in _PASSING
    )


def room_of(client: Client) -> Callable[[], float]:
    """Return a function that tells the memory of the largest worker of a cluster.

    It asks the scheduler from time to time, and not at each call.

    Parameters
    ----------
    client
        The client, of :func:`connect`.

    Returns
    -------
    callable
        Without arguments; returns bytes, infinity where no worker has a limit.
    """
    workers = _Workers(client)
    return lambda: workers.memory


def _take_all(finished: queue.SimpleQueue[Future]) -> list[Future]:
    """Return the futures that are there, after a moment at most."""
    arrived = []
    try:
        arrived.append(finished.get(timeout=_LOOKING))
        while True:
            arrived.append(finished.get_nowait())
    except queue.Empty:
        return arrived


def _values(client: Client, futures: list[Future]) -> dict[str, Any]:
    """Return by key what jobs returned, or why they did not; nothing of one that is done again."""
    # Looked at once, because a worker may die at any moment.
    statuses = {future.key: future.status for future in futures}
    done = [future for future in futures if statuses[future.key] == "finished"]
    values = dict(zip((future.key for future in done), client.gather(done) if done else []))
    ended = (future for future in futures if statuses[future.key] in ("error", "cancelled"))
    return values | {future.key: _failure(future) for future in ended}


def _failure(future: Future) -> Failure:
    """Return why a job did not return."""
    from distributed import KilledWorker

    if future.status != "error":
        raise ProcessError(
            "the connection to the scheduler is lost; what was done is kept, and a second call "
            "goes on"
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        # A scheduler that was there before has a number of its own.
        number = error.allowed_failures + 1
        who = f"{number} workers" if number > 1 else "its worker"
        error = ProcessError(
            f"{who} ended while doing it, most likely because memory did not suffice; give "
            "workers more of it (fewer of them, or a larger limit), or cut the picture into pieces"
        )
    return Failure(error)


class _Workers:
    """Know what the workers of a cluster have, looked at again from time to time.

    Attributes
    ----------
    largest
        The most bytes that an order takes that was sent, or is next.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._looked = -_COUNTING
        self._workers: list[dict[str, Any]] = []
        self.largest = 0

    def slots(self) -> int:
        """Return how many jobs can be worked on at once, one at least."""
        largest = max(self.largest, 1)
        each = (min(w["nthreads"], _memory_of(w) // largest) for w in self._there())
        return int(max(sum(max(number, 1) for number in each), 1))

    @property
    def memory(self) -> float:
        """Return the bytes that the largest worker has."""
        return max(map(_memory_of, self._there()), default=math.inf)

    def booking(self, memory: int) -> dict[str, float]:
        """Return what a job books, of what all workers declare."""
        declared = [set(worker["resources"]) for worker in self._there()]
        common = set.intersection(*declared) if declared else set()
        booked = {_MEMORY: float(memory), _GPU: 1.0}
        return {name: booked[name] for name in booked if name in common}

    def _there(self) -> list[dict[str, Any]]:
        """Return what is known of the workers."""
        if time.monotonic() >= self._looked + _COUNTING:
            self._looked = time.monotonic()
            workers = list(self._client.scheduler_info(n_workers=-1)["workers"].values())
            # All of them may have died, and are started again.
            self._workers = workers or self._workers
        return self._workers


def _memory_of(worker: dict[str, Any]) -> float:
    """Return the bytes that a worker declares, or that it is ended at."""
    return float(worker["resources"].get(_MEMORY) or worker["memory_limit"] or math.inf)


def _too_large(order: Order[Any], workers: _Workers) -> str:
    return (
        f"it takes about {order.memory / 1e9:.1f} GB, and the largest worker has "
        f"{workers.memory / 1e9:.1f} GB; fewer workers, or a larger limit, give each more, and "
        "smaller tiles (tile) take less where a network is fitted"
    )
