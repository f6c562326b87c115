"""The video of each file, by its name and its folders.

A frame is called `<video>_frame<number>.<ext>`: its video is the text before `_frame`. One whose name only
numbers it, as ffmpeg writes them, is of the video that its folder is called. Any other still is its own.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.labels.table import file_stem, is_only_number

FRAME_FOLDER = re.compile(  # within a clip's folder: 'frames', 'JPEGImages', 'extracted_frames'
    r"(?:(?:extracted|frames?|images?|imgs?|stills?|pictures?|pngs?|jpe?gs?|tiffs?|bmps?)[\s_.-]*)+",
    re.IGNORECASE,
)
TRAILING_NUMBER = re.compile(r"[\s_.#-]*[(\[]?\d+[)\]]?\Z")


def video_id(name: str) -> str:
    """The name of the video that a file of this name is of, or is."""
    whole = file_stem(name)
    end = whole.lower().rfind("_frame") if is_frame(name) else -1
    return whole[:end] if end > 0 else whole


def locate_video(folder: str, name: str) -> tuple[str, str]:
    """The folder and the name of the video that a file is of.

    A still whose name only numbers it is of the video that its folder is called; so is 'clip7/clip7_12.png'.

    Args:
        folder: where the file is, "" for the top, of which no video is called.
        name: the file's, such as 'a_frame12.png', or 'frame_0012.png' and '0012.png' in a folder a clip.
    """
    parts = folder.split("/")
    while len(parts) > 1 and FRAME_FOLDER.fullmatch(parts[-1]):  # clip07/frames/0001.png
        parts.pop()
    if not (is_frame(name) and (is_only_number(name) or _strip_number(name) == parts[-1])):
        return folder, video_id(name)
    return "/".join(parts[:-1]), parts[-1] or video_id(name)


def _strip_number(name: str) -> str:
    """The start of a file's name, before a number at its end."""
    return TRAILING_NUMBER.sub("", file_stem(name))


def assign_videos(files: Sequence[str], prefixes: tuple[str, str]) -> list[str]:
    """The video of each file: a still's name up to `_frame`, in any case; a clip's without its extension.

    Stills whose names only number them are of the video that their folder is called (`locate_video`). Other
    folders do not count, so that a video's labelled and unlabelled frames meet. Only where one prefix has a
    video name in several folders, and those of the other prefix do not contradict, folders tell the videos of
    that name apart: the names then start with them. In doubt, frames of one video name are one video. But two
    files of one name are no frames of one video: folders tell these apart, and 'scene00001.png' in several
    folders is of one video 'scene' in each.
    """
    below = {prefix: f"{PurePosixPath(prefix)}/" for prefix in prefixes}
    same: dict[str, str] = {}  # one object for a text that a million frames share
    places = []  # of each file: its prefix, its folder below that
    for file in files:
        place = file.rpartition("/")[0]
        prefix = next((one for one in prefixes if below[one] == "./" or file.startswith(below[one])), ".")
        if below.get(prefix, "./") != "./":
            place = place.removeprefix(below[prefix][:-1]).lstrip("/")
        places.append((prefix, same.setdefault(place, place)))
    names = [file.rpartition("/")[2] for file in files]
    repeated = _repeated_names(names, places)
    counting = {_strip_number(name) for name in repeated if video_id(name) == file_stem(name)} - {""}

    stems: list[tuple[str, str]] = []
    of_stills, meeting = set[str](), set[str]()
    folders: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # by stem and prefix
    for name, (prefix, place) in zip(names, places, strict=True):
        place, video = locate_video(place, name)
        if is_frame(name) and video == file_stem(name) and _strip_number(name) in counting:
            video = _strip_number(name)
        folder = place or "."
        video, folder = same.setdefault(video, video), same.setdefault(folder, folder)
        if is_frame(name):
            of_stills.add(video)
        if name in repeated:
            meeting.add(video)
        stems.append((video, folder))
        folders[video][prefix].add(folder)

    def needs_folder(stem: str) -> bool:
        of_prefixes = folders[stem].values()
        # Clips and DICOM files are whole: two of one name are two videos, whatever the folders are called.
        return max(map(len, of_prefixes)) > 1 and (
            stem not in of_stills
            or bool(set.intersection(*of_prefixes))
            or (stem in meeting and not any("." in of for of in of_prefixes))
        )

    apart = {stem for stem in folders if needs_folder(stem)}
    videos = (f"{folder}/{stem}" if stem in apart and folder != "." else stem for stem, folder in stems)
    return [same.setdefault(video, video) for video in videos]


def _repeated_names(names: Sequence[str], places: Sequence[tuple[str, str]]) -> set[str]:
    """Names of stills that several folders of one prefix have."""
    seen: dict[tuple[str, str], str] = {}
    return {
        name
        for name, (prefix, place) in zip(names, places, strict=True)
        if is_frame(name) and seen.setdefault((prefix, name), place) != place
    }
