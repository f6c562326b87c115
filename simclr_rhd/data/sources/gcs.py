"""A Google Cloud Storage bucket as a source: each object is fetched once, verified, and kept."""

import base64
import gzip
import hashlib
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write, write_json
from simclr_rhd.core.logs import progress
from simclr_rhd.core.text import replace_unprintable
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.sources.base import FileEntry, keep_valid, summarize_names

logger = logging.getLogger("simclr_rhd")

THREADS = 24  # requests at a time: a bucket answers in tens of milliseconds, whatever the bandwidth
ATTEMPTS, BACKOFF_S = (
    5,
    0.5,
)  # tries per object whose bytes do not match the listing; seconds before the second
RETRYABLE_STATUS = (408, 429)  # refusals that pass
POLICY_PATTERN = "polic|constraint|prohibited"  # words of what an organisation forbids
REFUSAL_ADVICE = (  # words of Google's refusals, and what can be done
    ("serviceusage", "The account in use needs the role Service Usage Consumer on the --billing-project"),
    ("requester pays|user ?project", "Name the project that pays: --billing-project PROJECT"),
    ("billing|disabled|delinquent", "The owner of the project must put its billing in order"),
    (POLICY_PATTERN, "Whoever administers the organisation can allow it"),
)
MAX_MESSAGE_CHARS = 300  # characters
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
GZIP_ENCODINGS, GZIP_MAGIC = ("gzip", "x-gzip"), b"\x1f\x8b"  # names of the encoding; the first bytes
MAX_DECODED_BYTES, BLOCK_BYTES = (
    1 << 30,
    1 << 20,
)  # bytes of an object without its encoding, and that are read at a time
STALE_AFTER_S = 86_400  # seconds after which a half-fetched file belongs to nobody


