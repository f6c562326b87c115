"""A run's folder kept in a bucket, too: a machine that may be taken away at any time loses nothing.

The run works in a folder of this machine. At its start it takes over what the bucket has, if another machine
was the last to write there. At checkpoints and at the end it brings there what has changed, in the order in
which it was written: so a run can go on from what is there, wherever it was stopped.
"""

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simclr_rhd.core import process
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write, write_json
from simclr_rhd.data.sources.base import FileEntry
from simclr_rhd.data.sources.gcs import TIMEOUT, Bucket
from simclr_rhd.data.sources.gcs_objects import ObjectVersion, object_checksum
from simclr_rhd.runs.run_dir import is_output, outputs

logger = logging.getLogger("simclr_rhd")

MANIFEST = ".mirror.json"  # what the bucket had when the folder was last like it
MIN_INTERVAL_IN_PUSHES = 20  # times as long as the last push took must pass before the next one
UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024  # of a request


class ConcurrentWriteError(UserError):
    """Somebody else has written to the bucket meanwhile."""


class Mirror:
    """A folder and its place in a bucket.

    Args:
        location: gs://BUCKET/PREFIX.
        folder: of this machine, locked by this process.
        cache_dir: for listings.
        billing_project: pays for a bucket whose requesters pay.
    """

    def __init__(
        self, location: str, folder: Path, *, cache_dir: Path, billing_project: str | None = None
    ) -> None:
        self.remote = Bucket(
            location,
            cache_dir=cache_dir,
            flag="--save-dir",
            role="Storage Object Admin",
            billing_project=billing_project,
        )
        self.location, self.folder = location.rstrip("/"), folder
        self.lock = threading.Lock()
        self.last_push_seconds, self.last_push_end = 0.0, float("-inf")
        self.sent: dict[str, tuple[int, int]] = {}  # time and size of each file as it was sent
        self.generations: dict[str, int] = self._read_manifest()

    def pull(self) -> None:
        """Take over what the bucket has, unless this folder was the last to write there.

        Raises:
            UserError: the bucket cannot be read.
        """
        remote_files = {entry.key: entry for entry in self.remote.list_objects() if is_output(entry.key)}
        generations = {name: _generation(entry) for name, entry in remote_files.items()}
        local_files = outputs(self.folder)
        if self.generations and not remote_files:
            raise UserError(
                f"--save-dir {self.location} is empty, and {self.folder} was like it once. To start anew "
                "remove that folder, or name another --save-dir"
            )
        unchanged = [
            name
            for name in local_files
            if name in remote_files and self._checksum(name) == _remote_checksum(remote_files[name])
        ]
        if all(
            name in unchanged or (name in local_files and self.generations.get(name) == generations[name])
            for name in remote_files
        ):
            self.generations = generations  # what differs is newer here, or was never there
            self.sent = {name: _mtime_and_size(self.folder / name) for name in unchanged}
            return
        logger.info("save-dir: %d files from %s", len(remote_files), self.location)
        paths, failed = self.remote.fetch(list(remote_files.values()))
        if failed:
            name, reason = next(iter(failed.items()))
            raise UserError(f"--save-dir {self.location}/{name}: {reason}; try again")
        for name in local_files:
            (self.folder / name).unlink()
        for name in sorted(remote_files, key=lambda name: name == "run.json"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / name) as part:
                shutil.move(paths[name], part)
            self.sent[name] = _mtime_and_size(self.folder / name)
        self.generations = generations
        self._write_manifest()

    def push(self) -> None:
        """Bring there what has changed here since the last time; what is gone here goes there first.

        The record of a run goes before its files: what is left of it cannot be taken for another run's.

        Raises:
            UserError: the bucket cannot be written to, or somebody else writes there.
        """
        with self.lock:
            start, local_files = time.monotonic(), set(outputs(self.folder))
            self._check_single_writer()
            for name in sorted(self.generations.keys() - local_files, key=lambda name: name != "run.json"):
                self._remove(name)
            for name in sorted(outputs(self.folder), key=lambda name: _mtime_and_size(self.folder / name)):
                stamp = _mtime_and_size(self.folder / name)
                if self.sent.get(name) != stamp:
                    self._send(name)
                    self.sent[name] = stamp
            self.last_push_seconds, self.last_push_end = time.monotonic() - start, time.monotonic()

    def push_if_due(self) -> None:
        """After a checkpoint: `push`, unless the last one was just now; faults do not stop the training.

        Raises:
            ConcurrentWriteError: somebody else writes there.
        """
        if time.monotonic() - self.last_push_end < MIN_INTERVAL_IN_PUSHES * self.last_push_seconds:
            return
        try:
            self.push()
        except ConcurrentWriteError:
            raise
        except UserError as error:
            self.last_push_end = time.monotonic()
            logger.warning("WARNING %s: it is tried again later", error)

    def _check_single_writer(self) -> None:
        """Make sure that what is there is what this folder has brought there."""
        for entry in self.remote.list_objects():
            known = self.generations.get(entry.key)
            if is_output(entry.key) and known != _generation(entry):
                path = self.folder / entry.key
                if not path.exists() or self._checksum(entry.key) != _remote_checksum(entry):
                    raise self._concurrent_write_error(entry.key)
                self.generations[entry.key] = _generation(entry)  # an answer that was lost

    def _send(self, name: str) -> None:
        from google.api_core.exceptions import PreconditionFailed

        data, generation = (self.folder / name).read_bytes(), self.generations.get(name, 0)
        checksum = object_checksum(data)
        blob = self._blob(name)
        blob.chunk_size = UPLOAD_CHUNK_BYTES

        def send() -> None:
            blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=generation,
                checksum="crc32c",
                timeout=TIMEOUT,
            )

        try:
            self.remote.translate_errors(send)
        except PreconditionFailed:  # the answer to an earlier attempt may have been lost
            self.remote.translate_errors(lambda: blob.reload(timeout=TIMEOUT))
            if blob.generation == generation or blob.crc32c != checksum:
                raise self._concurrent_write_error(name) from None
        if blob.crc32c != checksum or blob.size != len(data):
            raise UserError(f"--save-dir {self.location}/{name}: arrived damaged; try again")
        self.generations[name] = int(blob.generation)
        self._write_manifest()

    def _remove(self, name: str) -> None:
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob, generation = self._blob(name), self.generations[name]

        def remove() -> None:
            with suppress(NotFound):
                blob.delete(if_generation_match=generation, timeout=TIMEOUT)

        try:
            self.remote.translate_errors(remove)
        except PreconditionFailed:
            raise self._concurrent_write_error(name) from None
        del self.generations[name]
        self.sent.pop(name, None)
        self._write_manifest()

    def _checksum(self, name: str) -> str:
        return object_checksum((self.folder / name).read_bytes())

    def _concurrent_write_error(self, name: str) -> ConcurrentWriteError:
        return ConcurrentWriteError(
            f"--save-dir {self.location}: another run has written {name} there meanwhile; what this run has "
            f"made is in {self.folder}. Wait for the other, or name another --save-dir"
        )

    def _blob(self, name: str) -> Any:
        assert self.remote.bucket is not None
        return self.remote.bucket.blob(self.remote.prefix + name)

    def _read_manifest(self) -> dict[str, int]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["location"] != self.location:
                return {}
            return {str(name): int(value) for name, value in manifest["generations"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST, {"location": self.location, "generations": self.generations})


@contextmanager
def open_mirror(
    location: str, folder: Path, *, cache_dir: Path, billing_project: str | None = None
) -> Iterator[Mirror]:
    """Take over the run in a bucket, and bring there what it has become, however the block ends.

    Arguments as of `Mirror`.

    Yields:
        What is to be told of each checkpoint, and of a folder that was cleared.

    Raises:
        UserError: the bucket cannot be read, or in the end not be written to.
    """
    mirror = Mirror(location, folder, cache_dir=cache_dir, billing_project=billing_project)
    mirror.pull()
    try:
        yield mirror
    except ConcurrentWriteError:
        raise
    except BaseException:
        with process.on_forced_exit(mirror.push):
            try:
                mirror.push()
            except UserError as error:
                logger.error("error: %s", error)
        raise
    try:
        with process.on_forced_exit(mirror.push):
            mirror.push()
    except UserError as error:
        raise UserError(f"{error}. All is in {folder}; the same command brings it to the bucket") from None
    logger.info("save-dir: all is in %s", mirror.location)


def _remote_checksum(entry: FileEntry) -> str:
    return ObjectVersion.from_entry(entry).crc32c


def _generation(entry: FileEntry) -> int:
    return int(ObjectVersion.from_entry(entry).generation)


def _mtime_and_size(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
