"""A Google Cloud Storage bucket as a source: each object is fetched once, verified, and kept."""

import base64
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from simclr_rhd.errors import UserError
from simclr_rhd.files import replacing
from simclr_rhd.listing import Entry, listed_names, visible

logger = logging.getLogger("simclr_rhd")

THREADS = 24  # requests at a time: a bucket answers in tens of milliseconds, whatever the bandwidth
ATTEMPTS, BACKOFF = 5, 0.5  # tries per object whose bytes do not match the listing; seconds before the second
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
LOG_EVERY = 5.0  # seconds between progress lines in a log
T = TypeVar("T")


class Bucket:
    """A bucket of Google Cloud Storage, with the client's own credential rules.

    Fetched objects are kept under a hash of their name and their generation: no name can lead out of the
    cache, and a changed object is another file. A file that stands under its final name was verified.
    """

    page_size = 1000  # names in one answer to a listing

    def __init__(self, location: str, *, cache_dir: Path) -> None:
        matched = re.fullmatch(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", location)
        if not matched:
            raise UserError(f"--data {location}: wanted gs://BUCKET or gs://BUCKET/PREFIX")
        self.location = location.rstrip("/")
        self.bucket_name, prefix = matched[1], (matched[2] or "").strip("/")
        self.prefix = prefix + "/" if prefix else ""
        self.cache = cache_dir / "objects" / self.bucket_name
        self.bucket = self._ask(self._connect)

    def files(self, prefix: str, *, flag: str) -> list[Entry]:  # noqa: D102
        entries = visible(self._listed(prefix.rstrip("/") + "/"), f"{self.location}/{prefix}")
        if not entries:
            raise UserError(
                f"{flag} {prefix}: no objects below {self.location}/{prefix}/; {self.location} holds: "
                f"{self._beside('')}"
            )
        return entries

    def entry(self, key: str) -> Entry:  # noqa: D102
        found = [entry for entry in self._listed(key) if entry.key == key]
        if not found:
            folder, slash, _ = key.rpartition("/")
            raise UserError(
                f"--labels-csv {key}: no such object in {self.location}; in its folder: "
                f"{self._beside(folder + slash)}"
            )
        return found[0]

    def fetch(self, entries: Sequence[Entry]) -> tuple[dict[str, Path], dict[str, str]]:  # noqa: D102
        paths = {entry.key: self._path(entry) for entry in entries}
        missing = [entry for entry in entries if not self._have(entry)]
        failed: dict[str, str] = {}
        if missing:
            logger.info(
                "bucket: fetching %d of %d objects (%.1f MB)",
                len(missing),
                len(entries),
                sum(entry.size for entry in missing) / 1e6,
            )
            with ThreadPoolExecutor(THREADS) as pool:
                futures = {pool.submit(self._fetch_one, entry): entry for entry in missing}
                try:
                    sizes = {future: entry.size for future, entry in futures.items()}
                    for future in _progress(as_completed(futures), sizes):
                        if reason := self._ask(future.result):
                            failed[futures[future].key] = reason
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return {key: path for key, path in paths.items() if key not in failed}, failed

    def _connect(self) -> Any:
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        # A project is needed to make buckets, not to read them; without this line the client insists on one.
        client = storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT"))
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_connections=THREADS, pool_maxsize=THREADS))
        return client.bucket(self.bucket_name)

    def _listed(self, prefix: str) -> list[Entry]:
        blobs = self._ask(
            lambda: [
                *self.bucket.client.list_blobs(
                    self.bucket,
                    prefix=self.prefix + prefix,
                    page_size=self.page_size,
                    fields="items(name,size,crc32c,generation),nextPageToken",
                    timeout=TIMEOUT,
                )
            ]
        )
        return [
            Entry(blob.name.removeprefix(self.prefix), blob.size, f"{blob.generation}-{blob.crc32c}")
            for blob in blobs
        ]

    def _beside(self, folder: str) -> str:
        """What a folder of the bucket holds, for a message."""
        top = self.prefix + folder
        found = self.bucket.client.list_blobs(self.bucket, prefix=top, delimiter="/", timeout=TIMEOUT)
        names = self._ask(lambda: [*(blob.name for blob in found), *found.prefixes])
        return listed_names(name.removeprefix(top) for name in names)

    def _path(self, entry: Entry) -> Path:
        name = hashlib.sha256((self.prefix + entry.key).encode()).hexdigest()[:40]
        generation = entry.stamp.split("-")[0]
        return self.cache / name[:2] / f"{name}-{generation}"

    def _have(self, entry: Entry) -> bool:
        path = self._path(entry)
        return path.exists() and path.stat().st_size == entry.size

    def _fetch_one(self, entry: Entry) -> str:
        """Bring one object into the cache; the reason if it cannot be had, else empty."""
        import google_crc32c
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.exceptions import DataCorruption

        generation, crc32c = entry.stamp.split("-", 1)
        blob = self.bucket.blob(self.prefix + entry.key, generation=int(generation))
        for attempt in range(ATTEMPTS):
            time.sleep(BACKOFF * (2**attempt - 1))
            try:
                data = blob.download_as_bytes(raw_download=True, single_shot_download=True, timeout=TIMEOUT)
            except NotFound:
                return "deleted or replaced since it was listed"
            except DataCorruption:
                continue
            # The client's own check misses a body that breaks off and goes on wrongly, so: the listing's.
            if (
                len(data) == entry.size
                and base64.b64encode(google_crc32c.Checksum(data).digest()).decode() == crc32c
            ):
                path = self._path(entry)
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as part:
                    part.write_bytes(data)
                return ""
        return f"its bytes were wrong {ATTEMPTS} times (checksum)"

    def _ask(self, request: Callable[[], Any]) -> Any:
        """What a request answers; the client's errors in one sentence each."""
        import requests
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth

        try:
            return request()
        except auth.DefaultCredentialsError:
            raise UserError(
                f"--data {self.location}: no Google credentials found. Run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a "
                "service account's key file"
            ) from None
        except (api.Forbidden, api.Unauthorized) as error:
            raise UserError(
                f"--data {self.location}: access denied ({error.code}). The account in use needs the "
                "role Storage Object Viewer on this bucket"
            ) from None
        except api.NotFound:
            raise UserError(
                f"--data {self.location}: there is no bucket {self.bucket_name}, or the account in "
                "use may not see it"
            ) from None
        except auth.RefreshError:
            raise UserError(
                f"--data {self.location}: the Google credentials were refused. Run `gcloud auth "
                "application-default login` again, or renew the service account's key"
            ) from None
        except (
            api.GoogleAPICallError,
            api.RetryError,
            auth.TransportError,
            requests.RequestException,
        ) as error:
            raise UserError(
                f"--data {self.location}: Google Cloud Storage does not answer "
                f"({type(error).__name__}); what is fetched is kept, try again later"
            ) from None


def _progress(done: Iterable[T], sizes: dict[T, int]) -> Iterator[T]:
    """Pass on what is done: with a bar on a terminal, else with a log line every few seconds."""
    start = last = time.perf_counter()
    total, got = sum(sizes.values()), 0
    for number, item in enumerate(
        tqdm(done, total=len(sizes), desc="fetching", unit=" files", disable=None, leave=False), start=1
    ):
        got += sizes[item]
        now = time.perf_counter()
        if now - last > LOG_EVERY:
            last, rate = now, got / (now - start)
            logger.info(
                "bucket: %d of %d objects, %.1f MB/s, %.0f s left",
                number,
                len(sizes),
                rate / 1e6,
                (total - got) / max(rate, 1),
            )
        yield item
