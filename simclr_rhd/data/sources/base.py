"""The interface of every source of files: entries of a listing, and names that may be used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

MAX_NAME_BYTES, MAX_PART_CHARS = 1024, 255  # bytes of a name, characters of one part of it


@dataclass(frozen=True)
class BucketAccess:
    """Access to a bucket.

    Attributes:
        cache_dir: where its listings and fetched objects are kept.
        offline: use what is kept, without the network.
        billing_project: pays for a bucket whose requesters pay.
    """

    cache_dir: Path
    offline: bool = False
    billing_project: str | None = None


class FileEntry(NamedTuple):
    """A file of a source.

    Attributes:
        key: its path below the root, with forward slashes.
        size: bytes.
        version: changes when the content changes.
    """

    key: str
    size: int
    version: str


class Source(Protocol):
    """Files below a root."""

    location: str
    remote: bool  # whether files come over a network and are kept
    listed: int  # files found so far
    fetched: int  # of these brought here by this run
    skipped: list[tuple[str, str]]  # names that cannot be used, with the reason

    def files(self, prefix: str, *, flag: str) -> list[FileEntry]:
        """All files below `prefix`, sorted by key; hidden files and folder markers are left out.

        Raises:
            UserError: there are none; the message names `flag`.
        """

    def entry(self, key: str, *, flag: str = "--labels-csv") -> FileEntry:
        """One file, such as the label table.

        Raises:
            UserError: it is not there; the message names `flag`.
        """

    def fetch(self, entries: Sequence[FileEntry]) -> tuple[dict[str, Path], dict[str, str]]:
        """Local paths by key, and reasons by key for the files that could not be fetched.

        Raises:
            UserError: nothing can be fetched, for want of access or of a network.
        """


def invalid_name_reason(key: str) -> str:
    """The reason why a name cannot be used, "" if it can: it must lead below the root, and be printable."""
    if ".." in key.split("/") or key.startswith("/"):
        return "unusable name: it leads elsewhere"
    if not key.isprintable():
        return "unusable name: control characters"
    if len(key.encode(errors="replace")) > MAX_NAME_BYTES or max(map(len, key.split("/"))) > MAX_PART_CHARS:
        return "unusable name: too long"
    return ""


def keep_valid(entries: Iterable[FileEntry]) -> tuple[list[FileEntry], list[tuple[str, str]]]:
    """The usable entries in order, and the names of the others with the reason.

    What is hidden (a part begins with a dot) or a mark for a folder (a part is empty) is passed over.
    """
    used, refused = [], []
    for entry in entries:
        if reason := invalid_name_reason(entry.key):
            refused.append((entry.key.encode("unicode_escape").decode(), reason))
        elif not any(part.startswith(".") or not part for part in entry.key.split("/")):
            used.append(entry)
    return sorted(used), sorted(refused)


def summarize_names(names: Iterable[str]) -> str:
    """The first names in order, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:8]) + (", ..." if len(ordered) > 8 else "") or "nothing"
