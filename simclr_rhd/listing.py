"""What every source of files has in common: entries of a listing, and which names may be used."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

logger = logging.getLogger("simclr_rhd")


class Entry(NamedTuple):
    """A file of a source.

    Attributes:
        key: its path below the root, with forward slashes.
        size: bytes.
        stamp: changes when the content changes.
    """

    key: str
    size: int
    stamp: str


class Source(Protocol):
    """Files below a root."""

    location: str

    def files(self, prefix: str, *, flag: str) -> list[Entry]:
        """All files below `prefix`, sorted by key; hidden files and folder markers are left out.

        Raises:
            UserError: there are none; the message names `flag`.
        """

    def entry(self, key: str) -> Entry:
        """One file, the label table.

        Raises:
            UserError: it is not there.
        """

    def fetch(self, entries: Sequence[Entry]) -> tuple[dict[str, Path], dict[str, str]]:
        """Local paths by key, and reasons by key for the files that could not be fetched.

        Raises:
            UserError: nothing can be fetched, for want of access or of a network.
        """


def usable(key: str) -> bool:
    """Whether a name may be used: no part `..`, none hidden or empty, no control characters."""
    parts = key.split("/")
    return not any(part.startswith(".") or not part for part in parts) and key.isprintable()


def visible(entries: Iterable[Entry], where: str) -> list[Entry]:
    """The usable entries in order; the others are counted in the log unless they are merely hidden."""
    entries = list(entries)
    refused = [key for key, _, _ in entries if ".." in key.split("/") or not key.isprintable()]
    if refused:
        logger.warning(
            "WARNING %s: %d names that lead elsewhere or cannot be shown are left out, the first: %r",
            where,
            len(refused),
            refused[0],
        )
    return sorted(entry for entry in entries if usable(entry.key))


def listed_names(names: Iterable[str]) -> str:
    """The first names in order, for a message that says what is there instead."""
    found = sorted(names)
    return ", ".join(found[:8]) + (", ..." if len(found) > 8 else "") or "nothing"
