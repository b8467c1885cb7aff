"""Arrays of Zarr, of version 2 and 3: what their metadata say, and their chunks."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files import limits
from dipfast.images.files.formats import by_name
from dipfast.images.files.formats._zarr_codecs import Coder, retyped
from dipfast.images.files.safe import list_folder, open_regular

__all__ = ["ArrayForm", "Store"]

_Array = np.ndarray[Any, Any]
_Description = dict[str, Any]

_LONGEST_TEXT = 4 << 20  # bytes of metadata
_MOST_AXES = 8
_MOST_CHUNKS = 1 << 18
# So often the bytes of the largest image may be decoded, where chunks reach beyond the array.
_BEYOND = 2
# What every array of version 3 has, and what may be there besides.
_KNOWN = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"),
    "consolidated_metadata",
)


class Store:
    """Read the files of a Zarr store, and of nothing beside it.

    Parameters
    ----------
    folder
        The folder of the store, or of a group or array in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes = list_folder(folder)

    @property
    def keys(self) -> list[str]:
        """Return the names of all files, with their folders."""
        return list(self._sizes)

    def get(self, key: str) -> bytes | None:
        """Return what is in a file, None if it is not there.

        Parameters
        ----------
        key
            The name of the file, with its folders.
        """
        size = self._sizes.get(key)
        if size is None:
            return None
        limits.check_file_size(size)
        with open_regular(self._folder / key) as stream:
            return stream.read(size)

    def metadata(self, key: str) -> _Description | None:
        """Return the object of JSON in a file, None if it is not there.

        Parameters
        ----------
        key
            The name of the file, with its folders.

        Raises
        ------
        UnreadableFileError
            If it is something else.
        """
        if self._sizes.get(key, 0) > _LONGEST_TEXT:
            raise UnreadableFileError(f"its metadata ({key[:60]}) are too long")
        text = self.get(key)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise UnreadableFileError(f"its metadata ({key[:60]}) are not JSON") from None
        if not isinstance(value, dict):
            raise UnreadableFileError(f"its metadata ({key[:60]}) are no object of JSON")
        return value


