"""What a model says of files: per frame, per video and per patient, in constant memory.

Frames are read, classified and written in batches; of videos and patients only sums are kept.

Notation: C classes or lesions of a task.
"""

import csv
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write, to_jsonable, write_rows
from simclr_rhd.core.process import progress
from simclr_rhd.core.records import read_json_object
from simclr_rhd.core.text import as_cell
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.decoding import decode as media
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.labels.patients import make_patient_parser
from simclr_rhd.data.labels.table import (
    FILE_COLUMN,
    PATIENT_COLUMN,
    PATIENT_TABLE_COLUMNS,
    match_rows_to_files,
    read_rows,
    read_table_bytes,
)
from simclr_rhd.data.labels.video_ids import locate_video
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.sources.folder import open_path, open_source
from simclr_rhd.data.splits.groups import HASHED_PREFIX
from simclr_rhd.data.store.store import load_salt
from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.inference.classifier import VERSION
from simclr_rhd.inference.predictor import (
    BATCH_SIZE,
    Model,
    Predictions,
    adjust_probabilities,
    confidence,
    entropy,
    predicted_names,
    resolve_prevalence,
)

logger = logging.getLogger("simclr_rhd")

FILES_PER_FETCH = 1000  # files of a bucket that are brought here at a time
MAX_OOD_SHARE = 0.5  # of a video's or a patient's frames, above which it is out of distribution
MAX_PRINTED_VIDEOS = 20  # videos on the terminal
ABSTAINED_MARK, OOD_MARK = "?", "!"


class InputFiles(NamedTuple):
    """Files to classify.

    Attributes:
        source: where they are.
        entries: of its listing.
        prefix: what stands before an entry's key where it is displayed.
    """

    source: Source
    entries: list[FileEntry]
    prefix: str


class InputFrame(NamedTuple):
    """A frame on its way: what it is called, its (3, S, S) uint8 pixels."""

    path: str
    video: str
    patient: str
    pixels: np.ndarray


@dataclass
class RunningMean:
    """Sums over the frames of a video or a patient so far."""

    patient: str
    n: int = 0
    ood: int = 0
    novelty: float = 0.0
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, predictions: Predictions, row: int) -> None:
        """Take in one more frame."""
        self.n += 1
        self.ood += int(predictions.out_of_distribution[row])
        self.novelty += float(predictions.novelty[row])
        for task, p in predictions.probabilities.items():
            self.probabilities[task] = self.probabilities.get(task, 0.0) + p[row]


def find_inputs(
    paths: Sequence[str], *, cache_dir: Path, offline: bool, billing_project: str | None = None
) -> list[InputFiles]:
    """The files of the paths; what is named twice is taken once.

    Args:
        paths: files, folders, gs://BUCKET/... as they were typed.
        cache_dir: where objects of a bucket are kept.
        offline: use what is kept there, without the network.
        billing_project: pays for a bucket whose requesters pay.

    Raises:
        UserError: there is none of them.
    """
    found, seen = [], set[str]()
    for path in paths:
        source, entries, prefix = open_path(
            path, cache_dir=cache_dir, offline=offline, billing_project=billing_project
        )
        new = {_identity(prefix + entry.key): entry for entry in entries}
        new = {key: entry for key, entry in new.items() if key not in seen}
        seen |= new.keys()
        found.append(InputFiles(source, list(new.values()), prefix))
    return found


def _identity(path: str) -> str:
    return path if path.startswith("gs://") else os.path.realpath(path)


def labelled_of_run(save_dir: Path, cache_dir: Path, billing_project: str | None) -> InputFiles:
    """The labelled frames of the run that wrote into a folder.

    Raises:
        UserError: they are not at hand.
    """
    try:
        of_run = read_json_object(save_dir / "run.json").object("config")
        source = open_source(
            of_run.text("data"),
            cache_dir=cache_dir,
            demo_patients=of_run.count("demo_patients", 12),
            offline=of_run.boolean("offline"),
            billing_project=billing_project,
        )
        return InputFiles(source, source.files(of_run.text("labelled_prefix"), flag="--labelled-prefix"), "")
    except (OSError, UserError) as error:
        raise UserError(
            f"the frames of the run in {save_dir} are not at hand ({error}); name some with --frames PATH"
        ) from None


