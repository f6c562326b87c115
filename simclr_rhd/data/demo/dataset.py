"""Built-in data: synthetic echo clips with labels, in the bucket's layout. They look like echo, and are not.

Every patient has one condition and one severity, and a clip of each view. A clip's labels are what it shows:
a lesion only where its valve is in view, and a leak only where colour is on. `phantom` draws the clips.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from PIL import Image

from simclr_rhd.data.demo.anatomy import VALVES, ClipContent
from simclr_rhd.data.demo.phantom import ScanSettings, draw_clip
from simclr_rhd.data.labels.vocabulary import NOT_APPLICABLE

# Not streams of `core.seeding`: the drawings are the same for every seed of a run.
SEED, ORDER_STREAM, PATIENT_STREAM, HOSPITAL_STREAM = 20_260, 1, 2, 3
MIN_PARALLEL_PATIENTS = 48  # fewer are drawn before other processes have started
LABELLED_FRACTION = 0.625  # of the patients: 400 of 640, so that a seventh of them is enough to test
MIN_LABELLED, MAX_LABELLED_FRACTION = 18, 0.75  # of few patients more are labelled: enough to split
# Of many patients, two frames of a clip: other clips teach more than other frames of the same one.
MIN_SHORT_CLIPS = 96  # patients
COLOUR_FRACTION = 0.9  # of the clips, whatever they show

COLUMNS = ["FILENAME", "VIEW-APP", "CONDITION", "SEVERITY", "THICKNESS", "PATIENT"]
VIEWS = {
    "PLAX": "Parasternal long axis (PLAX)",
    "PSAX": "Parasternal short axis(PSAX)",
    "A4C": "Apical Four Chamber(A4C)",
    "none": NOT_APPLICABLE,
}
LESIONS = {
    "AR": "Aortic Valve Regurgitation",
    "MVP": "Mitral Valve Prolapse",
    "MR": "Mitral Valve Regurgitation",
    "PR": "Pulmonary Valve Regurgitation",
    "TR": "Tricuspid Valve Regurgitation",
}
CONDITIONS = (
    (),
    ("AR",),
    ("MVP",),
    (),
    ("MR",),
    ("PR",),
    (),
    ("TR",),
    ("AR", "PR"),
)  # dealt to patients in turn
SEVERITIES = ("Normal", "Borderline rhd", "Definite rhd")

# of a leaflet, by severity: see `anatomy.LEAFLET_THICKNESS`
THICKNESSES = dict(zip(SEVERITIES, ("Not thick", "Thick", "Thick"), strict=True))

VALVE_BY_LESION = {"AR": "A", "MVP": "M", "MR": "M", "PR": "P", "TR": "T"}


@dataclass(frozen=True)
class ClipLength:
    """The frames of a clip: the first ones are labelled where the patient is."""

    labelled: int
    unlabelled: int

    @classmethod
    def of(cls, patients: int) -> "ClipLength":
        """The length of all clips of so many patients."""
        return cls(3, 2) if patients < MIN_SHORT_CLIPS else cls(2, 0)


@dataclass(frozen=True)
class Patient:
    """A patient: lesions, severity, scan settings and the generator of all their randomness."""

    name: str
    lesions: tuple[str, ...]
    severity: str
    labelled: bool
    scan: ScanSettings
    rng: np.random.Generator


@dataclass(frozen=True)
class Hospital:
    """A hospital of the demo: the scanner that all its patients are scanned with.

    Attributes:
        seed: 0 for that of the demo, another number for another one.
        gain: by which the gain is multiplied.
        sector: as of `ScanSettings`.
    """

    seed: int = 0
    gain: float = 1.0
    sector: float = 1.0

    @classmethod
    def draw(cls, seed: int) -> "Hospital":
        """The hospital of a number; any but 0 has a narrower probe, and a much lower or higher gain."""
        if not seed:
            return cls()
        rng = np.random.default_rng([SEED, HOSPITAL_STREAM, seed])
        return cls(seed, float(2.0 ** (rng.choice([-1, 1]) * rng.uniform(0.6, 1))), rng.uniform(0.7, 0.85))

    def rng(self, *stream: int) -> np.random.Generator:
        """The generator of one of its streams; those of the demo do not depend on its number."""
        return np.random.default_rng([SEED, *stream, *[self.seed] * bool(self.seed)])


def write_demo(
    root: Path, *, patients: int, labelled_fraction: float = LABELLED_FRACTION, seed: int = 0
) -> None:
    """Write the data set below `root`: frames as PNG, and the label table.

    The same number of patients and the same seed give the same bytes.

    Args:
        root: an existing folder.
        patients: how many; at least 12, for every view and some conditions.
        labelled_fraction: of them; the others have unlabelled clips only.
        seed: 0, or the number of another hospital, see `Hospital`.

    Raises:
        ValueError: fewer than 12 patients.
    """
    if patients < 12:
        raise ValueError(f"wanted at least 12 patients, got {patients}")
    labelled = root / "supervised" / "annotated-final"
    unlabelled = root / "unsupervised-videos" / "unlabelled-frames"
    for folder in (labelled, unlabelled):
        folder.mkdir(parents=True, exist_ok=True)
    # processes and not threads: small NumPy operations hold the interpreter's lock
    length = ClipLength.of(patients)
    draw = Parallel(n_jobs=-1 if patients >= MIN_PARALLEL_PATIENTS else 1)
    drawn = draw(
        delayed(_write_patient)(patient, length, labelled, unlabelled)
        for patient in draw_patients(patients, labelled_fraction, Hospital.draw(seed))
    )
    rows = [row for of_patient in drawn for row in of_patient]
    _add_quirks(rows)
    with (root / "supervised" / "sorted_file.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])


def _write_patient(patient: Patient, length: ClipLength, labelled: Path, unlabelled: Path) -> list[list[str]]:
    """Write a patient's frames into two folders; the rows of those that are labelled."""
    rows: list[list[str]] = []
    for number, view in enumerate(patient.rng.permutation(list(VIEWS)), start=1):
        clip, label = make_clip(patient, str(view), length.labelled + length.unlabelled)
        for index, frame in enumerate(clip):
            to_label = patient.labelled and index < length.labelled
            file = f"{patient.name}-c{number}_frame{7 * index + 3:04d}.png"
            Image.fromarray(frame).save((labelled if to_label else unlabelled) / file, compress_level=1)
            if to_label:
                thickness = THICKNESSES.get(label[-1], NOT_APPLICABLE)
                rows.append([file, *label, thickness, patient.name])
    return rows


