"""Frames of files of any kind, decoded one after another, in constant memory."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import progress
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.decoding import decode as media
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.labels.video_ids import locate_video
from simclr_rhd.data.splits.groups import HASHED_PREFIX
from simclr_rhd.data.store.salt import load_salt
from simclr_rhd.inference.input_files import InputFiles

FILES_PER_FETCH = 1000  # files of a bucket that are brought here at a time
MAX_SAMPLED_FRAMES, SAMPLED_FRAMES_PER_CLIP = 400, 4


class InputFrame(NamedTuple):
    """A frame to classify: its name, video and patient, and its (3, S, S) uint8 pixels."""

    path: str
    video: str
    patient: str
    pixels: np.ndarray


class OpenFile(NamedTuple):
    """A file as it is displayed, what became of it so far, and its frames, which are decoded when taken."""

    name: str
    decoded: media.DecodedFile
    frames: Iterable[media.DecodedFrame]


class FrameReader:
    """All frames of some files; those left out are in `rejected`, (file, reason), once they are passed.

    Args:
        inputs: the files.
        patients: {file as it is displayed: its patient}.
        side: S, pixels of a frame's side.
        cache_dir: holds the salt for patients of DICOM files.
        max_frames: frames of a clip at most, None for all.
        max_pixels: of a frame.
    """

    def __init__(
        self,
        inputs: Sequence[InputFiles],
        patients: Mapping[str, str],
        *,
        side: int,
        cache_dir: Path,
        max_frames: int | None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.inputs, self.patients = inputs, patients
        self.iter_frames: Callable[..., Generator[media.DecodedFrame, None, None]] = partial(
            media.iter_frames,
            side=side,
            max_frames=max_frames,
            max_pixels=max_pixels,
            salt=load_salt(cache_dir),
        )
        self.rejected: list[tuple[str, str]] = []
        self.n_files = sum(len(place.entries) for place in inputs)

    def __iter__(self) -> Iterator[InputFrame]:
        files = progress(
            self._iter_files(),
            total=self.n_files,
            label="predict",
            unit="files",
            amount=lambda _: 1,
            amount_unit="files",
        )
        for name, decoded, frames in files:
            folder, _, base = name.rpartition("/")
            video = "/".join(filter(None, locate_video(folder, base)))
            for frame in frames:
                path = name if frame.number is None else f"{name}#{frame.number:04d}"
                patient = self.patients.get(name) or HASHED_PREFIX * bool(decoded.patient) + decoded.patient
                pixels = np.broadcast_to(frame.pixels, (3, *frame.pixels.shape[1:]))
                yield InputFrame(path, video, patient, pixels)
            if decoded.reason:
                self.rejected.append((name, decoded.reason))

    def _iter_files(self) -> Iterator[OpenFile]:
        """Each file with its frames: stills are decoded ahead, of a clip one frame at a time."""
        for source, entries, prefix in self.inputs:
            for name, reason in source.skipped:
                yield _rejected(prefix + name, reason)
            remaining = iter(entries)
            while batch := list(islice(remaining, FILES_PER_FETCH if source.remote else len(entries))):
                usable = [entry for entry in batch if media.file_type(entry.key)]
                for entry in batch:
                    if not media.file_type(entry.key):
                        reason = f"{media.NO_FRAME}{PurePosixPath(entry.key).suffix}"
                        yield _rejected(prefix + entry.key, reason)
                media.require_packages(entry.key for entry in usable)
                paths, failed = source.fetch(usable)
                for key, reason in failed.items():
                    yield _rejected(prefix + key, f"could not be fetched: {reason}")
                work = partial(self._open_file, paths, prefix)
                yield from map_ordered(work, sorted(paths), workers=os.cpu_count() or 1)

    def _open_file(self, paths: Mapping[str, Path], prefix: str, key: str) -> OpenFile:
        decoded = media.DecodedFile()
        frames = partial(self.iter_frames, paths[key], key, decoded)
        if media.file_type(key) == media.STILL:
            with closing(frames()) as pictures:
                first = next(pictures, None)
            if first is None or first.number is None:
                return OpenFile(prefix + key, decoded, [first] if first else [])
        return OpenFile(prefix + key, decoded, frames())  # of clips, and of stills with several pictures


def _rejected(name: str, reason: str) -> OpenFile:
    return OpenFile(name, media.DecodedFile(reason=reason), ())


def sample_frames(
    inputs: Sequence[InputFiles],
    *,
    side: int,
    max_frames: int = MAX_SAMPLED_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """(n, 3, S, S) uint8 frames of at most `max_pixels`, evenly chosen among the files of some places.

    Raises:
        UserError: none can be read.
    """
    files = [(place, entry) for place in inputs for entry in place.entries if media.file_type(entry.key)]
    pixels, reason = list[np.ndarray](), ""
    for number in evenly_spaced(len(files), min(max_frames, len(files))):
        place, entry = files[number]
        media.require_packages([entry.key])
        paths, _ = place.source.fetch([entry])
        for path in paths.values():
            decoded = media.decode_file(
                path,
                entry.key,
                side=side,
                max_frames=SAMPLED_FRAMES_PER_CLIP,
                salt=b"",
                max_pixels=max_pixels,
            )
            reason = decoded.reason or reason
            pixels += [np.broadcast_to(frame.pixels, (3, side, side)) for frame in decoded.frames]
    if not pixels:
        why = f": {reason}" if reason else ""
        raise UserError(f"none of the {len(files)} files is a frame that can be read{why}")
    return np.stack(pixels[:max_frames])
