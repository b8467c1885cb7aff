"""Checkpoint files: written atomically and checked when read; the previous one is kept.

A checkpoint is a safetensors file, whose metadata hold numbers and texts as JSON: nothing in it is
ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dipfast.errors import (
    CheckpointMismatchError,
    DamagedCheckpointError,
    InputError,
    WouldOverwriteError,
)
from dipfast.images.files import open_regular
from dipfast.prior.loop import State
from dipfast.run.observers import Observer, Run
from dipfast.state_dict import Values, flatten, subtree
from dipfast.warn import warn_caller

if TYPE_CHECKING:
    from dipfast.run.runner import Runner

__all__ = ["BatchCheckpoint", "Checkpoint", "CheckpointFile", "digest_of", "read_checkpoint"]

_FORMAT = "dipfast checkpoint 2"
_ANEW = "another file name begins anew"
# Bytes of the largest header that is read; that of the network of the DIP paper has 100 000.
_LARGEST_HEAD = 16_000_000
# Exceptions that reading a damaged file may raise.
_DAMAGES = (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError)


@dataclass(frozen=True)
class Checkpoint:
    """Hold the content of a checkpoint.

    Parameters
    ----------
    values
        Tensors, numbers and texts by name.
    identity
        The identity of the run that it belongs to (:func:`dipfast.run.record.identify`), ready for
        JSON.
    """

    values: Values
    identity: dict[str, Any]


class CheckpointFile:
    """Write and read the file of a checkpoint, and that of the previous one.

    Parameters
    ----------
    path
        The file; the previous checkpoint is beside it, with ``.previous`` appended to the name.

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
        # Whether the file is known to be whole: only then may it replace the previous one.
        self._whole = False

    @property
    def is_whole(self) -> bool:
        """Say whether the file is known to hold a whole checkpoint: it was read or written."""
        return self._whole

    def check_free(self) -> None:
        """Refuse to begin where a checkpoint or another file would be replaced.

        Raises
        ------
        WouldOverwriteError
            If one of the two files exists.
        FileNotFoundError
            If the folder does not exist.
        """
        self.check_folder()
        for path in (self.path, self.previous):
            if os.path.lexists(path):
                raise WouldOverwriteError(
                    f"checkpoint {path} exists already: go on from it (resume), or take it away"
                )

    def check_folder(self) -> None:
        """Refuse a folder that does not exist, and one in the place of the file.

        Raises
        ------
        FileNotFoundError
            If it does not.
        InputError
            If the file is a folder.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: the folder {self.path.parent} does not exist")
        if self.path.is_dir():
            raise InputError(
                f"checkpoint must be a file, got the folder {self.path}; name a file in it"
            )

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; the last one becomes the previous one.

        Whenever the program is killed, at least one of the two files is there and whole.

        Parameters
        ----------
        checkpoint
            The checkpoint to write.

        Raises
        ------
        OSError
            If it cannot be written; the last one is still there.
        """
        from safetensors.torch import save

        tensors = _apart(checkpoint.values)
        scalars = {k: v for k, v in checkpoint.values.items() if not isinstance(v, Tensor)}
        texts = {
            "format": _FORMAT,
            "identity": json.dumps(checkpoint.identity, sort_keys=True),
            "scalars": json.dumps(scalars, sort_keys=True),
        }
        content = save(tensors, metadata={**texts, "digest": _digest(texts, tensors)})
        # The name is the same each time, so that the partial file of a killed program is replaced.
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if self._whole:
                with suppress(FileNotFoundError):  # somebody has taken it away
                    os.replace(self.path, self.previous)
                self._whole = False  # there is none, if the next line fails
            os.replace(partial, self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._whole = True

    def read(self, identity: Mapping[str, Any]) -> Checkpoint | None:
        """Read the checkpoint, or the previous one if it is damaged.

        Parameters
        ----------
        identity
            The identity of the run that is to be resumed.

        Returns
        -------
        Checkpoint or None
            The checkpoint; None if there is none.

        Raises
        ------
        DamagedCheckpointError
            If neither file is whole.
        CheckpointMismatchError
            If it belongs to another run; the message says what differs.
        InputError
            If the file is a folder.
        OSError
            If it cannot be read, or the folder does not exist.

        Warns
        -----
        UserWarning
            If the checkpoint is damaged and the previous one is used.
        """
        self.check_folder()
        try:
            checkpoint = self._newest()
        except DamagedCheckpointError as error:
            raise DamagedCheckpointError(f"{error}; {_ANEW}") from error
        if checkpoint is None:
            return None
        differences = list(_differences("", checkpoint.identity, identity))
        # What can be read comes first: it is mostly the reason of the others.
        differences.sort(key=lambda text: " is " not in text or "..." in text)
        if differences:
            raise CheckpointMismatchError(
                f"checkpoint {self.path} is one of another run: {'; '.join(differences)}; the "
                f"image and the options of that run go on from it, and {_ANEW}"
            )
        return checkpoint

    def _newest(self) -> Checkpoint | None:
        """Return the checkpoint, or the previous one if it is damaged; None if there is none."""
        try:
            checkpoint = read_checkpoint(self.path)
            self._whole = True
            return checkpoint
        except FileNotFoundError:
            # The program was killed between two renamings, or there never was a checkpoint.
            return read_checkpoint(self.previous) if self.previous.exists() else None
        except ValueError as damage:
            if not self.previous.exists():
                raise
            checkpoint = read_checkpoint(self.previous)
            warn_caller(f"{damage}; going on from the one before it")
            return checkpoint


class BatchCheckpoint:
    """Keep the states of the runs of a batch in one checkpoint file.

    Parameters
    ----------
    path
        The file.
    every
        The number of iterations from one checkpoint to the next, positive.
    resume
        Whether to continue from the file, if it exists.
    identity
        The identity of the run.

    Raises
    ------
    WouldOverwriteError
        If the file exists, and ``resume`` is False.
    FileNotFoundError
        If the folder does not exist.
    CheckpointMismatchError, DamagedCheckpointError
        If the checkpoint belongs to another run, or is damaged.
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
            # All of them are written again, also those of images that are not resumed yet.
            items = {name.partition(".")[0] for name in self._saved}
            self._states = {item: subtree(self._saved, item) for item in items}

    @property
    def is_written(self) -> bool:
        """Say whether there is a checkpoint that a run can go on from."""
        return self.file.is_whole

    def of(self, item: int) -> Observer:
        """Return an observer that keeps the run of one image in the checkpoint.

        Parameters
        ----------
        item
            The number of the image in the batch, counted from 0.

        Returns
        -------
        Observer
            Restores the run at its beginning, and saves it at intervals and at the end.
        """
        return _CheckpointObserver(self, str(item))

    def restore(self, run: Run, item: str) -> None:
        """Restore a run from the checkpoint, if the checkpoint has a state of it.

        Parameters
        ----------
        run
            The run, before its first iteration.
        item
            The number of its image, as text.

        Raises
        ------
        CheckpointMismatchError
            If the state does not fit the run.
        """
        if values := subtree(self._saved, item):
            try:
                run.load(values)
            except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointMismatchError(
                    f"checkpoint {self.file.path} does not fit: {error}"
                ) from error

    def save(self, run: Run, item: str) -> None:
        """Write the state of a run, with the states of the earlier runs of the batch.

        Parameters
        ----------
        run
            The run.
        item
            The number of its image, as text.

        Warns
        -----
        UserWarning
            If the file cannot be written.
        """
        self._states[item] = run.state_dict()
        try:
            self.file.write(Checkpoint(flatten(self._states), self.identity))
        # A checkpoint that cannot be written, on a full disk for example, must not end the fit.
        except OSError as error:
            warn_caller(f"checkpoint {self.file.path} not written: {error}")


class _CheckpointObserver(Observer):
    def __init__(self, batch: BatchCheckpoint, item: str) -> None:
        self.batch, self.item = batch, item

    def begin(self, run: Run) -> None:
        self.batch.restore(run, self.item)

    def observe(self, run: Runner, state: State) -> None:
        if state.iteration % self.batch.every == 0:
            self.batch.save(run, self.item)

    def begin_fit(self, run: Run) -> None:
        self.batch.save(run, self.item)

    def end(self, run: Run) -> None:
        self.batch.save(run, self.item)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the file of a checkpoint, and check that it is whole.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Checkpoint
        Its content, with tensors on the CPU.

    Raises
    ------
    DamagedCheckpointError
        If the file is not a checkpoint, or damaged.
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


def _differences(name: str, stored: Any, current: Any) -> Iterator[str]:
    """Describe each difference of two identities; long values are cut off, such as digests.

    Of lists that are long or hold other lists it is only told that they differ.
    """
    if isinstance(stored, Mapping) and isinstance(current, Mapping):
        for key in sorted({*stored, *current}):
            yield from _differences(f"{name}.{key}", stored.get(key), current.get(key))
    elif stored != current:
        texts = [repr(stored), repr(current)]
        if isinstance(stored, list) and isinstance(current, list):
            is_plain = not any(isinstance(item, list | dict) for item in (*stored, *current))
            if not is_plain or max(map(len, texts)) >= 60:
                yield f"{name[1:]} differs"  # too long to be read
                return
        values = [text if len(text) < 60 else f"{text[:9]}..." for text in texts]
        yield f"{name[1:]} is {values[0]} there, {values[1]} here"


def _apart(values: Values) -> dict[str, Tensor]:
    """Return the tensors of some values, none of which lies in the memory of another.

    A stop rule or a control may keep one tensor under two names, which the file cannot hold.
    """
    tensors: dict[str, Tensor] = {}
    seen = set()
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensor = value.detach().contiguous()
            place = tensor.device, tensor.untyped_storage().data_ptr()
            tensors[name] = tensor.clone() if place in seen else tensor
            seen.add(place)
    return tensors


def _digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the whole content of a checkpoint."""
    whole = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        whole.update(f"{name} {digest_of(tensors[name])}".encode())
    return whole.hexdigest()


def digest_of(tensor: Tensor) -> str:
    """Return the SHA-256 of dtype, shape and content of a tensor.

    Parameters
    ----------
    tensor
        Any tensor, on any device.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}"
    content: Any = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else np.empty(0)
    return hashlib.sha256(head.encode() + content.tobytes()).hexdigest()
