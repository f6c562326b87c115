"""The sources of files: a folder, a Google Cloud Storage bucket, or the built-in demo.

All three look alike: files below a root, named by keys with forward slashes, each with a version that
changes with its content. A folder and a bucket of the same content list the same keys in the same order.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_directory
from simclr_rhd.data.decoding.file_types import file_type
from simclr_rhd.data.sources.base import FileEntry, Source, invalid_name_reason, keep_valid, summarize_names
from simclr_rhd.data.sources.remote import open_remote, remote_places, scheme_of

logger = logging.getLogger("simclr_rhd")


def open_source(
    data: str,
    *,
    cache_dir: Path,
    demo_patients: int,
    offline: bool = False,
    billing_project: str | None = None,
) -> Source:
    """The source that `--data` names: 'demo', a folder, or gs://BUCKET[/PREFIX].

    Args:
        data: as the user wrote it.
        cache_dir: where objects of a bucket are kept, and the demo.
        demo_patients: of the demo.
        offline: use what is kept of a bucket, without the network.
        billing_project: pays for a bucket whose requesters pay.

    Raises:
        UserError: there is no such folder or bucket, or it cannot be opened.
    """
    if data == "demo":
        return Folder(make_demo(cache_dir, demo_patients), location="demo (synthetic)")
    if scheme_of(data):
        return open_remote(
            data, cache_dir=cache_dir, offline=offline, flag="--data", billing_project=billing_project
        )
    return Folder(Path(data).expanduser(), location=data)


def open_path(
    path: str, *, cache_dir: Path, offline: bool, billing_project: str | None = None
) -> tuple[Source, list[FileEntry], str]:
    """A file, a folder, or an object or a folder of a bucket: where it is, its files, and what precedes them.

    Args:
        path: as it was typed; files are shown as this path, or as one below it.
        cache_dir: where objects of a bucket are kept.
        offline: use what is kept there, without the network.
        billing_project: pays for a bucket whose requesters pay.

    Raises:
        UserError: there is no such thing, or nothing in it.
    """
    if scheme := scheme_of(path):
        name, _, key = path.removeprefix(scheme).partition("/")
        bucket = open_remote(
            scheme + name, cache_dir=cache_dir, offline=offline, flag="", billing_project=billing_project
        )
        is_file = bool(PurePosixPath(key).suffix and file_type(key) and not key.endswith("/"))
        entries = [bucket.entry(key, flag=name)] if is_file else bucket.files(key.strip("/"), flag=name)
        return bucket, entries, f"{scheme}{name}/"
    place = Path(path).expanduser()
    if place.is_dir():
        folder = Folder(place, location=path)
        return folder, folder.files("", flag=path), path.rstrip("/") + "/"
    if not place.is_file():
        raise UserError(f"{path}: no such file or folder")
    if reason := invalid_name_reason(place.name):
        raise UserError(f"{path}: {reason}")
    return (
        (folder := Folder(place.parent, location=str(place.parent))),
        [folder.entry(place.name, flag=path)],
        path[: len(path) - len(place.name)],
    )


def make_demo(cache_dir: Path, patients: int) -> Path:
    """The folder of the demo data, written once for each version of the code that draws them."""
    from simclr_rhd.data.demo import anatomy, phantom
    from simclr_rhd.data.demo import dataset as demo

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (demo, anatomy, phantom))
    version = hashlib.sha256(code).hexdigest()[:12]
    folder = cache_dir / f"demo-{version}-{patients}"
    if not folder.is_dir():
        logger.info("demo: drawing the clips of %d synthetic patients", patients)
        with atomic_directory(folder) as part:
            demo.write_demo(part, patients=patients)
    return folder


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
