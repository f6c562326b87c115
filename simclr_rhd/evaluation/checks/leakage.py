"""The leak audit: which tested frames are too much like frames that the model has seen.

A split is honest if no picture of a tested patient stands in another part under another name. Groups rule
that out for names and for equal files; this looks at the pictures themselves, in two ways. Neither decides
anything: the pairs are for the user to look at.

Notation: M frames in all, n labelled ones, S pixels of a stored frame's side, D features.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simclr_rhd.data.splits.split import HELD_OUT
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.evaluation.results import AuditSummary, NearDuplicates

THUMBNAIL_SIDE = 32  # pixels of a thumbnail's side
# Grey levels (of 255) between thumbnails of one picture. Medians on real heart and lung frames: a frame and
# its JPEG of quality 75 are 0.3 apart (0.6 at most), its JPEG of half the width 1.1 (2.0), its JPEG moved by
# a pixel 2.9 (95 % below 4.4); the nearest frame of another patient 23 (6.2 at least, both nearly black).
# Not found are most next frames of a video (9), copies cropped by 2 % (11) and mirrored ones (30).
MAX_GREY_DIFFERENCE = 5.0
# standard deviation of a thumbnail; below 2 MAX_GREY_DIFFERENCE, frames with little in common are that near
MIN_GREY_STD = 10.0
MAX_LISTED_PAIRS = 200  # pairs that are listed
BLOCK_ROWS, BLOCK_COLUMNS, FRAMES_PER_READ = 1_000, 10_000, 256  # frames that are compared, or read, at once

NEAREST, NEAR_DUPLICATE = "nearest in feature space", "nearly identical"
HEADER = ["kind", "test_path", "test_group", "other_path", "other_group", "other_part", "value"]
NEAR_DUPLICATES_WARNING = (
    "%d pairs of frames in different parts look nearly identical: if they are of one patient, the scores are "
    "too high"
)
MAX_REPORT_PAIRS = 6  # pairs that look nearly identical whose frames the report shows
MAX_NEAREST_PAIRS = 20  # pairs in feature space that are listed


@dataclass(frozen=True)
class AuditedFrames:
    """Frames that are audited.

    Attributes:
        paths: M names.
        groups: (M,) names.
        folds: K times (M,) parts.
        labelled: (n,) which of the frames are labelled.
    """

    paths: Sequence[str]
    groups: np.ndarray
    folds: Sequence[np.ndarray]
    labelled: np.ndarray


@dataclass(frozen=True)
class LeakAudit:
    """The rows of `leak_audit.csv`, columns as HEADER, and their summary."""

    rows: list[list[Any]]
    summary: AuditSummary


@dataclass(frozen=True)
class Pair:
    """Two frames that are alike.

    Attributes:
        row: of the tested one.
        other: row of the one it is like.
        value: cosine similarity of features, or grey levels between thumbnails.
        fold: number of the fold that tests the first.
    """

    row: int
    other: int
    value: float
    fold: int = 0


def audit_leakage(features: Sequence[np.ndarray], thumbs: np.ndarray, frames: AuditedFrames) -> LeakAudit:
    """Both comparisons of a data set, in each fold by its own parts.

    Args:
        features: K times (n, D) float32 of the labelled frames.
        thumbs: (M, P) float32 of `thumbnails`.
        frames: all of them.
    """
    labelled = frames.labelled
    labelled_parts = [part[labelled] for part in frames.folds]
    sides = [(np.flatnonzero(part == "train"), np.flatnonzero(part == "test")) for part in labelled_parts]
    nearest = [
        replace(pair, row=int(labelled[pair.row]), other=int(labelled[pair.other]))
        for pair in closest_pairs(features, frames.groups[labelled], sides)
    ]
    alike: list[Pair] = []
    total, tested_before = 0, np.zeros(len(thumbs), dtype=bool)
    for number, part in enumerate(frames.folds):
        # Two tested frames meet in the folds of both: the pair counts in the first.
        pairs, n_pairs = near_duplicates(thumbs, np.where(tested_before, HELD_OUT, part))
        total += n_pairs
        alike += [replace(pair, fold=number) for pair in pairs]
        tested_before |= part == "test"
    identical = sorted(alike, key=lambda pair: (pair.value, pair.row, pair.other))[:MAX_LISTED_PAIRS]
    nearest_rows, identical_rows = (
        list(leak_audit_rows(kind, pairs, frames))
        for kind, pairs in ((NEAREST, nearest), (NEAR_DUPLICATE, identical))
    )
    shown = [dict(zip(HEADER, row, strict=True)) for row in identical_rows[:MAX_REPORT_PAIRS]]
    duplicates = NearDuplicates(total, len(identical), MAX_GREY_DIFFERENCE, shown)
    closest = [dict(zip(HEADER, row, strict=True)) for row in nearest_rows]
    return LeakAudit([*nearest_rows, *identical_rows], AuditSummary(closest, duplicates))


def closest_pairs(
    features: Sequence[np.ndarray],
    groups: Sequence[str] | np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    max_pairs: int = MAX_NEAREST_PAIRS,
) -> list[Pair]:
    """Tested frames and their nearest training frames, at most one pair for two groups.

    Args:
        features: (n, D) float32 of each fold.
        groups: n names.
        folds: rows that are trained on and rows that are tested, int, of each fold.
        max_pairs: pairs.

    Returns:
        The most similar first: by cosine of the features less the mean of the fold's training frames, to 5
        decimals. Of equals the first rows.
    """
    nearest = [
        replace(pair, fold=number)
        for number, (x, (train, test)) in enumerate(zip(features, folds, strict=True))
        for pair in _nearest(x, np.sort(train), test)
    ]
    of_groups: dict[frozenset[str], Pair] = {}
    for pair in sorted(nearest, key=lambda pair: (-pair.value, pair.row, pair.other)):
        of_groups.setdefault(frozenset((groups[pair.row], groups[pair.other])), pair)
    return [*of_groups.values()][:max_pairs]


def thumbnails(frames: np.ndarray | Frames, rows: np.ndarray) -> np.ndarray:
    """(M, C, S, S) uint8 store -> (n, 32 * 32) float32 grey levels 0 to 255, area means, for some rows."""
    out = np.empty((len(rows), THUMBNAIL_SIDE * THUMBNAIL_SIDE), dtype=np.float32)
    for first in range(0, len(rows), FRAMES_PER_READ):
        grey = frames[rows[first : first + FRAMES_PER_READ]].mean(axis=1, dtype=np.float32)  # (b, S, S)
        areas = _area_weights(grey.shape[-1])
        out[first : first + FRAMES_PER_READ] = (areas @ grey @ areas.T).reshape(len(grey), -1)
    return out


def near_duplicates(
    thumbs: np.ndarray, part: np.ndarray, *, max_pairs: int = MAX_LISTED_PAIRS
) -> tuple[list[Pair], int]:
    """Tested frames and those of other parts that are one picture, encoded anew, shifted or rescaled.

    The root mean square difference of their thumbnails is MAX_GREY_DIFFERENCE at most. Frames that hardly
    vary and frames that are held out are left out.

    Args:
        thumbs: (M, P) float32 of `thumbnails`.
        part: (M,) names of parts.
        max_pairs: pairs to return.

    Returns:
        The most alike first, of equals the first rows; and how many there are in all.
    """
    varies = thumbs.std(axis=1) >= MIN_GREY_STD
    tested = np.flatnonzero((part == "test") & varies)
    other_parts = np.flatnonzero((part != "test") & (part != HELD_OUT) & varies)
    squares = np.einsum("ij,ij->i", thumbs, thumbs)
    # |a - b|^2 from float32 products is off by some 1e-7 of |a|^2: what is near is then measured exactly
    limit = thumbs.shape[1] * MAX_GREY_DIFFERENCE**2 + 1e-5 * squares.max(initial=0)
    best: list[tuple[float, int, int]] = []
    total = 0
    for rows in _chunks(tested, BLOCK_ROWS):
        for others in _chunks(other_parts, BLOCK_COLUMNS):
            near = squares[rows, None] + squares[others] - 2 * (thumbs[rows] @ thumbs[others].T) <= limit
            for at in np.flatnonzero(near.any(axis=1)):
                like = others[near[at]]
                apart = np.sqrt(np.square(thumbs[like] - thumbs[rows[at]]).mean(axis=1, dtype=np.float64))
                here = apart <= MAX_GREY_DIFFERENCE
                total += int(here.sum())
                new = [
                    (float(value), int(rows[at]), int(other))
                    for value, other in zip(apart[here], like[here], strict=True)
                ]
                best = heapq.nsmallest(max_pairs, best + new)
    return [Pair(row, other, value) for value, row, other in best], total


def leak_audit_rows(kind: str, pairs: Sequence[Pair], frames: AuditedFrames) -> Iterator[list[Any]]:
    """Rows of `leak_audit.csv`, columns as HEADER, of pairs of a kind, NEAREST or NEAR_DUPLICATE."""
    for pair in pairs:
        tested, other = ((frames.paths[row], frames.groups[row]) for row in (pair.row, pair.other))
        yield [kind, *tested, *other, frames.folds[pair.fold][pair.other], round(pair.value, 5)]


def _nearest(features: np.ndarray, train: np.ndarray, test: np.ndarray) -> Iterator[Pair]:
    """Each tested row with its nearest training row; `train` ascends."""
    if not len(train):
        return
    mean = features[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    for rows in _chunks(test, BLOCK_ROWS):
        ours = _unit_vectors(features[rows] - mean)
        value, other = np.full(len(rows), -np.inf), np.zeros(len(rows), dtype=np.int64)
        for others in _chunks(train, BLOCK_COLUMNS):
            # the last bits of a product depend on its place: equal frames are equal when rounded
            similarity = (ours @ _unit_vectors(features[others] - mean).T).round(5)
            first = similarity.argmax(axis=1)
            here = similarity[np.arange(len(rows)), first].astype(np.float64).round(5)
            other = np.where(here > value, others[first], other)
            value = np.maximum(here, value)
        yield from map(Pair, rows.tolist(), other.tolist(), value.tolist())


def _unit_vectors(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def _area_weights(side: int) -> np.ndarray:
    """(32, side) float32: the share of each pixel of a line in the mean of each of its 32 equal pieces."""
    edges, pixels = np.arange(THUMBNAIL_SIDE + 1)[:, None] * side / THUMBNAIL_SIDE, np.arange(side)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (overlap.clip(0) * THUMBNAIL_SIDE / side).astype(np.float32)


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[first : first + size] for first in range(0, len(rows), size))