def read_patients(path: str | None, inputs: Sequence[InputFiles]) -> dict[str, str]:
    """{file as it is displayed: its patient}, of a table with columns FILENAME and PATIENT.

    Raises:
        UserError: the table cannot be read, or names none of the files.
    """
    if path is None:
        return {}
    table = read_table_bytes(Path(path), f"--patients-csv {path}")
    files = [place.prefix + entry.key for place in inputs for entry in place.entries]
    rows = read_rows(table, f"--patients-csv {path}", required_columns=PATIENT_TABLE_COLUMNS)
    rows_of, unmatched = match_rows_to_files(rows, files)
    if not rows_of:
        raise UserError(
            f"--patients-csv {path}: none of its rows names one of the {len(files)} files, or a "
            "folder of them"
        )
    if unmatched:
        logger.warning(
            "WARNING --patients-csv %s: %d rows name no file or folder here, or more than one; the first: %s",
            *(path, len(unmatched), unmatched[0][FILE_COLUMN]),
        )
    read = make_patient_parser([row[PATIENT_COLUMN] for row in rows])
    patients = {
        file: set().union(*(read(row[PATIENT_COLUMN]) for row in of_file))
        for file, of_file in rows_of.items()
    }
    if several := [file for file, names in patients.items() if len(names) > 1]:
        raise UserError(f"--patients-csv {path}: {several[0]} has several patients")
    return {file: names.pop() for file, names in patients.items() if names}


