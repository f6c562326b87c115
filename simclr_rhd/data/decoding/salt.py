"""The salt of a cache folder: secret bytes for the hashes of patients' identifiers."""

import fcntl
import logging
import os
import secrets
from hashlib import sha256
from pathlib import Path

logger = logging.getLogger("simclr_rhd")

SALT_BYTES = 32


def salt_id(salt: bytes) -> str:
    """A short name of a salt, from which it cannot be computed."""
    return sha256(salt).hexdigest()[:8]


def load_salt(cache_dir: Path) -> bytes:
    """Secret bytes of this cache folder, made once: without them a patient's number could be guessed.

    They are written and read under a lock: what is empty or cut off was left by a process that ended.
    """
    path = cache_dir / "salt"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        salt = stream.read()
        if len(salt) == SALT_BYTES and any(salt):
            return salt
        if salt:
            logger.warning(
                "WARNING %s is damaged: patients of DICOM files get other numbers than before", path
            )
        salt = secrets.token_bytes(SALT_BYTES)
        stream.seek(0)
        stream.truncate()
        stream.write(salt)
        stream.flush()
        os.fsync(stream.fileno())
    return salt
