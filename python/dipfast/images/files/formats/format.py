"""What dipfast knows about a file format: the columns of the table of formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from dipfast.errors import MissingExtraError
from dipfast.images.files.image_file import ImageFile

__all__ = ["FolderModule", "Format", "FormatModule", "SeriesModule"]


class FormatModule(Protocol):
    """Name the functions that the module of a format must have."""

    def read(self, stream: BinaryIO) -> ImageFile:
        """Read the one image of a file, or its stack of images.

        What the file declares is checked before anything is decoded.  The field ``format`` of
        the result is set by the caller.  Any exception means that the content is bad.

        Parameters
        ----------
        stream
            The file, at its beginning.

        Returns
        -------
        ImageFile
            Its pixels, and what it holds beside them.
        """

    def write(self, stream: BinaryIO, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
        """Write an image.

        Parameters
        ----------
        stream
            The file to write to.
        pixels
            Contiguous and in the native order of bytes, (H, W) or (H, W, samples); if ``like`` has
            opacity, the last sample is opacity.  Axes of a stack, of which ``like`` has as many,
            are in front.
        like
            An image whose metadata is to be kept.

        Returns
        -------
        list of str
            What of the metadata could not be kept, in words.
        """


class FolderModule(Protocol):
    """Name the functions that the module of a format must have whose images are folders."""

    def read(self, folder: Path) -> ImageFile:
        """Read the one image of a folder, as :meth:`FormatModule.read` does of a file.

        Parameters
        ----------
        folder
            The folder.

        Returns
        -------
        ImageFile
            Its pixels, and what it holds beside them.
        """

    def write(self, folder: Path, pixels: np.ndarray[Any, Any], like: ImageFile) -> list[str]:
        """Write an image, as :meth:`FormatModule.write` does to a file.

        Parameters
        ----------
        folder
            An empty folder.
        pixels
            As there.
        like
            As there.

        Returns
        -------
        list of str
            What of the metadata could not be kept, in words.
        """

    def beside(self, folder: Path) -> list[str]:
        """Return what a folder holds that is not of one image, and would be lost with it.

        Parameters
        ----------
        folder
            A folder that is an image.

        Returns
        -------
        list of str
            Names or descriptions.
        """


class SeriesModule(Protocol):
    """Name what else the module of a format must have whose files may be slices of one stack."""

    def read_series(self, paths: Sequence[Path]) -> ImageFile:
        """Read the files of a folder as one stack.

        Parameters
        ----------
        paths
            The files.

        Returns
        -------
        ImageFile
            The stack; one of its metadata has ``of_series``, which is true.
        """

    def write_series(
        self, folder: Path, pixels: np.ndarray[Any, Any], like: ImageFile
    ) -> list[str]:
        """Write a stack that was read so, one file for each slice.

        Parameters
        ----------
        folder
            An empty folder.
        pixels
            As of :meth:`FormatModule.write`.
        like
            As there.

        Returns
        -------
        list of str
            What of the metadata could not be kept, in words.
        """


@dataclass(frozen=True)
class Format:
    """A row of the table of formats.

    Attributes
    ----------
    name
        What messages and :attr:`ImageFile.format` call the format.
    module
        Name of a :class:`FormatModule`, or :class:`FolderModule`, imported when one of its images
        is read or written; with a dot at the beginning it is relative to this package.
    suffixes
        Endings of file names in lower case, the usual one first.
    signatures
        How the content of such a file can begin.
    marks
        What else tells such a file: bytes, and where in the content they are.
    entries
        Names of files by one of which a folder is told to be an image of this format; empty if its
        images are files.
    dtypes
        NumPy types that the format holds without loss.
    channels
        Numbers of channels, without opacity, that the format holds; None if it holds any number.
    opacity
        Whether the format holds opacity.
    inks
        Whether the format holds the four inks of print (CMYK); an image says by its metadata
        ``"inks"`` that these are its channels.
    metadata
        Keys of :attr:`ImageFile.metadata` that only this format holds.
    depths
        Numbers of bits between 8 and 16 that the format holds, of pictures in uint16 that have
        so many (``bits`` of :attr:`ImageFile.metadata`) and no opacity.
    largest
        The most rows and columns that the format holds; None if images of any size fit.
    read_only
        Whether dipfast reads such files and never writes them.
    stacks
        Whether the format holds stacks of images.
    series
        Whether all files of a folder may be slices of one stack; the module is a
        :class:`SeriesModule`, too.
    extra
        The extra of dipfast that brings the libraries of the module; None if dipfast itself does.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    dtypes: tuple[str, ...]
    channels: tuple[int, ...] | None
    opacity: bool
    metadata: tuple[str, ...] = ()
    extra: str | None = None
    marks: tuple[tuple[int, bytes], ...] = ()
    entries: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    largest: int | None = None
    read_only: bool = False
    stacks: bool = False
    series: bool = False
    inks: bool = False

    def begins(self, head: bytes) -> bool:
        """Return whether a file is one of this format by its first bytes.

        Parameters
        ----------
        head
            The first bytes.

        Returns
        -------
        bool
            Whether it has one of the signatures or marks.
        """
        return head.startswith(self.signatures) or any(
            head.startswith(mark, place) for place, mark in self.marks
        )

    @property
    def signature_length(self) -> int:
        """Return how many bytes of a file are needed to tell the format."""
        ends = [len(signature) for signature in self.signatures]
        return max([0, *ends] + [place + len(mark) for place, mark in self.marks])

    def is_image(self, folder: Path) -> bool:
        """Return whether a folder is one image of this format.

        Parameters
        ----------
        folder
            Path of anything.

        Returns
        -------
        bool
            Whether it is a folder with one of the entries.
        """
        return any((folder / name).is_file() for name in self.entries)

    def load_for_folders(self) -> FolderModule:
        """Return the module, as :meth:`load` does, of a format whose images are folders.

        Returns
        -------
        FolderModule
            The module.
        """
        return cast(FolderModule, self.load())

    def load_for_series(self) -> SeriesModule:
        """Return the module, as :meth:`load` does, of a format that has series.

        Returns
        -------
        SeriesModule
            The module.
        """
        return cast(SeriesModule, self.load())

    def load(self) -> FormatModule:
        """Return the module that reads and writes the format.

        Returns
        -------
        FormatModule
            The module, imported now if it was not before.

        Raises
        ------
        MissingExtraError
            If a library that an extra brings is missing.
        """
        try:
            return cast(FormatModule, import_module(self.module, __package__))
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            raise MissingExtraError(
                f"{self.name} files need {error.name}: pip install 'dipfast[{self.extra}]'"
            ) from error

    def ends_in_opacity(self, samples: int) -> bool:
        """Return whether the last sample of a pixel is opacity, where nothing else is said.

        Parameters
        ----------
        samples
            Number of samples of a pixel.

        Returns
        -------
        bool
            Whether the format would have one sample too many otherwise.
        """
        if self.channels is None or samples in self.channels:
            return False
        return samples - 1 in self.channels

    def lacks(self, image: ImageFile) -> str:
        """Return what of an image the format cannot hold.

        Parameters
        ----------
        image
            An image of the type, channels and opacity in question.

        Returns
        -------
        str
            The reason in words, empty if the format can hold the image.
        """
        if self.read_only:
            return "a result, because it is only read"
        if image.stack_axes and not self.stacks:
            return "stacks of images"
        dtype = image.image.dtype.name
        depth = image.metadata.get("bits") if dtype == "uint16" and image.alpha is None else None
        if dtype not in self.dtypes and depth not in self.depths:
            return f"{dtype} without loss"
        axis = image.channel_axis
        channels = 1 if axis is None else image.image.shape[axis]
        of_inks = self.inks and bool(image.metadata.get("inks"))
        if self.channels is not None and channels not in self.channels and not of_inks:
            return f"{channels} channels"
        if image.alpha is not None and not self.opacity:
            return "transparency"
        if self.largest is not None and max(image.size) > self.largest:
            height, width = image.size
            return f"{width} x {height} pixels"
        return ""
