"""Codecs of Zarr: how the numbers of a chunk become bytes, and bytes numbers again.

No chunk is decoded to more than it has to have, whatever its bytes declare.  Codecs that could run
programs (pickle) or that hold no plain numbers are not among these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import imagecodecs
import numpy as np

from dipfast.errors import UnreadableFileError
from dipfast.images.files.formats._crc32c import crc32c

__all__ = ["Coder", "retyped"]

_Array = np.ndarray[Any, Any]
_Description = dict[str, Any]

# How imagecodecs names what packs bytes, by the names of Zarr.
_PACKERS = {
    **{name: name for name in ("blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma")},
    # As version 3 names those that version 2 has.
    **{f"numcodecs.{name}": name for name in ("blosc", "zstd", "gzip", "zlib", "lz4", "bz2")},
    "numcodecs.lzma": "lzma",
}
_BLOSC = ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_SUM = "crc32c"
_EMPTY = 2**64 - 1  # where a shard has no chunk
# What may be added to numbers that cannot be made smaller, for each codec but the last.
_OVERHEAD = 1 << 16


@dataclass(frozen=True)
class _Packing:
    """A codec from bytes to bytes."""

    name: str
    options: _Description

    def unpack(self, data: bytes, size: int) -> bytes:
        """Return bytes unpacked, and refuse what has more than so many."""
        if self.name == _SUM:
            if len(data) < 4 or crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
                raise UnreadableFileError("the check sum of a chunk (CRC-32C) is not that of it")
            return data[:-4]
        if not data:
            raise UnreadableFileError("a chunk is empty")
        # Its library goes by the length that the head says, beyond the end of what there is.
        if self.name == "blosc" and not 16 <= int.from_bytes(data[12:16], "little") <= len(data):
            raise UnreadableFileError("the end of a chunk is missing")
        options = {"header": True} if self.name == "lz4" else {}
        # One more than there may be tells what is too long from what just fits.
        decode = getattr(imagecodecs, f"{self.name}_decode")
        return bytes(decode(data, out=bytearray(size + 1), **options))

    def pack(self, data: bytes) -> bytes:
        """Return bytes packed as the options say."""
        if self.name == _SUM:
            return data + crc32c(data).to_bytes(4, "little")
        encode = getattr(imagecodecs, f"{self.name}_encode")
        return bytes(encode(data, **self._settings()))

    def _settings(self) -> _Description:
        """Return the options as imagecodecs has them; what is not understood is left out."""
        level = self.options.get("level", self.options.get("clevel"))
        settings: _Description = {}
        if isinstance(level, int) and not isinstance(level, bool):
            settings["level"] = min(max(level, -7 if self.name == "zstd" else 0), 22)
        if self.name == "zstd" and settings.get("level", 0) == 0:
            settings["level"] = 3  # what 0 means
        elif self.name != "zstd" and "level" in settings:
            settings["level"] = min(settings["level"], 9)
        if self.name == "lz4":
            settings = {"header": True}
        if self.name == "lzma":
            settings = {}
        if self.name == "blosc":
            kind = self.options.get("cname")
            settings["compressor"] = kind if kind in _BLOSC else "lz4"
            shuffle, size = self.options.get("shuffle"), self.options.get("typesize")
            settings["typesize"] = size if isinstance(size, int) and 0 < size < 256 else 1
            settings["shuffle"] = _SHUFFLES.get(str(shuffle), shuffle)
            if settings["shuffle"] not in (0, 1, 2):
                # By itself, shuffling is of bits for single bytes, and of bytes else.
                settings["shuffle"] = 2 if settings["typesize"] == 1 else 1
        return settings


@dataclass(frozen=True)
class _Shards:
    """How chunks are put together into one piece: their shape, their own codecs, their index."""

    shape: tuple[int, ...]
    coder: Coder
    index_at_end: bool
    index_summed: bool

    def counts(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many chunks there are along each axis of a piece."""
        return tuple(length // chunk for length, chunk in zip(shape, self.shape))

    def _places(self, shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
        """Walk through the places of the chunks of a piece."""
        for index in np.ndindex(self.counts(shape)):
            yield tuple(slice(k * n, (k + 1) * n) for k, n in zip(index, self.shape))

    def decode(self, data: bytes, shape: tuple[int, ...], fill: Any) -> _Array:
        """Return the numbers of a piece."""
        size = 16 * math.prod(self.counts(shape))
        whole = size + 4 * self.index_summed
        if len(data) < whole:
            raise UnreadableFileError("the index of a shard is missing")
        index = data[len(data) - whole :] if self.index_at_end else data[:whole]
        if self.index_summed:
            index = _Packing(_SUM, {}).unpack(index, size)
        pixels = np.full(shape, fill, self.coder.dtype.newbyteorder("="))
        entries = np.frombuffer(index, "<u8").reshape(-1, 2).tolist()
        for (start, length), place in zip(entries, self._places(shape)):
            if start == length == _EMPTY:
                continue
            if start + length > len(data):
                raise UnreadableFileError("a shard says of a chunk that it is beyond its end")
            pixels[place] = self.coder.decode(data[start : start + length], self.shape, fill)
        return pixels

    def encode(self, pixels: _Array) -> bytes:
        """Return the bytes of a piece."""
        parts = [self.coder.encode(pixels[place]) for place in self._places(pixels.shape)]
        start = 0 if self.index_at_end else 16 * len(parts) + 4 * self.index_summed
        index = b""
        for part in parts:
            index += start.to_bytes(8, "little") + len(part).to_bytes(8, "little")
            start += len(part)
        if self.index_summed:
            index = _Packing(_SUM, {}).pack(index)
        return b"".join([*parts, index] if self.index_at_end else [index, *parts])


@dataclass(frozen=True)
class Coder:
    """Turn chunks into bytes, and bytes into chunks.

    Attributes
    ----------
    dtype
        The type of the numbers, with the order of their bytes.
    order
        The order in which the axes are stored.
    packings
        What packs the bytes, the first first.
    shards
        How a chunk is made of smaller ones; None if it is not.
    """

    dtype: np.dtype[Any]
    order: tuple[int, ...]
    packings: tuple[_Packing, ...] = ()
    shards: _Shards | None = None

    @classmethod
    def of_version_2(cls, metadata: _Description, dtype: np.dtype[Any], axes: int) -> Coder:
        """Return the codecs of an array of version 2.

        Parameters
        ----------
        metadata
            What ``.zarray`` says.
        dtype
            The type of the numbers.
        axes
            The number of axes.

        Returns
        -------
        Coder
            The codecs.

        Raises
        ------
        UnreadableFileError
            If one of them is not supported.
        """
        filters = metadata.get("filters")
        if filters:
            first = filters[0] if isinstance(filters, list) else filters
            name = first.get("id") if isinstance(first, dict) else first
            _refuse(name, "filter")
        order = tuple(range(axes))
        packer = metadata.get("compressor")
        packings: tuple[_Packing, ...] = ()
        if packer is not None:
            name = packer.get("id") if isinstance(packer, dict) else packer
            if not isinstance(packer, dict) or not isinstance(name, str) or name not in _PACKERS:
                _refuse(name, "compressor")
            packings = (_Packing(_PACKERS[name], {"typesize": dtype.itemsize, **packer}),)
        if metadata.get("order") not in ("C", "F"):
            raise UnreadableFileError("the order of its axes is neither C nor F")
        return cls(dtype, order[::-1] if metadata["order"] == "F" else order, packings)

    @classmethod
    def of_version_3(
        cls, codecs: Any, dtype: np.dtype[Any], chunk: tuple[int, ...], inner: bool = False
    ) -> Coder:
        """Return the codecs of an array of version 3.

        Parameters
        ----------
        codecs
            The list of codecs of ``zarr.json``.
        dtype
            The type of the numbers.
        chunk
            The shape of a chunk.
        inner
            Whether they are those of chunks of a shard.

        Returns
        -------
        Coder
            The codecs.

        Raises
        ------
        UnreadableFileError
            If one of them is not supported.
        """
        order = tuple(range(len(chunk)))
        packings: list[_Packing] = []
        shards, to_bytes = None, False
        for codec in _described(codecs):
            name: str = codec["name"]
            options: _Description = codec["configuration"]
            if name == "transpose" and not to_bytes:
                turn = options.get("order")
                if not isinstance(turn, list) or sorted(turn) != list(range(len(chunk))):
                    raise UnreadableFileError("its codec transpose has no order of axes")
                order = tuple(order[axis] for axis in turn)
            elif name == "bytes" and not to_bytes:
                to_bytes = True
                endian = options.get("endian", "little")
                if endian not in ("little", "big"):
                    raise UnreadableFileError("the order of its bytes is neither little nor big")
                dtype = dtype.newbyteorder("<" if endian == "little" else ">")
            elif name == "sharding_indexed" and not to_bytes and not inner:
                to_bytes = True
                shards = _shards(options, dtype, tuple(chunk[axis] for axis in order))
            elif (name in _PACKERS or name == _SUM) and to_bytes:
                packings.append(_Packing(_PACKERS.get(name, name), options))
            else:
                _refuse(name, "codec")
        if not to_bytes:
            raise UnreadableFileError("its codecs do not make bytes")
        return cls(dtype, order, tuple(packings), shards)

    def pieces(self, chunk: tuple[int, ...]) -> int:
        """Return how many pieces a chunk is stored in.

        Parameters
        ----------
        chunk
            The shape of a chunk.

        Returns
        -------
        int
            The number, 1 if there are no shards.
        """
        stored = tuple(chunk[axis] for axis in self.order)
        return 1 if self.shards is None else math.prod(self.shards.counts(stored))

    def decode(self, data: bytes, shape: tuple[int, ...], fill: Any) -> _Array:
        """Return the numbers of a chunk.

        Parameters
        ----------
        data
            Its bytes.
        shape
            Its shape.
        fill
            What is where a shard has no chunk.

        Returns
        -------
        ndarray
            The numbers, in any order of bytes.

        Raises
        ------
        UnreadableFileError
            If they are not so many.
        """
        stored = tuple(shape[axis] for axis in self.order)
        size = math.prod(shape) * self.dtype.itemsize
        most = 2 * size + _OVERHEAD  # of shards, which have an index, or packed twice
        for k, packing in reversed(list(enumerate(self.packings))):
            data = packing.unpack(data, size if k == 0 and self.shards is None else most)
        if self.shards is not None:
            pixels = self.shards.decode(data, stored, fill)
        elif len(data) != size:
            raise UnreadableFileError(f"a chunk has other than the {size} bytes that it has to")
        else:
            pixels = np.frombuffer(data, self.dtype).reshape(stored)
        return np.asarray(pixels.transpose(np.argsort(self.order)))

    def encode(self, pixels: _Array) -> bytes:
        """Return the bytes of a chunk.

        Parameters
        ----------
        pixels
            Its numbers, in any order of bytes.

        Returns
        -------
        bytes
            Its bytes.
        """
        stored = pixels.transpose(self.order)
        if self.shards is not None:
            data = self.shards.encode(stored)
        else:
            data = stored.astype(self.dtype, order="C").tobytes()
        for packing in self.packings:
            data = packing.pack(data)
        return data


def retyped(codecs: Any, itemsize: int) -> list[_Description]:
    """Return codecs of version 3 for numbers of another type.

    Parameters
    ----------
    codecs
        Those of an array that has been read.
    itemsize
        The bytes of a number.

    Returns
    -------
    list of dict
        The codecs, which are the same but for what they say of the size of numbers.
    """
    changed = []
    for codec in _described(codecs):
        options = dict(codec["configuration"])
        if codec["name"] == "bytes":
            options = {"endian": options.get("endian", "little")} if itemsize > 1 else {}
        elif codec["name"] == "blosc":
            options["typesize"] = itemsize
        elif codec["name"] == "sharding_indexed":
            options["codecs"] = retyped(options["codecs"], itemsize)
        changed.append({"name": codec["name"], **({"configuration": options} if options else {})})
    return changed


def _described(codecs: Any) -> list[_Description]:
    """Return codecs as names and configurations, as which the short form has no configuration."""
    if not isinstance(codecs, list):
        raise UnreadableFileError("its codecs are no list")
    found = []
    for codec in codecs:
        codec = codec if isinstance(codec, dict) else {"name": codec}
        name, options = codec.get("name"), codec.get("configuration", {})
        if not isinstance(name, str) or not isinstance(options, dict):
            raise UnreadableFileError("its codecs are not described by a name and a configuration")
        found.append({"name": name, "configuration": options})
    return found


def _shards(options: _Description, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Shards:
    """Return how shards of a shape are made of chunks."""
    chunk = options.get("chunk_shape")
    fits = (
        isinstance(chunk, list)
        and len(chunk) == len(shape)
        and all(isinstance(n, int) and n > 0 and not m % n for m, n in zip(shape, chunk))
    )
    if not isinstance(chunk, list) or not fits:
        raise UnreadableFileError("the chunks of its shards do not fill them")
    index = [codec["name"] for codec in _described(options.get("index_codecs"))]
    if index not in (["bytes"], ["bytes", _SUM]):
        _refuse("+".join(index), "index of shards")
    order = _described(options.get("index_codecs"))[0]["configuration"].get("endian", "little")
    place = options.get("index_location", "end")
    if order != "little" or place not in ("start", "end"):
        raise UnreadableFileError("the index of its shards is stored in a way that is not read")
    coder = Coder.of_version_3(options.get("codecs"), dtype, tuple(chunk), inner=True)
    return _Shards(tuple(chunk), coder, place == "end", _SUM in index)


def _refuse(name: Any, what: str) -> NoReturn:
    """Refuse a codec by its name."""
    known = [known for known in _PACKERS if not known.startswith("numcodecs.")]
    raise UnreadableFileError(
        f"its {what}, {str(name)[:40]}, is not supported; write it with one of {', '.join(known)}, "
        "or with none"
    )
