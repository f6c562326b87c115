"""Frames of files of any kind, decoded one after another, in constant memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import progress
from simclr_rhd.data.decoding.decode import DecodedFrame, DecodeOptions, FrameFile
from simclr_rhd.data.decoding.file_types import file_type
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.decoding.source_files import decode_files, decode_stills, fetch_files, iter_decoded
from simclr_rhd.data.labels.video_ids import locate_video
from simclr_rhd.data.splits.groups import HASHED_PREFIX
from simclr_rhd.inference.prediction.input_files import InputFiles

FILES_PER_FETCH = 1000  # files of a bucket that are brought here at a time
MAX_SAMPLED_FRAMES, SAMPLED_FRAMES_PER_CLIP = 400, 4


class InputFrame(NamedTuple):
    """A frame to classify: its name, video and patient, and its (3, S, S) uint8 pixels."""

    path: str
    video: str
    patient: str
    pixels: np.ndarray


class FrameReader:
    """All frames of some files; those left out are in `rejected`, (file, reason), once they are passed.

    Args:
        inputs: the files.
        patients: {file as it is displayed: its patient}.
        options: of decoding.
    """

    def __init__(
        self, inputs: Sequence[InputFiles], patients: Mapping[str, str], options: DecodeOptions
    ) -> None:
        self.inputs, self.patients, self.options = inputs, patients, options
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
        for name, file, frames in files:
            folder, _, base = name.rpartition("/")
            video = "/".join(filter(None, locate_video(folder, base)))
            for frame in frames:
                path = name if frame.number is None else f"{name}#{frame.number:04d}"
                patient = self.patients.get(name) or HASHED_PREFIX * bool(file.patient) + file.patient
                pixels = np.broadcast_to(frame.pixels, (3, *frame.pixels.shape[1:]))
                yield InputFrame(path, video, patient, pixels)
            if file.reason:
                self.rejected.append((name, file.reason))

    def _iter_files(self) -> Iterator[tuple[str, FrameFile, Iterable[DecodedFrame]]]:
        """Each file's displayed name, the file, and its frames: of a clip one at a time."""
        for source, entries, prefix in self.inputs:
            step = FILES_PER_FETCH if source.remote else 0
            files = iter_decoded(source, entries, self.options, decode_stills, files_per_fetch=step)
            yield from ((prefix + file.key, file, frames) for file, frames in files)


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
    options = DecodeOptions(side, SAMPLED_FRAMES_PER_CLIP, max_pixels)
    files = [(place, entry) for place in inputs for entry in place.entries if file_type(entry.key)]
    pixels, reason = list[np.ndarray](), ""
    for number in evenly_spaced(len(files), min(max_frames, len(files))):
        place, entry = files[number]
        fetched = fetch_files(place.source, [entry])
        for file, frames in decode_files(fetched.paths, options, list):
            reason = file.reason or reason
            pixels += [np.broadcast_to(frame.pixels, (3, side, side)) for frame in frames]
    if not pixels:
        why = f": {reason}" if reason else ""
        raise UserError(f"none of the {len(files)} files is a frame that can be read{why}")
    return np.stack(pixels[:max_frames])