def draw_patients(
    n: int, labelled_fraction: float = LABELLED_FRACTION, hospital: Hospital = Hospital()
) -> list[Patient]:
    """Patients whose conditions and severities are balanced and independent of how they image."""
    n_labelled = max(round(n * labelled_fraction), min(round(n * MAX_LABELLED_FRACTION), MIN_LABELLED))
    severity = [SEVERITIES[(index // len(CONDITIONS) + index) % 3] for index in range(n)]
    order = hospital.rng(ORDER_STREAM).permutation(n)  # a number does not depend on the condition
    result = []
    for index in range(n):
        rng = hospital.rng(PATIENT_STREAM, index)
        scan = ScanSettings(
            gain=rng.uniform(0.75, 1.3) * hospital.gain,
            scale=rng.uniform(0.85, 1.15),
            aspect=rng.uniform(0.88, 1.14),
            sector=hospital.sector,
        )
        condition = CONDITIONS[index % len(CONDITIONS)]
        place = f"h{hospital.seed}-" if hospital.seed else ""
        name = f"synthetic-{place}p{order[index] + 1:03d}"
        result.append(Patient(name, condition, severity[index], index < n_labelled, scan, rng))
    return result


def make_clip(patient: Patient, view: str, n_frames: int) -> tuple[np.ndarray, list[str]]:
    """A patient's clip of a view: (F, H, W, 3) uint8, and its view, condition and severity in the table."""
    rng, valves = patient.rng, VALVES.get(view, {})
    colour = rng.random() < COLOUR_FRACTION
    shown = [
        name for name in patient.lesions if VALVE_BY_LESION[name] in valves and (colour or name == "MVP")
    ]
    content = ClipContent(
        view,
        colour=colour,
        prolapse="MVP" in shown,
        leaks=[VALVE_BY_LESION[name] for name in shown if name != "MVP"],
        severity=SEVERITIES.index(patient.severity),
    )
    clip = draw_clip(content, patient.scan, n_frames=n_frames, rng=rng)
    lesions = [LESIONS[name] for name in shown][:: rng.choice([1, -1])] or [NOT_APPLICABLE]
    return clip, [VIEWS[view], str(lesions), patient.severity if valves else NOT_APPLICABLE]


def _add_quirks(rows: list[list[str]]) -> None:
    """Add the flaws of real exports: empty cells, rows that agree or disagree, a row without a file."""
    if len(rows) < 200:
        return
    for row in rows[5::97]:
        row[3] = ""
    rows.append(rows[20].copy())
    other = rows[40].copy()
    other[3] = "Normal" if other[3] != "Normal" else "Definite rhd"
    rows.append(other)
    rows.append(["synthetic-gone_frame0003.png", *rows[60][1:5], ""])
