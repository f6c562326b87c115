"""The knobs of the data: where they are, how they are read, grouped and divided."""

import os
from dataclasses import dataclass

from simclr_rhd.core.config import (
    BELOW_DATA,
    DOWNSTREAM,
    FILE,
    HEAD_LOSS,
    NOTHING,
    SHARE,
    TESTED_FRAMES,
    Check,
    CommonConfig,
    at_least,
    flag,
)
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.attributes.column_spec import is_column, is_column_list
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.labels.tasks.flag import tasks_text
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.data.sources.remote import is_local_or_remote, remote_places

OWN_SPLIT_AUTO, OWN_SPLIT_NONE = "auto", "none"  # values of --split beside a file


def is_split(text: str) -> bool:
    """Return whether `--split` can have this value."""
    return text in (OWN_SPLIT_AUTO, OWN_SPLIT_NONE) or os.path.isfile(text)


@dataclass(frozen=True)
class InputConfig:
    """Knobs of fetching and decoding the frames that a command reads."""

    cache_dir: str | None = flag(
        None,
        "where fetched files, and the decoded frames of a run, are kept (default: the platform's user cache "
        "folder)",
        affects=NOTHING,
        metavar="DIR",
    )
    offline: bool = flag(
        False, "use only the files of a bucket that are in the cache folder; no network", affects=NOTHING
    )
    billing_project: str | None = flag(
        None,
        "Google Cloud project that pays for a bucket whose requesters pay",
        affects=NOTHING,
        metavar="PROJECT",
    )
    max_pixels: int = flag(
        MAX_PIXELS,
        "limit of the pixels of a frame; a file may have 25 times as many in all, or 1,000 per byte. Larger "
        "ones are left out, since small files can expand to gigabytes",
        check=at_least(1),
        metavar="N",
    )

    def bucket_access(self) -> BucketAccess:
        """The access to buckets, with a cache folder that can be written to.

        Raises:
            UserError: it cannot.
        """
        return BucketAccess(cache_folder(self.cache_dir), self.offline, self.billing_project)


@dataclass(frozen=True)
class ClipConfig(InputConfig):
    """Knobs of a command that reads all frames of clips, or a number of each."""

    frames_per_clip: int | None = flag(
        None,
        "read at most N evenly spaced frames of a clip or DICOM file (default: all)",
        check=at_least(1),
        metavar="N",
    )


@dataclass(frozen=True)
class LabelledDataConfig(ClipConfig):
    """Knobs of reading labelled frames."""

    data: str = flag(
        "demo",
        f"'demo' (built-in synthetic clips), a folder, or {remote_places('BUCKET[/PREFIX]')}; "
        "the environment variable SIMCLR_RHD_DATA sets another default",
        environment="SIMCLR_RHD_DATA",
        check=Check(is_local_or_remote, f"'demo', a folder, or {remote_places('BUCKET[/PREFIX]')}"),
    )
    labelled_prefix: str = flag(
        "supervised/annotated-final", "labelled frames, below --data", check=BELOW_DATA
    )
    labels_csv: str = flag("supervised/sorted_file.csv", "label table, below --data", check=BELOW_DATA)
    tasks: str = flag(
        tasks_text(DEFAULT_TASKS),
        "what is learnt, from columns of the label table, with commas between: NAME=COLUMN has one of some "
        "classes; NAME=COLUMN=LOW<MIDDLE<HIGH has degrees in this order (between quotation marks); "
        "NAME=COLUMN=[] has lists of findings. The spellings and the order of view, condition, severity, "
        "thickness and findings are known, and these names alone are enough: view,severity,thickness",
        changes=TESTED_FRAMES,
    )
    patients_csv: str | None = flag(
        None,
        "a table on this machine with columns FILENAME (a file or a folder of either prefix) and PATIENT; "
        "the main job keeps unlabelled files of patients that are tested out of pretraining",
        check=FILE,
    )
    max_rejected: float = flag(
        0.05, "share of unreadable frames above which the run stops", check=SHARE, affects=NOTHING
    )
    label_conflict: str = flag(
        "drop",
        "where rows of one file disagree: 'drop' (not annotated), 'latest' (by TIMESTAMP), 'majority'",
        choices=("drop", "latest", "majority"),
    )
    group_by: str = flag(
        "auto",
        "unit that is never split between parts: 'patient', 'video', 'auto' "
        "(patient where the table has one, else video), or 'frame' (leaky, marked so)",
        choices=("auto", "patient", "video", "frame"),
        changes=TESTED_FRAMES,
    )
    demo_patients: int = flag(
        640,
        "patients of the built-in data: five eighths have labels, of fewer than 29 up to 18",
        check=at_least(12, at_most=100_000),
    )
    demo_seed: int = flag(
        0,
        "0: the built-in data as they are; another number: other patients of another hospital, whose probe "
        "and gain differ",
        check=Check(lambda x: 0 <= x < 2**31, "between 0 and 2147483647"),
    )

    @property
    def synthetic(self) -> bool:
        """Return whether the run uses the built-in synthetic data."""
        return self.data == "demo"


