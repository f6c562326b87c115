"""A copy of the run's folder in a bucket: a machine that may be taken away at any time loses nothing.

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
from contextlib import contextmanager
from pathlib import Path

from simclr_rhd.core import signals
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import RUN_RECORD
from simclr_rhd.core.files import atomic_write, write_json
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.data.sources.gcs_objects import object_checksum
from simclr_rhd.runs.object_store import GenerationMismatch, ObjectStore, StoredObject
from simclr_rhd.runs.outputs import is_output, list_outputs

logger = logging.getLogger("simclr_rhd")

MANIFEST = ".mirror.json"  # what the bucket had when the folder was last like it
MIN_INTERVAL_IN_PUSHES = 20  # times as long as the last push took must pass before the next one


class ConcurrentWriteError(UserError):
    """Somebody else has written to the bucket meanwhile."""


class Mirror:
    """A folder and its place in a bucket.

    Args:
        location: gs://BUCKET/PREFIX.
        folder: of this machine, locked by this process.
        access: to the bucket.
    """

    def __init__(self, location: str, folder: Path, access: BucketAccess) -> None:
        self.remote = ObjectStore(location, access)
        self.location, self.folder = self.remote.location, folder
        self.lock = threading.Lock()
        self.last_push_seconds, self.last_push_end = 0.0, float("-inf")
        self.sent: dict[str, tuple[int, int]] = {}  # time and size of each file as it was sent
        self.generations: dict[str, int] = self._read_manifest()

    def pull(self) -> None:
        """Take over what the bucket has, unless this folder was the last to write there.

        Raises:
            UserError: the bucket cannot be read.
        """
        remote_files = self._list_outputs()
        generations = {name: stored.generation for name, stored in remote_files.items()}
        local_files = list_outputs(self.folder)
        if self.generations and not remote_files:
            raise UserError(
                f"--save-dir {self.location} is empty, and {self.folder} was like it once. To start anew "
                "remove that folder, or name another --save-dir"
            )
        unchanged = [
            name
            for name in local_files
            if name in remote_files and self._checksum(name) == remote_files[name].checksum
        ]
        if all(
            name in unchanged or (name in local_files and self.generations.get(name) == generations[name])
            for name in remote_files
        ):
            self.generations = generations  # what differs is newer here, or was never there
            self.sent = {name: self._stamp(name) for name in unchanged}
            return
        logger.info("save-dir: %d files from %s", len(remote_files), self.location)
        paths = self.remote.get(remote_files.values())
        for name in local_files:
            (self.folder / name).unlink()
        for name in sorted(remote_files, key=lambda name: name == RUN_RECORD):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / name) as part:
                shutil.move(paths[name], part)
            self.sent[name] = self._stamp(name)
        self.generations = generations
        self._write_manifest()

    def push(self) -> None:
        """Bring there what has changed here since the last time; what is gone here goes there first.

        The record of a run goes before its files: what is left of it cannot be taken for another run's.

        Raises:
            UserError: the bucket cannot be written to, or somebody else writes there.
        """
        with self.lock:
            start, local_files = time.monotonic(), set(list_outputs(self.folder))
            self._check_single_writer()
            for name in sorted(self.generations.keys() - local_files, key=lambda name: name != RUN_RECORD):
                self._remove(name)
            for name in sorted(list_outputs(self.folder), key=self._stamp):
                stamp = self._stamp(name)
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
            logger.warning("WARNING %s: the upload will be tried again", error)

    def _list_outputs(self) -> dict[str, StoredObject]:
        return {key: stored for key, stored in self.remote.list_objects().items() if is_output(key)}

    def _check_single_writer(self) -> None:
        """Make sure that what is there is what this folder has brought there."""
        for name, stored in self._list_outputs().items():
            if self.generations.get(name) != stored.generation:
                if not (self.folder / name).exists() or self._checksum(name) != stored.checksum:
                    raise self._concurrent_write_error(name)
                self.generations[name] = stored.generation  # the response to an upload was lost

    def _send(self, name: str) -> None:
        data, generation = (self.folder / name).read_bytes(), self.generations.get(name, 0)
        try:
            self.generations[name] = self.remote.put(name, data, generation=generation)
        except GenerationMismatch:
            raise self._concurrent_write_error(name) from None
        self._write_manifest()

    def _remove(self, name: str) -> None:
        try:
            self.remote.delete(name, generation=self.generations[name])
        except GenerationMismatch:
            raise self._concurrent_write_error(name) from None
        del self.generations[name]
        self.sent.pop(name, None)
        self._write_manifest()

    def _stamp(self, name: str) -> tuple[int, int]:
        """Time of the last change, and size."""
        status = (self.folder / name).stat()
        return status.st_mtime_ns, status.st_size

    def _checksum(self, name: str) -> str:
        return object_checksum((self.folder / name).read_bytes())

    def _concurrent_write_error(self, name: str) -> ConcurrentWriteError:
        return ConcurrentWriteError(
            f"--save-dir {self.location}: another run has written {name} there meanwhile; what this run has "
            f"made is in {self.folder}. Wait for the other, or name another --save-dir"
        )

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
def open_mirror(location: str, folder: Path, access: BucketAccess) -> Iterator[Mirror]:
    """Take over the run in a bucket, and bring there what it has become, however the block ends.

    Arguments as of `Mirror`.

    Yields:
        The mirror, to push to after each checkpoint, and after the folder was cleared.

    Raises:
        UserError: the bucket cannot be read, or in the end not be written to.
    """
    mirror = Mirror(location, folder, access)
    mirror.pull()
    try:
        yield mirror
    except ConcurrentWriteError:
        raise
    except BaseException:
        with signals.on_forced_exit(mirror.push):
            try:
                mirror.push()
            except UserError as error:
                logger.error("error: %s", error)
        raise
    try:
        with signals.on_forced_exit(mirror.push):
            mirror.push()
    except UserError as error:
        raise UserError(f"{error}. All files are in {folder}; the same command uploads them") from None
    logger.info("save-dir: all files are uploaded to %s", mirror.location)
