"""A folder of this machine as a source of files."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.sources.base import FileEntry, keep_valid, summarize_names
from simclr_rhd.data.sources.remote import remote_places

logger = logging.getLogger("simclr_rhd")


class Folder:
    """A folder of this machine."""

    remote = False

    def __init__(self, root: Path, *, location: str) -> None:
        self.root, self.location = root, location
        self.listed, self.fetched, self.skipped = 0, 0, list[tuple[str, str]]()
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            places = remote_places("BUCKET[/PREFIX]")
            raise UserError(f"--data {location}: {what}; wanted a folder, {places} or demo")

    def files(self, prefix: str, *, flag: str) -> list[FileEntry]:  # noqa: D102
        top = self.root / prefix
        if not top.is_dir():
            raise UserError(
                f"{flag} {prefix}: no such folder in {self.location}, which holds: {self._siblings(top)}"
            )
        roots, listed, links = (self.root.resolve(), top.resolve()), [], []
        unread: list[OSError] = []
        for folder, folders, names in os.walk(top, onerror=unread.append):
            links += [path for name in folders if (path := Path(folder) / name).is_symlink()]
            for path in (Path(folder) / name for name in names):
                if not any(path.resolve().is_relative_to(root) for root in roots):
                    links.append(path)
                elif path.is_file():
                    listed.append(self._entry(path))
                elif path.is_symlink():
                    self._skip(path, "a link that leads nowhere")
        for error in unread:
            self._skip(Path(error.filename), f"cannot be read ({error.strerror})")
        if links:
            logger.warning(
                "WARNING %s/%s: %d links to folders or out of it are not followed, the first: %s. Copy what "
                "they lead to, or name it with %s",
                self.location,
                prefix,
                len(links),
                min(links),
                flag,
            )
        entries, refused = keep_valid(listed)
        if not entries:
            raise UserError(f"{f'{flag} {prefix}'.strip()}: no files below {top}")
        self.listed += len(entries)
        self.skipped += refused
        return entries

    def entry(self, key: str, *, flag: str = "--labels-csv") -> FileEntry:  # noqa: D102
        path = self.root / key
        if not path.is_file():
            near = self._siblings(path)
            raise UserError(f"{flag} {key}: no such file in {self.location}; in its folder: {near}")
        self.listed += 1
        return self._entry(path)

    def fetch(self, entries: Sequence[FileEntry]) -> tuple[dict[str, Path], dict[str, str]]:  # noqa: D102
        return {entry.key: self.root / entry.key for entry in entries}, {}

    def _entry(self, path: Path) -> FileEntry:
        status = path.stat()
        key = path.relative_to(self.root).as_posix()
        # The time of the inode's last change is set by the system alone: copies keep the other times.
        numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)
        return FileEntry(key, status.st_size, "-".join(map(str, numbers)))

    def _skip(self, path: Path, reason: str) -> None:
        name = path.relative_to(self.root).as_posix()
        self.skipped.append((name.encode("unicode_escape").decode(), reason))

    def _siblings(self, path: Path) -> str:
        """The first names in the nearest folder that exists, for a message."""
        folder = next(parent for parent in path.parents if parent.is_dir())
        return summarize_names(item.name + "/" * item.is_dir() for item in folder.iterdir())
