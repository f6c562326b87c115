"""Objects below a prefix of a bucket, written only over the version that the writer knows."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.sources.base import BucketAccess, FileEntry
from simclr_rhd.data.sources.gcs import TIMEOUT, Bucket
from simclr_rhd.data.sources.gcs_objects import ObjectVersion, object_checksum

UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024  # of a request


class StoredObject(NamedTuple):
    """An object as the listing has it.

    Attributes:
        entry: its key and size.
        generation: number of this version of it.
        checksum: of its content.
    """

    entry: FileEntry
    generation: int
    checksum: str

    @classmethod
    def from_entry(cls, entry: FileEntry) -> "StoredObject":
        """The object of an entry of a bucket's listing."""
        version = ObjectVersion.from_entry(entry)
        return cls(entry, int(version.generation), version.crc32c)


class GenerationMismatch(Exception):
    """The object is of another generation than the writer knows: somebody else has written it."""


class ObjectStore:
    """Objects of a bucket, to read and to write.

    All methods raise UserError where the bucket cannot be used.

    Args:
        location: gs://BUCKET/PREFIX.
        access: also with --offline by the network, as it is written to.
    """

    def __init__(self, location: str, access: BucketAccess) -> None:
        self.location = location.rstrip("/")
        self.bucket = Bucket(
            location, replace(access, offline=False), flag="--save-dir", role="Storage Object Admin"
        )

    def list_objects(self) -> dict[str, StoredObject]:
        """{key: object} of all that is there."""
        return {entry.key: StoredObject.from_entry(entry) for entry in self.bucket.list_objects()}

    def get(self, objects: Iterable[StoredObject]) -> dict[str, Path]:
        """Fetch objects: {key: file of this machine}."""
        paths, failed = self.bucket.fetch([stored.entry for stored in objects])
        if failed:
            key, reason = next(iter(failed.items()))
            raise UserError(f"--save-dir {self.location}/{key}: {reason}; try again")
        return paths

    def put(self, key: str, data: bytes, *, generation: int) -> int:
        """Write an object over its known generation, 0 for none; returns the new one.

        Raises:
            GenerationMismatch: it is another one, with other content.
        """
        from google.api_core.exceptions import PreconditionFailed

        blob = self.bucket.blob(key)
        blob.chunk_size = UPLOAD_CHUNK_BYTES

        def upload() -> None:
            blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=generation,
                checksum="crc32c",
                timeout=TIMEOUT,
            )

        try:
            self.bucket.translate_errors(upload)
        except PreconditionFailed:  # the response to an earlier attempt may be lost
            self.bucket.translate_errors(lambda: blob.reload(timeout=TIMEOUT))
            if blob.generation == generation or blob.crc32c != object_checksum(data):
                raise GenerationMismatch(key) from None
        if blob.crc32c != object_checksum(data) or blob.size != len(data):
            raise UserError(f"--save-dir {self.location}/{key}: arrived damaged; try again")
        return int(blob.generation)

    def delete(self, key: str, *, generation: int) -> None:
        """Remove an object of a known generation, if it is there.

        Raises:
            GenerationMismatch: it is another one.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob = self.bucket.blob(key)

        def delete() -> None:
            with suppress(NotFound):
                blob.delete(if_generation_match=generation, timeout=TIMEOUT)

        try:
            self.bucket.translate_errors(delete)
        except PreconditionFailed:
            raise GenerationMismatch(key) from None