@dataclass(frozen=True)
class ArrayForm:
    """Hold how an array is stored.

    Attributes
    ----------
    metadata
        What the file about it says, ``.zarray`` or ``zarr.json``.
    shape, chunks
        Lengths of the axes, and those of a chunk.
    dtype
        The type of the numbers, in the native order of bytes.
    fill
        What is where there is no chunk.
    coder
        How chunks are stored.
    """

    metadata: _Description
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    coder: Coder

    @classmethod
    def of(cls, metadata: _Description) -> ArrayForm:
        """Return what metadata declare, and refuse what is not read.

        Parameters
        ----------
        metadata
            The object of JSON.

        Returns
        -------
        ArrayForm
            The form.

        Raises
        ------
        UnreadableFileError
            If it is of a kind that is not read.
        """
        shape = _lengths(metadata.get("shape"), "shape", least=0)
        is_new = metadata.get("zarr_format") == 3
        if is_new:
            _check_extensions(metadata)
            stored = _type_named(metadata.get("data_type"))
            chunks = _lengths(
                _configured(metadata, "chunk_grid", "regular", "chunk_shape"), "chunk"
            )
        else:
            stored = _type_coded(metadata.get("dtype"))
            chunks = _lengths(metadata.get("chunks"), "chunk")
        if len(shape) != len(chunks):
            raise UnreadableFileError(f"its chunks {chunks} do not fit its shape {shape}")
        if not 2 <= len(shape) <= _MOST_AXES:
            raise UnreadableFileError(
                f"it has the shape {shape}, expected that of an image, of 2 to {_MOST_AXES} axes"
            )
        if is_new:
            coder = Coder.of_version_3(metadata.get("codecs"), stored, chunks)
        else:
            coder = Coder.of_version_2(metadata, stored, len(shape))
        form = cls(
            metadata,
            shape,
            chunks,
            stored.newbyteorder("="),
            _fill(metadata.get("fill_value"), stored.newbyteorder("=")),
            coder,
        )
        form._naming()  # refuses names of chunks that are not known
        return form

    def check_limits(self) -> None:
        """Refuse an array that is too large to be read.

        Raises
        ------
        UnreadableFileError
            If it, or its chunks, have more elements than there is room for, or it has too many
            chunks.
        """
        shape, chunks, itemsize = self.shape, self.chunks, self.dtype.itemsize
        # Which axes are the pixels does not matter for the size.
        limits.check_size(shape[-1], shape[-2], math.prod(shape[:-2]), itemsize)
        whole = [-(-length // chunk) * chunk for length, chunk in zip(shape, chunks)]
        if math.prod(whole) * itemsize > _BEYOND * limits.LARGEST_IMAGE:
            raise UnreadableFileError(f"its chunks {chunks} reach too far beyond its shape {shape}")
        if math.prod(self._counts) * self.coder.pieces(chunks) > _MOST_CHUNKS:
            raise UnreadableFileError(
                f"it declares {math.prod(self._counts)} chunks {chunks}, which are too many; write "
                "it with larger ones"
            )

    @classmethod
    def new(cls, shape: tuple[int, ...], dtype: np.dtype[Any], names: list[str]) -> ArrayForm:
        """Return the form of an array that comes from elsewhere.

        Parameters
        ----------
        shape
            The lengths of its axes, those of the pixels at the end.
        dtype
            The type of its numbers.
        names
            The names of its axes.

        Returns
        -------
        ArrayForm
            The form, of version 3.
        """
        pixels = [min(length, 1024) for length in shape[-2:]]
        return cls.of(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(shape),
                "data_type": dtype.name,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [1] * (len(shape) - 2) + pixels},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0.0 if dtype.kind == "f" else 0,
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
                ],
                "attributes": {},
                "dimension_names": names,
            }
        )

    def like(self, pixels: _Array) -> ArrayForm:
        """Return the form of an array of the shape and type of other pixels.

        Parameters
        ----------
        pixels
            An array with as many axes.

        Returns
        -------
        ArrayForm
            The form, with the same chunks and codecs.
        """
        metadata = {**self.metadata, "shape": list(pixels.shape)}
        metadata.pop("consolidated_metadata", None)
        if pixels.dtype != self.dtype:
            metadata["fill_value"] = 0.0 if pixels.dtype.kind == "f" else 0
            if "dtype" in metadata:
                order = str(metadata["dtype"])[0].replace("|", "<")
                metadata["dtype"] = pixels.dtype.newbyteorder(order).str
            else:
                metadata["data_type"] = pixels.dtype.name
                metadata["codecs"] = retyped(metadata["codecs"], pixels.dtype.itemsize)
        return ArrayForm.of(metadata)

    @property
    def _counts(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(-(-length // chunk) for length, chunk in zip(self.shape, self.chunks))

    def _naming(self) -> tuple[str, str]:
        """Return what the names of chunks begin with, and what is between their numbers."""
        if self.metadata.get("zarr_format") == 2:
            separator, first = self.metadata.get("dimension_separator", "."), ""
        else:
            encoding = self.metadata.get("chunk_key_encoding")
            encoding = encoding if isinstance(encoding, dict) else {"name": encoding}
            name, options = encoding.get("name"), encoding.get("configuration") or {}
            if name not in ("default", "v2") or not isinstance(options, dict):
                raise UnreadableFileError("it names its chunks in a way that is not known")
            separator = options.get("separator", "/" if name == "default" else ".")
            first = f"c{separator}" if name == "default" else ""
        if separator not in (".", "/"):
            raise UnreadableFileError("it names its chunks in a way that is not known")
        return first, str(separator)

    def _places(self) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """Walk through the chunks: their names, and where they are."""
        first, separator = self._naming()
        axes = [
            [(str(k), slice(k * chunk, min((k + 1) * chunk, length))) for k in range(count)]
            for count, chunk, length in zip(self._counts, self.chunks, self.shape)
        ]
        for index in itertools.product(*axes):
            yield first + separator.join(name for name, _ in index), tuple(at for _, at in index)

    def read(self, store: Store, path: str) -> _Array:
        """Return the numbers of an array.

        Parameters
        ----------
        store
            The store.
        path
            Where the array is in it, with a slash at the end; empty for the store itself.

        Returns
        -------
        ndarray
            The numbers, in the native order of bytes.
        """
        pixels = np.full(self.shape, self.fill, self.dtype)
        for key, place in self._places():
            data = store.get(path + key)
            if data is not None:
                chunk = self.coder.decode(data, self.chunks, self.fill)
                pixels[place] = chunk[tuple(slice(p.stop - p.start) for p in place)]
        return pixels

    def write(self, folder: Path, pixels: _Array) -> None:
        """Write the numbers of an array, without its metadata.

        Parameters
        ----------
        folder
            Its folder, which is there.
        pixels
            Its numbers.
        """
        for key, place in self._places():
            part = pixels[place]
            if part.shape != self.chunks:
                whole = np.full(self.chunks, self.fill, self.dtype)
                whole[tuple(slice(n) for n in part.shape)] = part
                part = whole
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.coder.encode(part))


def _lengths(value: Any, what: str, least: int = 1) -> tuple[int, ...]:
    """Return lengths of axes, checked to be whole numbers."""
    if not isinstance(value, list) or not all(type(n) is int and n >= least for n in value):
        raise UnreadableFileError(f"it declares {str(value)[:60]} as its {what}, expected lengths")
    return tuple(value)


def _configured(metadata: _Description, name: str, kind: str, option: str) -> Any:
    """Return an option of what is described by a name and a configuration."""
    value = metadata.get(name)
    options = value.get("configuration") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("name") != kind or not isinstance(options, dict):
        raise UnreadableFileError(f"its {name.replace('_', ' ')} is not {kind}")
    return options.get(option)


def _check_extensions(metadata: _Description) -> None:
    """Refuse what has to be understood, and is not."""
    for name, value in metadata.items():
        needless = isinstance(value, dict) and value.get("must_understand") is False
        if name not in _KNOWN and not needless:
            raise UnreadableFileError(f"it needs the extension {name[:40]}, which is not supported")
    if metadata.get("storage_transformers"):
        raise UnreadableFileError("its storage transformers are not supported")


def _type_coded(value: Any) -> np.dtype[Any]:
    """Return the type that version 2 writes as NumPy does, with the order of bytes."""
    if isinstance(value, str) and value.endswith("O"):
        raise UnreadableFileError(
            "it holds Python objects, which are not read because they could run programs; write an "
            "array of numbers"
        )
    if not isinstance(value, str) or not re.fullmatch(r"[<>|][iuf][1248]", value):
        _refuse_type(value)
    return _known(np.dtype(value))


def _type_named(value: Any) -> np.dtype[Any]:
    """Return the type that version 3 has by its name."""
    if not isinstance(value, str) or not re.fullmatch(r"(u?int|float)[0-9]{1,2}", value):
        _refuse_type(value)
    return _known(np.dtype(value))


def _known(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type that is read."""
    if dtype.name not in by_name("Zarr").dtypes:
        _refuse_type(dtype.name)
    return dtype


def _refuse_type(value: Any) -> NoReturn:
    """Refuse a type."""
    known = ", ".join(by_name("Zarr").dtypes)
    raise UnreadableFileError(
        f"arrays of type {str(value)[:40]} are not supported; convert it with array.astype to one "
        f"of {known}"
    )


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the number where there is no chunk."""
    if value is None:
        return dtype.type(0)
    if isinstance(value, str) and dtype.kind == "f":
        if value in ("NaN", "Infinity", "-Infinity"):
            return dtype.type(value.lower())
        if re.fullmatch("0x[0-9a-fA-F]{1,16}", value):
            return np.array(int(value, 16)).astype(f"u{dtype.itemsize}").view(dtype)[()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = (-math.inf, math.inf)
        if dtype.kind in "iu":
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if dtype.kind == "f" and value != value:
            return dtype.type(value)
        if least <= value <= most and (dtype.kind == "f" or value == int(value)):
            with np.errstate(over="ignore"):
                return dtype.type(value)
    raise UnreadableFileError(
        f"it declares {str(value)[:40]} as its fill value, which {dtype.name} does not hold"
    )