class ObjectVersion(NamedTuple):
    """What tells the content of an object.

    Attributes:
        generation: number of this version of it.
        crc32c: checksum of the stored bytes, as the listing writes it.
        encoding: content encoding of the stored bytes, "" for none.
    """

    generation: str
    crc32c: str
    encoding: str = ""

    @classmethod
    def from_entry(cls, entry: FileEntry) -> "ObjectVersion":
        """The stamp of an entry of a bucket's listing."""
        return cls(*entry.version.split("-", 2))

    @classmethod
    def from_blob(cls, blob: Any) -> "ObjectVersion":
        """The stamp of an object as the client gives it."""
        encoding = (blob.content_encoding or "").strip().lower()
        return cls(str(blob.generation), str(blob.crc32c), encoding.removeprefix("identity"))

    def text(self) -> str:
        """As an entry has it."""
        return "-".join(part for part in self if part)


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
        *,
        cache_dir: Path,
        offline: bool = False,
        flag: str = "--data",
        role: str = "Storage Object Viewer",
        billing_project: str | None = None,
    ) -> None:
        matched = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", location)
        if not matched:
            raise UserError(f"{flag} {location}: wanted gs://BUCKET or gs://BUCKET/PREFIX")
        self.location = location.rstrip("/")
        self.role = role  # that it takes
        self.billing_project = billing_project  # pays, where requesters do
        self.message_prefix = f"{flag} {self.location}".strip()  # begins a message
        self.bucket_name, prefix = matched[1], (matched[2] or "").strip("/")
        self.prefix = prefix + "/" if prefix else ""
        self.cache = cache_dir / "objects" / self.bucket_name
        self.cache.parent.mkdir(
            mode=0o700, parents=True, exist_ok=True
        )  # files and their names tell of patients
        self.listed, self.fetched, self.skipped = 0, 0, list[tuple[str, str]]()
        self.bucket = None if offline else self.translate_errors(self._connect)

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
        found = [entry for entry in self._list_objects(key) if entry.key == key]
        if not found:
            folder, slash, _ = key.rpartition("/")
            raise UserError(
                f"{flag} {key}: no such object in {self.location}; in its folder: "
                f"{self._siblings(folder + slash)}"
            )
        self.listed += 1
        return found[0]

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
        """The file of an object without its content encoding; the reason if there is none, else empty."""
        path, encoding = self._path(entry), ObjectVersion.from_entry(entry).encoding
        if encoding not in GZIP_ENCODINGS:
            return path, f"has the content encoding {encoding:.20}, which is not read: store it without"
        with path.open("rb") as start:
            if start.read(len(GZIP_MAGIC)) != GZIP_MAGIC:  # it is called so, and is not
                return path, ""
        plain, left = path.with_name(f"{path.name}-plain"), MAX_DECODED_BYTES
        try:
            with atomic_write(plain) as part, gzip.open(path) as stream, part.open("wb") as out:
                while block := stream.read(BLOCK_BYTES):
                    left -= len(block)
                    if left < 0:
                        raise ValueError("too large")
                    out.write(block)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return path, "its gzip is damaged, though it is what was stored"
        except ValueError:
            return path, f"its gzip holds more than {MAX_DECODED_BYTES / 1e9:.1f} GB"
        return plain, ""

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
        kept = (
            self.cache
            / "listings"
            / f"{hashlib.sha256((self.prefix + prefix).encode()).hexdigest()[:40]}.json"
        )
        if self.bucket is None:
            try:
                return [_entry_from_row(*row) for row in json.loads(kept.read_text(encoding="utf-8"))]
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
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, entries)
        return entries

    def _siblings(self, folder: str) -> str:
        """What a folder of the bucket holds, for a message."""
        if self.bucket is None:
            return "(offline)"
        top = self.prefix + folder
        found = self.bucket.client.list_blobs(self.bucket, prefix=top, delimiter="/", timeout=TIMEOUT)
        names = self.translate_errors(lambda: [*(blob.name for blob in found), *found.prefixes])
        return summarize_names(name.removeprefix(top) for name in names)

    def _path(self, entry: FileEntry) -> Path:
        name = hashlib.sha256((self.prefix + entry.key).encode()).hexdigest()[:40]
        return self.cache / name[:2] / f"{name}-{ObjectVersion.from_entry(entry).generation}"

    def _is_cached(self, entry: FileEntry) -> bool:
        path = self._path(entry)
        if not path.exists() or path.stat().st_size != entry.size:
            return False
        return checksum(path.read_bytes()) == ObjectVersion.from_entry(entry).crc32c

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
            if len(data) == entry.size and checksum(data) == crc32c:
                path = self._path(entry)
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as part:
                    part.write_bytes(data)
                return ""
        return f"its bytes were wrong {ATTEMPTS} times (checksum)"

    def translate_errors(self, request: Callable[[], Any]) -> Any:
        """What a request answers; the client's errors in one sentence each, but PreconditionFailed."""
        import requests
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth

        try:
            return request()
        except api.PreconditionFailed as error:
            if not re.search(POLICY_PATTERN, _error_message(error), re.IGNORECASE):
                raise  # an answer to what was asked
            raise UserError(self._refusal_message(error)) from None
        except auth.DefaultCredentialsError:
            raise UserError(
                f"{self.message_prefix}: no Google credentials found. Run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a "
                "service account's key file"
            ) from None
        except api.NotFound:
            raise UserError(
                f"{self.message_prefix}: there is no bucket {self.bucket_name}, or the account in "
                "use may not see it"
            ) from None
        except auth.RefreshError:
            raise UserError(
                f"{self.message_prefix}: the Google credentials were refused. Run `gcloud auth "
                "application-default login` again, or renew the service account's key"
            ) from None
        except (
            api.GoogleAPICallError,
            api.RetryError,
            auth.TransportError,
            requests.RequestException,
        ) as error:
            if isinstance(error, api.ClientError) and error.code not in RETRYABLE_STATUS:
                raise UserError(self._refusal_message(error)) from None
            raise UserError(
                f"{self.message_prefix}: Google Cloud Storage does not answer "
                f"({_error_message(error)}); what is fetched is kept, try again later"
            ) from None

    def _refusal_message(self, error: Any) -> str:
        """What Google says of a request that it will not answer, and what can be done."""
        said, denied = _error_message(error), error.code in (401, 403)
        ways = (way for words, way in REFUSAL_ADVICE if re.search(words, said, re.IGNORECASE))
        need = f"The account in use needs the role {self.role} on this bucket" * denied
        what = "access denied" if denied else "refused"
        return f"{self.message_prefix}: {what} ({error.code}): {said}. {next(ways, need)}".rstrip(" .")


def _error_message(error: Any) -> str:
    """Google's own words, without the address that was asked."""
    error = getattr(error, "cause", None) or error  # of the last attempt
    words = ""
    with suppress(AttributeError, ValueError, KeyError, TypeError):
        words = error.response.text.strip()
        words = str(json.loads(words)["error"]["message"])
    if not words or words.startswith(("<", "{")):
        words = type(error).__name__
    return replace_unprintable(" ".join(words.split()))[:MAX_MESSAGE_CHARS].rstrip(". ")


def _entry_from_row(key: Any, size: Any, version: Any) -> FileEntry:
    """A row of a listing that was kept.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(key, str) or type(size) is not int or not re.fullmatch(r"\d+-.+", version):
        raise ValueError("no row of a listing")
    return FileEntry(key, size, version)


def checksum(data: bytes) -> str:
    """The CRC32C of an object's content, as the bucket's listing writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
