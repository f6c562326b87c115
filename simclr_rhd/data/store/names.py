"""The names of a store's files and frames, made where they are used.

A million frames have a hundred megabytes of names; as Python objects they would take many times that, and
seconds to make. So they lie in one file, beside an array of their ends.

Notation: N frames, F files.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

NAMES_PER_BLOCK = 4096  # names that are decoded together
STILL_NUMBER = -1  # the number of a frame that is its file


class _LazyStrings(Sequence[str], ABC):
    """Texts that are made when they are indexed."""

    @abstractmethod
    def _text_at(self, number: int) -> str:
        """The text of a number from 0 to one below the length."""

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return self._text_at(range(len(self))[at])


class StringArray(_LazyStrings):
    """F texts in one buffer.

    Args:
        data: UTF-8, a line break after each text.
        offsets: (F,) where each one's line break is.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def _text_at(self, number: int) -> str:
        first = int(self._offsets[number - 1]) + 1 if number else 0
        return self._data[first : int(self._offsets[number])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        """In order, some thousands at a time."""
        first = 0
        for end in [*self._offsets[NAMES_PER_BLOCK - 1 : -1 : NAMES_PER_BLOCK], *self._offsets[-1:]]:
            yield from self._data[first:end].tobytes().decode().split("\n")
            first = int(end) + 1


class FrameNames(_LazyStrings):
    """The names of N frames: their file's, with `#<number>` for a frame of a clip.

    Args:
        files: names of files.
        rows: (N,) of `FRAME_DTYPE`, whose files rise.
        numbered: False for the file's name alone.
    """

    def __init__(self, files: Sequence[str], rows: np.ndarray, *, numbered: bool) -> None:
        self.files, self.rows, self.numbered = files, rows, numbered

    def __len__(self) -> int:
        return len(self.rows)

    def _text_at(self, number: int) -> str:
        row = self.rows[number]
        file, of_clip = self.files[int(row["file"])], int(row["number"])
        return f"{file}#{of_clip:04d}" if self.numbered and of_clip != STILL_NUMBER else file

    def __iter__(self) -> Iterator[str]:
        """In order, as the files stand in order, too."""
        names, at, name = iter(self.files), -1, ""
        for first in range(0, len(self.rows), NAMES_PER_BLOCK):
            some = self.rows[first : first + NAMES_PER_BLOCK]
            for file, number in zip(some["file"].tolist(), some["number"].tolist(), strict=True):
                while at < file:
                    name, at = next(names), at + 1
                yield f"{name}#{number:04d}" if self.numbered and number != STILL_NUMBER else name
