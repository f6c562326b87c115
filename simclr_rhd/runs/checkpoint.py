"""Checkpoints: tensors and JSON types only, saved whole or not at all, loaded without running code.

A file ends in a checksum of all its bytes: what changed on a disk or on the way is refused. It stands where a
zip archive, which PyTorch's files are, has its comment; so other programs read the file as before.
"""

import hashlib
import io
import logging
import os
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import torch
from torch import Tensor, nn

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.core.files import atomic_write

logger = logging.getLogger("simclr_rhd")
Value = TypeVar("Value")

CHECKSUM_PREFIX = b"simclr-rhd sha256 "  # before the checksum, 64 hexadecimal digits
ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22  # a zip archive's last record, whose last two bytes tell the
COMMENT_BYTES = len(CHECKSUM_PREFIX) + 64  # length of the comment that follows
BLOCK_BYTES = 1 << 20  # read at once
MAX_VALUES, MAX_DEPTH = 400_000, 50  # in a file that is not made to fill the memory
MAX_TEXT_LENGTH = 10_000_000  # in a smaller file; names of columns are in it once and meant in each record
CHECKED_TYPES = (dict, list, tuple, set, frozenset, Tensor, str, bytes)
MAX_TUPLE_REUSES = 16  # times that tuples which are not plain pairs, as betas are, may be taken again
MAX_OPCODES = 4_000_000  # of the loader, beyond what any run's history takes
NUMBER_OPCODES = {"BINFLOAT", "BININT", "BININT1", "BININT2"}


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write `payload` to `path`; a crash in the middle leaves the old file good."""
    content = io.BytesIO()
    torch.save(payload, content)  # straight into a file it would not say that the disk is full
    content.seek(-2, os.SEEK_END)
    content.write(COMMENT_BYTES.to_bytes(2, "little"))
    checksum = hashlib.sha256(content.getbuffer()).hexdigest()
    content.write(CHECKSUM_PREFIX + checksum.encode())
    with atomic_write(path) as part:
        with part.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())  # the move must not reach the disk before the bytes do


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. A file without a checksum is named in the log.

    Raises:
        UserError: the file cannot be read, was changed since it was written, or is not a checkpoint of
            tensors and plain types.
    """
    try:
        with Path(path).open("rb") as stream:
            has_checksum = _verify_checksum(stream)
            _check_archive(stream)
            stream.seek(0)
            payload = torch.load(stream, map_location="cpu", weights_only=True)
        if not isinstance(payload, dict):
            raise UserError(f"{path}: not a checkpoint of this program (it holds a {type(payload).__name__})")
        _check_values(payload, file_bytes=Path(path).stat().st_size)
    except UserError:
        raise
    except Exception as error:  # on foreign bytes the loader raises whatever it stumbles over
        if isinstance(error, OSError) and error.filename:  # else it looks for what a cut-off file lacks
            raise UserError(f"{path}: {error.strerror or error}") from None
        reason = reason_of(error)
        if isinstance(error, pickle.UnpicklingError):  # whose own text advises to run what is in the file
            reason = " (it holds more than tensors and plain values)"
        raise UserError(f"{path}: not a checkpoint of this program, or damaged{reason}") from None
    if not has_checksum:
        logger.info(
            "NOTICE %s has no checksum: it is of an older version, or of another program, and damage would "
            "not be noticed",
            path,
        )
    return payload


def _verify_checksum(stream: BinaryIO) -> bool:
    """Compare a file with the checksum at its end; False where it has none.

    Raises:
        ValueError: they differ.
    """
    size, checksum = stream.seek(0, os.SEEK_END), hashlib.sha256()
    stream.seek(max(0, size - ZIP_END_SIZE))
    last = stream.read()
    stream.seek(0)
    if (last.startswith(ZIP_END) and last.endswith(b"\0\0")) or stream.read(2) != ZIP_END[:2]:
        return False  # a zip archive that promises no comment, or none at all
    stream.seek(0)
    left = size - COMMENT_BYTES
    while left > 0 and (block := stream.read(min(BLOCK_BYTES, left))):
        checksum.update(block)
        left -= len(block)
    if stream.read() != CHECKSUM_PREFIX + checksum.hexdigest().encode():
        raise ValueError("its bytes are not those that were written: the checksum differs")
    return True


