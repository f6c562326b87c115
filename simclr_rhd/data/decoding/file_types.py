"""The types of files, as far as their names tell them."""

from pathlib import PurePosixPath

STILL, CLIP, DICOM = "frame", "clip", "DICOM file"
STILL_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
CLIP_EXTENSIONS = frozenset({".mp4", ".avi", ".mpeg", ".mpg", ".mov", ".mkv", ".gif"})
DICOM_EXTENSIONS = frozenset({".dcm", ".dicom"})
NO_FRAME = "not a frame: "  # begins the reason of a file that was not meant to be one


def file_type(name: str) -> str:
    """The type of a file: STILL, CLIP, DICOM (also without an extension), or "" for none of these."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in STILL_EXTENSIONS:
        return STILL
    if suffix in CLIP_EXTENSIONS:
        return CLIP
    return DICOM if suffix in DICOM_EXTENSIONS or not suffix or suffix[1:].isdigit() else ""


def is_frame(name: str) -> bool:
    """Return True if a file's extension is that of a frame."""
    before, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return before != "" and (dot + suffix).lower() in STILL_EXTENSIONS
