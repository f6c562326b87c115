"""The sources of files: a folder, a Google Cloud Storage bucket, or the built-in demo.

All three look alike: files below a root, named by keys with forward slashes, each with a version that
changes with its content. A folder and a bucket of the same content list the same keys in the same order.
"""

import hashlib
import logging
from pathlib import Path, PurePosixPath

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_directory
from simclr_rhd.data.config import LabelledDataConfig
from simclr_rhd.data.decoding.file_types import file_type
from simclr_rhd.data.sources.base import BucketAccess, FileEntry, Source, invalid_name_reason
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.sources.remote import open_remote, scheme_of

logger = logging.getLogger("simclr_rhd")


def open_data(config: LabelledDataConfig) -> Source:
    """Open the place that `--data` names: 'demo', a folder, or gs://BUCKET[/PREFIX].

    Raises:
        UserError: there is no such folder or bucket, or it cannot be opened.
    """
    access = config.bucket_access()
    if config.synthetic:
        return Folder(
            make_demo(access.cache_dir, config.demo_patients, config.demo_seed), location="demo (synthetic)"
        )
    if scheme_of(config.data):
        return open_remote(config.data, access, flag="--data")
    return Folder(Path(config.data).expanduser(), location=config.data)


def open_path(path: str, access: BucketAccess) -> tuple[Source, list[FileEntry], str]:
    """A file, a folder, or an object or a folder of a bucket: where it is, its files, and what precedes them.

    Files are shown as the path that was typed, or as one below it.

    Raises:
        UserError: there is no such thing, or nothing in it.
    """
    if scheme := scheme_of(path):
        name, _, key = path.removeprefix(scheme).partition("/")
        bucket = open_remote(scheme + name, access, flag="")
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


def make_demo(cache_dir: Path, patients: int, seed: int = 0) -> Path:
    """The folder of the demo data, written once for each version of the code that draws them.

    Args:
        cache_dir: where it is kept.
        patients: how many are drawn.
        seed: 0, or the number of another hospital.
    """
    from simclr_rhd.data.demo import anatomy, phantom
    from simclr_rhd.data.demo import dataset as demo

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (demo, anatomy, phantom))
    version = hashlib.sha256(code).hexdigest()[:12]
    folder = cache_dir / f"demo-{version}-{patients}{f'-{seed}' if seed else ''}"
    if not folder.is_dir():
        logger.info("demo: drawing the clips of %d synthetic patients", patients)
        with atomic_directory(folder) as part:
            demo.write_demo(part, patients=patients, seed=seed)
    return folder