def _check_archive(stream: BinaryIO) -> None:
    """Refuse a file that would grow while it is read: ours are as large as what they hold.

    Raises:
        ValueError: it would.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except zipfile.BadZipFile:
        return  # of an older PyTorch; or the loader says what is wrong with it
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed inside")
    if sum(member.file_size for member in members) > stream.seek(0, os.SEEK_END):
        raise ValueError("its parts lie on top of each other")
    for member in members:  # PyTorch lets a file ask for an array of bytes of any length
        if member.filename.endswith("/data.pkl"):
            steps = archive.read(member)
            if b"bytearray" in steps:
                raise ValueError("it holds more than tensors and plain values")
            _check_opcodes(steps)


def _check_opcodes(pickled: bytes) -> None:
    """Refuse many reused tuples: nested, they are few bytes in a file and take exponential time to hash.

    Raises:
        ValueError: there are such, or the steps that the loader is to take are too many.
    """
    tuples, shared, before = set[Any](), 0, ["", "", ""]
    for number, (step, argument, _) in enumerate(pickletools.genops(pickled)):
        if step.name.endswith("PUT"):
            is_tuple = before[-1].startswith("TUPLE") and not (
                before[-1] == "TUPLE2" and NUMBER_OPCODES.issuperset(before[:2])
            )
            (tuples.add if is_tuple else tuples.discard)(argument)
            continue
        shared += step.name.endswith("GET") and argument in tuples
        before = [*before[1:], step.name]
        if shared > MAX_TUPLE_REUSES or number > MAX_OPCODES:
            raise ValueError("its lists are nested too deep, or too long")


def _check_values(payload: dict[str, Any], *, file_bytes: int) -> None:
    """Refuse values that are few bytes in a file and gigabytes when they are looked at.

    Such are tensors that repeat one number (stride 0), and lists that hold one list or text many times.

    Args:
        payload: what was loaded.
        file_bytes: bytes of the file.

    Raises:
        ValueError: there are such.
    """
    rest: list[tuple[Any, int]] = [(payload, 0)]
    seen = letters = 0
    while rest:
        value, depth = rest.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError("it holds tensors of another kind")
            size, stored = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if size > stored or stored > file_bytes:
                raise ValueError("it holds tensors that are larger than the file")
        elif isinstance(value, str | bytes):
            letters += len(value)
            if letters > max(file_bytes, MAX_TEXT_LENGTH):
                raise ValueError("its texts are longer than the file")
        else:
            seen += len(value)
            if depth == MAX_DEPTH or seen > MAX_VALUES:
                raise ValueError("its lists are nested too deep, or too long")
            within = [*value, *value.values()] if isinstance(value, dict) else value
            rest.extend((item, depth + 1) for item in within if isinstance(item, CHECKED_TYPES))


def load_strict(part: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load finite tensors of exactly the names, shapes and kinds that a module has.

    Raises:
        ValueError: they are others; the message begins with `name`.
    """
    wanted = part.state_dict()
    if not isinstance(tensors, dict):
        raise ValueError(f"{name} is no table of tensors")
    if set(tensors) != set(wanted):
        odd = sorted(map(str, set(tensors) ^ set(wanted)))
        raise ValueError(f"{name}: {len(odd)} names differ, the first: {odd[0]:.60}")
    for key, value in tensors.items():
        if value.shape != wanted[key].shape or value.is_floating_point() != wanted[key].is_floating_point():
            raise ValueError(f"{name}.{key} is {tuple(value.shape)}, wanted {tuple(wanted[key].shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}.{key} has numbers that are not finite")
    part.load_state_dict(tensors, strict=True)


def digest(model: nn.Module) -> str:
    """A hash of all parameters and buffers: equal before and after means that nothing moved."""
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for several devices, so that saved names carry no `module.` prefix."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return cast(nn.Module, model.module)
    return model


def typed_value(state: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    """A value of a saved state.

    Raises:
        KeyError: there is none.
        ValueError: it is of another kind.
    """
    value = state[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} is a {type(value).__name__}")
    return value
