"""Groups: frames that belong together and so never stand on two sides of a split."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from simclr_rhd.core.errors import UserError

HASHED_PREFIX = "dicom-"  # begins a patient's name that is a salted hash

ABOUT = r"(?:patient|subject|person|name|identifier|id|pid|mrn|phi|data|info|number|value|has|been|by|ctp)"
ABSENT = (
    r"(?:unkn?(?:own)?|unnamed|missing|invalid|tbd|empty|blank(?:ed)?|default|dummy|unspecified|undefined|unassigned|removed|"
    r"not(?:available|applicable|provided|given|specified|assigned|known|set|entered|recorded)|deleted|redacted|cleared|masked|"
    r"hidden|withheld|stripped|scrubbed|saniti[sz]ed|confidential|deid(?:ent(?:ified|ifier)?)?|unidentified|"
    r"anon(?:ym(?:ous|i[sz]ed|e)?)?|pseudonymi[sz]ed)"
)
ANONYMOUS_WORDS = re.compile(
    rf"(?:{ABOUT}*{ABSENT}(?:{ABOUT}|{ABSENT})*|no{ABOUT}+|{ABOUT}{{1,2}}|na|nan|nil|none|(?:null)+|no|(?:john|jane)doe|doe(?:john|jane))?"
)
ANONYMOUS_NUMBERS = re.compile(r"0*|x*|9{4,}|(.)\1{5,}")


def is_anonymous_id(identifier: str, *, typed: bool = False) -> bool:
    """Return whether an identifier stands for one that was removed: 'REMOVED', 'No ID', '***', '0000'.

    Args:
        identifier: of a patient. With a number of its own, as in 'ANON017', it is one.
        typed: by a person in a table, where '0' and 'X' may be patients.
    """
    reduced = "".join(letter for letter in identifier.lower() if letter.isalnum())
    if ANONYMOUS_WORDS.fullmatch(reduced):
        return True
    return not typed and ANONYMOUS_NUMBERS.fullmatch(reduced) is not None


def make_groups(
    videos: Sequence[str],
    patients: Sequence[str],
    by: str,
    *,
    ambiguous_patients: Iterable[tuple[str, str]] = (),
    pictures: Iterable[tuple[str, int]] = (),
) -> tuple[list[str], str]:
    """The group of each frame: frames of one group never stand on two sides.

    By patient, a video without a patient is a group of its own, frames of a video have one patient, and
    patients that share a video are one group. Videos that share a picture are one group, too.

    Args:
        videos: N names.
        patients: N names, "" where unknown.
        by: 'auto' (patient where any is known, else video), 'patient', 'video', 'frame'.
        ambiguous_patients: (video, patient) that may belong together: where it is in doubt, one group.
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
        named = {*zip(videos, patients, strict=True), *ambiguous_patients}
        shared |= {(video, _patient_node(patient)) for video, patient in named if patient}
    for video, other in shared:
        roots = root(f"video {video}"), root(other)
        parent[max(roots)] = min(roots)
    return [root(f"video {video}") for video in videos], by


def explain_largest_group(
    videos: Sequence[str], patients: Sequence[str], pictures: Iterable[tuple[str, int]]
) -> str:
    """A sentence on what joins most videos or patients to one group, "" where little does.

    Arguments as of `make_groups`.
    """
    of_video, of_patient, of_picture = (defaultdict[Any, set[str]](set) for _ in range(3))
    for video, patient in zip(videos, patients, strict=True):
        if patient:
            of_video[video].add(patient)
            of_patient[patient].add(video)
    for video, digest in pictures:
        of_picture[digest].add(video)
    links = [
        (
            of_video,
            "Frames of {number} patients are called as of one video, {link!r}, and so are one group. A frame "
            "is called <video>_frame<number>, or lies in a folder that is called as its video",
        ),
        (
            {patient: of for patient, of in of_patient.items() if patient.startswith(HASHED_PREFIX)},
            "{number} videos have one patient identifier in their DICOM files. If it stands for nobody, name "
            "the patients in a column PATIENT",
        ),
        (
            of_picture,
            "One picture stands in {number} videos, and so joins them to one group, as a title card does",
        ),
    ]
    shared = [
        (len(of), sentence, link)
        for links_of, sentence in links
        for link, of in links_of.items()
        if len(of) > 2
    ]
    number, sentence, link = max(shared, key=lambda one: one[0], default=(0, "", ""))
    return sentence.format(number=number, link=link)


def _patient_node(patient: str) -> str:
    """A patient's node. Hashes sort last and so name no group: they differ from machine to machine."""
    return f"{'~' if patient.startswith(HASHED_PREFIX) else ''}patient {patient}"
