"""Checkpoint files: written whole, checked when read, and the one before is kept.

A checkpoint is a safetensors file, whose metadata holds numbers and texts as JSON: nothing in
it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast.errors import (
    CheckpointMismatchError,
    DamagedCheckpointError,
    WouldOverwriteError,
)
from dipfast.images.files import open_regular
from dipfast.prior.loop import State
from dipfast.run.observers import Observer
from dipfast.state_dict import Values, flatten, subtree

if TYPE_CHECKING:
    from dipfast.run.runner import Runner

__all__ = ["BatchCheckpoint", "Checkpoint", "CheckpointFile", "digest_of", "read_checkpoint"]

_FORMAT = "dipfast checkpoint 1"
_LARGEST_HEAD = 16_000_000  # bytes; that of the original's network has a hundred thousand
# What reading nonsense raises.
_DAMAGES = (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError)


@dataclass(frozen=True)
class Checkpoint:
    """What is in one.

    Attributes
    ----------
    values
        Tensors, numbers and texts by name.
    identity
        What run it belongs to, in terms of JSON: two runs whose identities are equal are one.
    """

    values: Values
    identity: dict[str, Any]


class CheckpointFile:
    """The place of a checkpoint, and of the one before it.

    Parameters
    ----------
    path
        Of the file; the one before it is beside it, under the same name and ``.previous``.

    Examples
    --------
    >>> import tempfile
    >>> file = CheckpointFile(Path(tempfile.mkdtemp()) / "run.checkpoint")
    >>> file.write(Checkpoint({"iteration": 5, "image": torch.zeros(2, 2)}, {"seed": 0}))
    >>> file.read({"seed": 0}).values["iteration"]
    5
    >>> file.read({"seed": 1})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dipfast.errors.CheckpointMismatchError: checkpoint ...run.checkpoint is one of another run: ...
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        # Only a whole one may take the place of the one before.
        self._whole = False

    def check_free(self) -> None:
        """Refuse to begin where a checkpoint, or anything else, would be replaced.

        Raises
        ------
        FileExistsError
            If there is one.
        FileNotFoundError
            If there is no such folder.
        """
        for path in (self.path, self.previous):
            if os.path.lexists(path):
                raise WouldOverwriteError(
                    f"checkpoint {path} exists already: go on from it (resume), or take it away"
                )
        self.check_folder()

    def check_folder(self) -> None:
        """Refuse a folder that does not exist."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: the folder {self.path.parent} does not exist")

    def write(self, checkpoint: Checkpoint) -> None:
        """Put a new one in the place of the last, which becomes the one before.

        Whenever the program is killed, one of both is there and whole.
        """
        from safetensors.torch import save

        tensors = {
            name: value.detach().contiguous()
            for name, value in checkpoint.values.items()
            if isinstance(value, Tensor)
        }
        scalars = {k: v for k, v in checkpoint.values.items() if not isinstance(v, Tensor)}
        texts = {
            "format": _FORMAT,
            "identity": json.dumps(checkpoint.identity, sort_keys=True),
            "scalars": json.dumps(scalars, sort_keys=True),
        }
        content = save(tensors, metadata={**texts, "digest": _digest(texts, tensors)})
        # The same name each time: what a program that was killed left behind is replaced.
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if self._whole:
                os.replace(self.path, self.previous)
            os.replace(partial, self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._whole = True

    def read(self, identity: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint, or the one before it if it is damaged; None if there is none.

        Raises
        ------
        ValueError
            If none is whole, or it belongs to another run; the message says what differs.
        OSError
            If it cannot be read.

        Warns
        -----
        UserWarning
            If it is damaged and the one before it is used.
        """
        self.check_folder()
        try:
            checkpoint = read_checkpoint(self.path)
            self._whole = True
        except FileNotFoundError:
            # Killed between two renamings, or there never was one.
            if not self.previous.exists():
                return None
            checkpoint = read_checkpoint(self.previous)
        except ValueError as damage:
            if not self.previous.exists():
                raise
            checkpoint = read_checkpoint(self.previous)
            warnings.warn(f"{damage}; going on from the one before it", stacklevel=2)
        differences = list(_differences("", checkpoint.identity, identity))
        if differences:
            raise CheckpointMismatchError(
                f"checkpoint {self.path} is one of another run: {'; '.join(differences)}"
            )
        return checkpoint


