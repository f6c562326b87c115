"""A Google Cloud Storage bucket as a source: each object is fetched once, verified, and kept."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write, write_json
from simclr_rhd.core.logs import progress
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.sources.base import BucketAccess, FileEntry, keep_valid, summarize_names
from simclr_rhd.data.sources.gcs_errors import ErrorTranslator
from simclr_rhd.data.sources.gcs_objects import ObjectVersion, decompress, entry_from_row, object_checksum

logger = logging.getLogger("simclr_rhd")

THREADS = 24  # requests at a time: a bucket answers in tens of milliseconds, whatever the bandwidth
ATTEMPTS, BACKOFF_S = 5, 0.5  # tries of an object whose bytes do not match the listing; before the second
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
STALE_AFTER_S = 86_400  # seconds after which a half-fetched file belongs to nobody


class Bucket:
    """A bucket of Google Cloud Storage, with the client's own credential rules.

    Fetched objects are kept under a hash of their name and their generation: no name can lead out of the
    cache, and a changed object is another file. A file that stands under its final name was verified. Of an
    object that is stored with the content encoding gzip the stored bytes are; its content stands beside.
    """

    remote = True
    page_size = 1000  # names in one answer to a listing

    def __init__(
        self,
        location: str,
        access: BucketAccess,
        *,
        flag: str = "--data",
        role: str = "Storage Object Viewer",
    ) -> None:
        matched = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", location)
        if not matched:
            raise UserError(f"{flag} {location}: wanted gs://BUCKET or gs://BUCKET/PREFIX")
        self.location = location.rstrip("/")
        self.bucket_name, prefix = matched[1], (matched[2] or "").strip("/")
        self.prefix = prefix + "/" if prefix else ""
        self.billing_project = access.billing_project
        self.cache = access.cache_dir / "objects" / self.bucket_name
        # files and their names may identify patients
        self.cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.listed, self.fetched, self.skipped = 0, 0, list[tuple[str, str]]()
        message_prefix = f"{flag} {self.location}".strip()
        self.translate_errors = ErrorTranslator(message_prefix, matched[1], role)
        self.bucket = None if access.offline else self.translate_errors(self._connect)

    def files(self, prefix: str, *, flag: str) -> list[FileEntry]:  # noqa: D102
        entries, refused = keep_valid(self._list_objects(prefix.rstrip("/") + "/" if prefix else ""))
        self.listed += len(entries)
        self.skipped += refused
        if not entries:
            raise UserError(
                f"{flag} {prefix}: no objects below {self.location}/{prefix}/; {self.location} holds: "
                f"{self._siblings('')}"
            )
        return entries

    def list_objects(self) -> list[FileEntry]:
        """All objects below the prefix, none of which is no fault."""
        return keep_valid(self._list_objects(""))[0]

    def blob(self, key: str) -> Any:
        """The client's handle of an object, to write it."""
        assert self.bucket is not None
        return self.bucket.blob(self.prefix + key)

    def entry(self, key: str, *, flag: str = "--labels-csv") -> FileEntry:  # noqa: D102
        matches = [entry for entry in self._list_objects(key) if entry.key == key]
        if not matches:
            folder, slash, _ = key.rpartition("/")
            raise UserError(
                f"{flag} {key}: no such object in {self.location}; in its folder: "
                f"{self._siblings(folder + slash)}"
            )
        self.listed += 1
        return matches[0]

    def fetch(self, entries: Sequence[FileEntry]) -> tuple[dict[str, Path], dict[str, str]]:  # noqa: D102
        paths = {entry.key: self._path(entry) for entry in entries}
        missing = [entry for entry in entries if not self._is_cached(entry)]
        if self.bucket is None:
            failed = {entry.key: "not in the cache, and --offline asks nobody" for entry in missing}
        else:
            failed = self.translate_errors(lambda: self._fetch_all(missing, len(entries)))
        encoded = [
            entry for entry in entries if entry.key not in failed and ObjectVersion.from_entry(entry).encoding
        ]
        decoded = map_ordered(self._decompress, encoded, workers=THREADS)
        for entry, (path, reason) in zip(encoded, decoded, strict=True):
            paths[entry.key] = path
            failed |= {entry.key: reason} if reason else {}
        return {key: path for key, path in paths.items() if key not in failed}, failed

    def _decompress(self, entry: FileEntry) -> tuple[Path, str]:
        return decompress(self._path(entry), ObjectVersion.from_entry(entry).encoding)

    def _fetch_all(self, missing: Sequence[FileEntry], total: int) -> dict[str, str]:
        """Bring objects into the cache; reasons by key for those that cannot be had."""
        if not missing:
            return {}
        size = sum(entry.size for entry in missing)
        logger.info("bucket: fetching %d of %d objects (%.1f MB)", len(missing), total, size / 1e6)
        for left in self.cache.glob("*/.*.part"):  # of a run that was killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE_AFTER_S:
                    left.unlink()
        failed = {}
        done = map_ordered(self._fetch_one, missing, workers=THREADS)
        for entry, reason in progress(
            zip(missing, done, strict=True),
            total=len(missing),
            label="bucket",
            unit="files",
            amount=lambda item: item[0].size / 1e6,
            amount_unit="MB",
        ):
            if reason:
                failed[entry.key] = reason
            else:
                self.fetched += 1
        return failed

    def _connect(self) -> Any:
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        # A project is needed to make buckets, not to read them; without this line the client insists on one.
        client = storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT"))
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_connections=THREADS, pool_maxsize=THREADS))
        return client.bucket(self.bucket_name, user_project=self.billing_project)

    def _list_objects(self, prefix: str) -> list[FileEntry]:
        """The objects whose names begin so, from the bucket, or from the last listing when offline."""
        cached = self.cache / "listings" / f"{_hash_name(self.prefix + prefix)}.json"
        if self.bucket is None:
            try:
                return [entry_from_row(*row) for row in json.loads(cached.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError, RecursionError):  # or its file is damaged
                raise UserError(
                    f"--offline: {self.location}/{prefix} was never listed with this --cache-dir; run once "
                    "without --offline"
                ) from None
        bucket = self.bucket
        blobs = self.translate_errors(
            lambda: [
                *bucket.client.list_blobs(
                    bucket,
                    prefix=self.prefix + prefix,
                    page_size=self.page_size,
                    fields="items(name,size,crc32c,generation,contentEncoding),nextPageToken",
                    timeout=TIMEOUT,
                )
            ]
        )
        entries = [
            FileEntry(blob.name.removeprefix(self.prefix), blob.size, ObjectVersion.from_blob(blob).text())
            for blob in blobs
        ]
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_json(cached, entries)
        return entries

    def _siblings(self, folder: str) -> str:
        """The first names in a folder of the bucket, for a message."""
        if self.bucket is None:
            return "(offline)"
        top = self.prefix + folder
        blobs = self.bucket.client.list_blobs(self.bucket, prefix=top, delimiter="/", timeout=TIMEOUT)
        names = self.translate_errors(lambda: [*(blob.name for blob in blobs), *blobs.prefixes])
        return summarize_names(name.removeprefix(top) for name in names)

    def _path(self, entry: FileEntry) -> Path:
        name = _hash_name(self.prefix + entry.key)
        return self.cache / name[:2] / f"{name}-{ObjectVersion.from_entry(entry).generation}"

    def _is_cached(self, entry: FileEntry) -> bool:
        path = self._path(entry)
        if not path.exists() or path.stat().st_size != entry.size:
            return False
        return object_checksum(path.read_bytes()) == ObjectVersion.from_entry(entry).crc32c

    def _fetch_one(self, entry: FileEntry) -> str:
        """Bring one object into the cache; the reason if it cannot be had, else empty."""
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.exceptions import DataCorruption

        generation, crc32c, _ = ObjectVersion.from_entry(entry)
        assert self.bucket is not None
        blob = self.bucket.blob(self.prefix + entry.key, generation=int(generation))
        for attempt in range(ATTEMPTS):
            time.sleep(BACKOFF_S * (2**attempt - 1))
            try:
                data = blob.download_as_bytes(raw_download=True, single_shot_download=True, timeout=TIMEOUT)
            except NotFound:
                return "deleted or replaced since it was listed"
            except DataCorruption:
                continue
            # The client's own check misses a body that breaks off and goes on wrongly, so: the listing's.
            if len(data) == entry.size and object_checksum(data) == crc32c:
                path = self._path(entry)
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as part:
                    part.write_bytes(data)
                return ""
        return f"its bytes were wrong {ATTEMPTS} times (checksum)"


def _hash_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:40]