class PredictionRun:
    """One pass over the files.

    Args:
        model: that is asked.
        inputs: the files.
        patients: {file as it is displayed: its patient}.
        cache_dir: holds the salt for patients of DICOM files.
        max_frames: frames of a clip at most, None for all.
        max_pixels: of a frame.
        shares: {class: its share} that the probabilities shall hold for, see `predictor.resolve_prevalence`.

    Raises:
        UserError: the shares do not fit.
    """

    def __init__(
        self,
        model: Model,
        inputs: Sequence[InputFiles],
        patients: Mapping[str, str],
        *,
        cache_dir: Path,
        max_frames: int | None,
        max_pixels: int = MAX_PIXELS,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.model, self.inputs, self.patients = model, inputs, patients
        self.prevalence_changed = bool(shares)
        self.prevalence = resolve_prevalence(model.classes, model.multilabel, model.prevalence, shares or {})
        self.decode_options: dict[str, Any] = {
            **{"side": model.facts.stored_side, "max_frames": max_frames},
            **{"max_pixels": max_pixels, "salt": load_salt(cache_dir)},
        }
        self.rejected: list[tuple[str, str]] = []
        self.video_means: dict[str, RunningMean] = {}
        self.patient_means: dict[str, RunningMean] = {}
        self.frames = 0

    def write(self, out: Path, *, protected: str | None = None) -> None:
        """Classify all files; write `out`, and beside it the same as JSON, the videos and the patients.

        Args:
            out: a CSV file.
            protected: a file that must not be replaced.

        Raises:
            UserError: there is no frame that can be classified; nothing is written.
        """
        beside = partial(_sibling, out)
        written = [out, *map(beside, OUTPUT_SUFFIXES)]
        if blocked := [path for path in written if path.is_dir()]:
            raise UserError(f"--out {out}: {blocked[0]} is a folder; name another file")
        if protected and any(path.resolve() == Path(protected).resolve() for path in written):
            raise UserError(f"--out {out}: would replace {protected}, which is read; name another file")
        with ExitStack() as stack:
            table = csv.writer(stack.enter_context(_open_text(out)))
            listed = stack.enter_context(_json_frames(beside("json"), self._json_header()))
            table.writerow(map(as_cell, ["path", "video", "patient", *self._columns()]))
            for frames, answers in self._iter_predictions():
                for row, frame in enumerate(frames):
                    p = {task: of_task[row] for task, of_task in answers.probabilities.items()}
                    of = AggregatedPrediction(
                        frame.patient, p, answers.novelty[row], bool(answers.out_of_distribution[row])
                    )
                    for cells in self._rows(of, level="frame"):
                        table.writerow(map(as_cell, [frame.path, frame.video, *cells]))
                    listed({"path": frame.path, "video": frame.video} | self._record(of, level="frame"))
            if not self.frames:
                examples = "".join(f"\n  {path}: {why}" for path, why in self.rejected[:5])
                raise UserError(f"none of the {self._n_files()} files could be classified:{examples}")
            for name, units in (("videos", self.video_means), ("patients", self.patient_means)):
                write_rows(
                    beside(f"{name}.csv"),
                    [name[:-1], "frames", *(["patient"] * (name == "videos")), *self._columns()],
                    (
                        [unit, of.n, *(cells if name == "videos" else cells[1:])]
                        for unit, of in units.items()
                        for cells in self._rows(_mean(of), level="video")
                    ),
                    private=True,
                )
            write_rows(beside("rejected.csv"), ["path", "reason"], self.rejected, private=True)

    def summary_lines(self, out: Path) -> list[str]:
        """What was found, for the terminal."""
        tasks = list(self.model.classes)
        width = max(
            [len("video"), *(len(_short_name(name)) for name in islice(self.video_means, MAX_PRINTED_VIDEOS))]
        )
        lines = [f"{'video':<{width}}  frames  " + "".join(f"{task:<34}" for task in tasks)]
        lines.append("-" * len(lines[0].rstrip()))
        for name, of in islice(self.video_means.items(), MAX_PRINTED_VIDEOS):
            prediction = _mean(of)
            mark = OOD_MARK if prediction.ood else " "
            cells = [f"{self._format_prediction(prediction, task):<34}" for task in tasks]
            lines.append(f"{_short_name(name):<{width}} {mark}{of.n:>6}  {''.join(cells)}".rstrip())
        if len(self.video_means) > MAX_PRINTED_VIDEOS:
            lines.append(f"... and {len(self.video_means) - MAX_PRINTED_VIDEOS} more videos")
        foreign = sum(_mean(of).ood for of in self.video_means.values())
        lines += [
            f"{OOD_MARK} out of distribution: unlike what the model has learnt from, its answer means "
            f"nothing ({foreign} of {len(self.video_means)} videos)",
            *self._abstention_lines(),
            *self._prevalence_lines(),
            "",
        ]
        for reason, number in Counter(why.split(" (")[0] for _, why in self.rejected).most_common(5):
            lines.append(f"left out or not whole: {number} files, {reason}")
        lines.append(
            f"{self.frames} frames of {len(self.video_means)} videos and {len(self.patient_means)} known "
            f"patients; look at {out}, and {', '.join(_sibling(out, end).name for end in OUTPUT_SUFFIXES)} "
            "beside it"
        )
        return lines

    def _abstention_lines(self) -> Iterator[str]:
        """What the mark of an unsure answer means."""
        facts = self.model.facts
        if facts.version < VERSION:
            yield (
                f"{ABSTAINED_MARK} too unsure to be taken: of validation videos with such answers too many "
                "were wrong (the rule of an older version, which proves nothing)"
            )
            return
        where = ", at the prevalence of the groups that it was validated on" * self.prevalence_changed
        yield f"{ABSTAINED_MARK} not to be taken: only of surer answers it is proved that {GUARANTEE}{where}"
        for name, reasons in facts.unproved.items():
            if reasons.get("video"):
                yield f"  {name}: nothing is proved, so that all answers are marked: {reasons['video']}"

    def _prevalence_lines(self) -> Iterator[str]:
        """What the probabilities hold for."""
        whose = (
            "that --prevalence gives"
            if self.prevalence_changed
            else "of the groups that the model was validated on"
        )
        if self.model.facts.version < VERSION:
            yield (
                f"The model is of an older version ({self.model.facts.version}): its probabilities were not "
                "fitted to how frequent the classes are, and take them to be equally frequent."
            )
            whose = whose if self.prevalence_changed else "of classes that are equally frequent"
        yield (
            f"The probabilities hold for the prevalence {whose}; --prevalence CLASS=SHARE moves them. The "
            "class said is the balanced choice, whose probability is largest for its prevalence:"
        )
        for task, names in self.model.classes.items():
            shares = zip(names, self.prevalence[task], strict=True)
            yield f"  {task}: {', '.join(f'{name} {share:.3g}' for name, share in shares)}"

    def _format_prediction(self, prediction: "AggregatedPrediction", task: str) -> str:
        answer = self._predict_task(prediction.probabilities[task], task, level="video")
        name, mark = answer["predicted"], ABSTAINED_MARK * bool(answer["abstained"])
        shown = name if len(name) <= 26 else name[:25] + "…"
        return f"{shown} {answer['probability']:.2f}{mark}"

    def _n_files(self) -> int:
        return sum(len(place.entries) for place in self.inputs)

    def _iter_predictions(self) -> Iterator[tuple[list[InputFrame], Predictions]]:
        """Batches of frames with their answers."""
        frames = self._iter_frames()
        while some := list(islice(frames, BATCH_SIZE)):
            answers = self.model.answer(np.stack([frame.pixels for frame in some]))
            self.frames += len(some)
            for row, frame in enumerate(some):
                self.video_means.setdefault(frame.video, RunningMean(frame.patient)).add(answers, row)
                if frame.patient:
                    self.patient_means.setdefault(frame.patient, RunningMean(frame.patient)).add(answers, row)
            yield some, answers

    def _iter_frames(self) -> Iterator[InputFrame]:
        files = progress(
            self._iter_files(),
            total=self._n_files(),
            label="predict",
            unit="files",
            amount=lambda _: 1,
            amount_unit="files",
        )
        for file, done, frames in files:
            folder, _, name = file.rpartition("/")
            video = "/".join(filter(None, locate_video(folder, name)))
            for frame in frames:
                path = file if frame.number is None else f"{file}#{frame.number:04d}"
                patient = self.patients.get(file) or HASHED_PREFIX * bool(done.patient) + done.patient
                pixels = np.broadcast_to(frame.pixels, (3, *frame.pixels.shape[1:]))
                yield InputFrame(path, video, patient, pixels)
            if done.reason:
                self.rejected.append((file, done.reason))

    def _iter_files(self) -> Iterator[tuple[str, media.DecodedFile, Iterable[media.DecodedFrame]]]:
        """Each file with its frames: stills are decoded ahead, of a clip one frame is held at a time."""
        for source, entries, prefix in self.inputs:
            for name, why in source.skipped:
                yield prefix + name, media.DecodedFile(reason=why), ()
            rest = iter(entries)
            while some := list(islice(rest, FILES_PER_FETCH if source.remote else len(entries))):
                usable = [entry for entry in some if media.file_type(entry.key)]
                for entry in some:
                    if not media.file_type(entry.key):
                        why = f"{media.NO_FRAME}{PurePosixPath(entry.key).suffix}"
                        yield prefix + entry.key, media.DecodedFile(reason=why), ()
                media.require_packages(entry.key for entry in usable)
                paths, failed = source.fetch(usable)
                for key, why in failed.items():
                    yield prefix + key, media.DecodedFile(reason=f"could not be fetched: {why}"), ()
                work = partial(self._open_file, paths)
                for key, done, frames in map_ordered(work, sorted(paths), workers=os.cpu_count() or 1):
                    yield prefix + key, done, frames

    def _open_file(
        self, paths: Mapping[str, Path], key: str
    ) -> tuple[str, media.DecodedFile, Iterable[media.DecodedFrame]]:
        done = media.DecodedFile()
        frames = partial(media.iter_frames, paths[key], key, done, **self.decode_options)
        if media.file_type(key) == media.STILL:
            with closing(frames()) as some:
                first = next(some, None)
            if first is None or first.number is None:
                return key, done, [first] if first else []
        return key, done, frames()  # of clips, and of stills with several pictures

    def _columns(self) -> list[str]:
        names = dict.fromkeys(name for of_task in self.model.classes.values() for name in of_task)
        of_answer = ["task", "predicted", "probability", "entropy"]
        return [*of_answer, *(f"p:{name}" for name in names), "novelty", "out_of_distribution", "abstained"]

    def _rows(self, prediction: "AggregatedPrediction", *, level: str) -> Iterator[list[Any]]:
        columns = self._columns()[4:-3]
        for task, answer in self._record(prediction, level=level)["tasks"].items():
            by_column = {f"p:{name}": p for name, p in answer["probabilities"].items()}
            yield [
                *(prediction.patient, task, answer["predicted"], answer["probability"], answer["entropy"]),
                *(by_column.get(column, "") for column in columns),
                *(
                    _cell(prediction.novelty),
                    prediction.ood,
                    "" if answer["abstained"] is None else answer["abstained"],
                ),
            ]

    def _record(self, prediction: "AggregatedPrediction", *, level: str) -> dict[str, Any]:
        tasks = {
            task: self._predict_task(p, task, level=level) for task, p in prediction.probabilities.items()
        }
        about = {
            "patient": prediction.patient,
            "novelty": prediction.novelty,
            "out_of_distribution": prediction.ood,
        }
        return about | {"tasks": tasks}

    def _predict_task(self, p: np.ndarray, task: str, *, level: str) -> dict[str, Any]:
        """What (C,) probabilities say of a task. A video's are moved after the mean over its frames."""
        names, several = self.model.classes[task], task in self.model.multilabel
        held, to = self.model.prevalence[task], self.prevalence[task]
        unsure = self.model.abstains(task, p[None], level=level)
        predicted = predicted_names(p[None], names, multilabel=several, prevalence=held)[0]
        moved = (
            adjust_probabilities(p[None], held, to, multilabel=several)
            if self.prevalence_changed
            else p[None]
        )
        sure = confidence(moved, multilabel=several, prevalence=to)[0]
        return {
            "predicted": predicted,
            "probability": round(float(sure), PROBABILITY_DIGITS),
            "entropy": round(float(entropy(moved, multilabel=several)[0]), PROBABILITY_DIGITS),
            "abstained": None if unsure is None else bool(unsure[0]),
            "probabilities": {
                name: round(float(x), PROBABILITY_DIGITS) for name, x in zip(names, moved[0], strict=True)
            },
        }

    def _json_header(self) -> dict[str, Any]:
        facts = self.model.facts
        return {
            "classes": facts.classes,
            "prevalence": {
                task: dict(zip(names, self.prevalence[task].tolist(), strict=True))
                for task, names in facts.classes.items()
            },
            "synthetic": facts.synthetic,
            "trained_on": facts.trained_on,
        }


class AggregatedPrediction(NamedTuple):
    """The prediction of a frame, a video or a patient: means of (C,) probabilities."""

    patient: str
    probabilities: dict[str, np.ndarray]
    novelty: float
    ood: bool


PROBABILITY_DIGITS = 7  # of a probability
OUTPUT_SUFFIXES = ("json", "videos.csv", "patients.csv", "rejected.csv")


def _mean(sums: RunningMean) -> AggregatedPrediction:
    p = {task: total / sums.n for task, total in sums.probabilities.items()}
    return AggregatedPrediction(sums.patient, p, sums.novelty / sums.n, sums.ood > MAX_OOD_SHARE * sums.n)


def _cell(value: float) -> Any:
    return round(float(value), 4) if np.isfinite(value) else ""


def _short_name(name: str) -> str:
    """A video's name without folders, to be shown in a table."""
    last = PurePosixPath(name).name
    return last if len(last) <= 40 else f"...{last[-37:]}"


def _sibling(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.stem}.{suffix}")


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    with atomic_write(path, private=True) as part, part.open("w", newline="", encoding="utf-8") as stream:
        yield stream


@contextmanager
def _json_frames(path: Path, head: Mapping[str, Any]) -> Iterator[Any]:
    """Write one JSON object whose last member, "frames", grows while the block runs."""
    with _open_text(path) as stream:
        stream.write(json.dumps(to_jsonable(dict(head)), ensure_ascii=False)[:-1] + ', "frames": [')
        first = True

        def add(record: dict[str, Any]) -> None:
            nonlocal first
            stream.write(("\n" if first else ",\n") + json.dumps(to_jsonable(record), ensure_ascii=False))
            first = False

        yield add
        stream.write("\n]}\n")