class BatchCheckpoint:
    """Keep the runs of a batch, one after the other, in one file.

    Parameters
    ----------
    path
        Of the file.
    every
        Iterations from one writing to the next.
    resume
        Whether to go on from the file, if it is there.
    identity
        What run it is.

    Raises
    ------
    WouldOverwriteError
        If there is a file, and ``resume`` is False.
    CheckpointMismatchError, DamagedCheckpointError
        If it is that of another run, or damaged.
    """

    def __init__(
        self, path: str | Path, every: int, resume: bool, identity: dict[str, Any]
    ) -> None:
        self.file = CheckpointFile(path)
        self.every = every
        self.identity = identity
        self._saved: Values = {}
        self._states: dict[str, Values] = {}
        if not resume:
            self.file.check_free()
        elif (found := self.file.read(identity)) is not None:
            self._saved = found.values

    def of(self, item: int) -> Observer:
        """Return the observer of the run of one image."""
        return _CheckpointObserver(self, str(item))

    def restore(self, run: Runner, item: str) -> None:
        """Take a run to where the file was written."""
        if values := subtree(self._saved, item):
            try:
                run.load(values)
            except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointMismatchError(
                    f"checkpoint {self.file.path} does not fit: {error}"
                ) from error

    def save(self, run: Runner, item: str) -> None:
        """Write the state of a run, and of those before it."""
        self._states[item] = run.state_dict()
        try:
            self.file.write(Checkpoint(flatten(self._states), self.identity))
        except OSError as error:  # such as a full disk; the work must not be lost for it
            warnings.warn(f"checkpoint {self.file.path} not written: {error}", stacklevel=2)


class _CheckpointObserver(Observer):
    def __init__(self, batch: BatchCheckpoint, item: str) -> None:
        self.batch, self.item = batch, item

    def begin(self, run: Runner) -> None:
        self.batch.restore(run, self.item)

    def observe(self, run: Runner, state: State) -> None:
        if state.iteration % self.batch.every == 0:
            self.batch.save(run, self.item)

    def end(self, run: Runner) -> None:
        self.batch.save(run, self.item)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file, and check that it is whole.

    Raises
    ------
    ValueError
        If it is no checkpoint, or damaged.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    with open_regular(path) as stream:
        try:
            size = int.from_bytes(stream.read(8), "little")
            head = json.loads(stream.read(size)) if size <= _LARGEST_HEAD else {}
            texts = dict(head["__metadata__"])
            if texts.get("format") != _FORMAT:
                raise ValueError("it is not one of this version")
            stream.seek(0)
            tensors = load(stream.read())
            digest = texts.pop("digest")
            if digest != _digest(texts, tensors):
                raise ValueError("its content has changed")
            identity, scalars = json.loads(texts["identity"]), json.loads(texts["scalars"])
            for name, value in scalars.items():
                if not isinstance(value, int | float | str):
                    raise ValueError(f"{name} is neither number nor text")
            return Checkpoint({**tensors, **scalars}, dict(identity))
        except (SafetensorError, *_DAMAGES) as error:
            raise DamagedCheckpointError(
                f"checkpoint {path} is no checkpoint or damaged: {error}"
            ) from error


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """What differs, each by its name; long values, such as digests, by their beginning."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted({*there, *here}):
            yield from _differences(f"{name}.{key}", there.get(key), here.get(key))
    elif there != here:
        values = [text if len(text) < 60 else f"{text[:9]}..." for text in map(repr, (there, here))]
        yield f"{name[1:]} is {values[0]} there, {values[1]} here"


def _digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        whole.update(f"{name} {digest_of(tensors[name])}".encode())
    return whole.hexdigest()


def digest_of(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and content."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}"
    content: Any = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else np.empty(0)
    return hashlib.sha256(head.encode() + content.tobytes()).hexdigest()
