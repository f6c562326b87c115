"""Groups: frames that belong together and so never stand on two sides of a split."""

from collections.abc import Iterable, Sequence

from simclr_rhd.errors import UserError

HASHED = "dicom-"  # begins a patient's name that is a salted hash


def make_groups(
    videos: Sequence[str],
    patients: Sequence[str],
    by: str,
    *,
    doubts: Iterable[tuple[str, str]] = (),
    pictures: Iterable[tuple[str, int]] = (),
) -> tuple[list[str], str]:
    """The group of each frame: frames of one group never stand on two sides.

    By patient, a video without a patient is a group of its own, frames of a video have one patient, and
    patients that share a video are one group. Videos that share a picture are one group, too.

    Args:
        videos: N names.
        patients: N names, "" where unknown.
        by: 'auto' (patient where any is known, else video), 'patient', 'video', 'frame'.
        doubts: (video, patient) that may belong together: where it is in doubt, one group.
        pictures: (video, hash of a picture in it).

    Returns:
        N names of groups, and what they were made by.

    Raises:
        UserError: by patient, and no patient is known.
    """
    if by == "patient" and not any(patients):
        raise UserError("--group-by patient: the label table has no PATIENT column, or it is empty")
    if by == "auto":
        by = "patient" if any(patients) else "video"
    if by == "frame":
        return [f"{video} #{number}" for number, video in enumerate(videos)], by
    parent: dict[str, str] = {}  # union-find over videos and patients; roots are the smallest names

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    shared = {(video, f"~picture {digest}") for video, digest in pictures}
    if by == "patient":
        named = {*zip(videos, patients, strict=True), *doubts}
        shared |= {(video, _node(patient)) for video, patient in named if patient}
    for video, other in shared:
        roots = root(f"video {video}"), root(other)
        parent[max(roots)] = min(roots)
    return [root(f"video {video}") for video in videos], by


def _node(patient: str) -> str:
    """A patient's node. Hashes sort last and so name no group: they differ from machine to machine."""
    return f"{'~' if patient.startswith(HASHED) else ''}patient {patient}"