@dataclass(frozen=True)
class DataConfig(LabelledDataConfig, CommonConfig):
    """Knobs of reading, labels, groups and parts."""

    unlabelled_prefix: str = flag(
        "unsupervised-videos/unlabelled-frames", "unlabelled frames, below --data", check=BELOW_DATA
    )
    folds: int = flag(
        1,
        "1: one split into 70 % training, 15 % validation, 15 % test; K > 1: cross-validation, in which each "
        "group is tested once; the heads of the saved model are then trained on all groups",
        check=at_least(1),
        changes=TESTED_FRAMES,
    )
    folds_by: str | None = flag(
        None,
        "the values of this column of the label table are the folds: SITE leaves one site out at a time, and "
        "tests it with what the other sites teach; numbers are cut at edges, as in AGE=10/15",
        check=Check(is_column, "a column, such as SITE"),
        changes=TESTED_FRAMES,
        metavar="COLUMN",
    )
    split: str = flag(
        OWN_SPLIT_AUTO,
        "a split of your own: a file with the columns path and part, as split.csv, where part is train, val "
        "or test; 'auto': the label table's column SPLIT, if there is one; 'none': that column is not read. "
        "Frames without a part are left out of the evaluation",
        check=Check(is_split, "'auto', 'none' or a file that exists", sees_auto=True),
        changes=TESTED_FRAMES,
        metavar="FILE",
    )
    allow_leak: bool = flag(
        False,
        "use a split of your own though frames of one patient or video stand on two sides of it (marked as "
        "leaky everywhere)",
        changes=TESTED_FRAMES,
    )
    pretrain_per_fold: bool = flag(
        False,
        "with --folds: an encoder for each fold, pretrained without its test groups (K + 1 pretrainings), "
        "instead of one that never sees a frame of a labelled group",
        changes=TESTED_FRAMES,
    )
    condition_mode: str = flag(
        "classes",
        "of columns with lists: 'classes': one class per frame, a pair of lesions is a class of its own; "
        "'multilabel': present or absent for each lesion",
        choices=("classes", "multilabel"),
        affects=DOWNSTREAM,
        changes=HEAD_LOSS,
    )
    subgroups: str | None = flag(
        None,
        "columns of the label table by whose values the results are broken down, such as "
        "SITE,SEX,AGE=10/15/20: numbers are cut at the edges behind '='; 'none': by none (default: SITE, "
        "DEVICE, AGE and SEX, where the table has them)",
        check=Check(is_column_list, "columns with commas between them, each maybe with rising edges"),
        affects=DOWNSTREAM,
        metavar="COLUMN,...",
    )

    @property
    def has_folds(self) -> bool:
        """Return whether the groups are tested in folds, not in one split."""
        return self.folds > 1 or self.folds_by is not None

    @property
    def multilabel(self) -> bool:
        """Return whether tasks of lists are predicted lesion by lesion."""
        return self.condition_mode == "multilabel"
