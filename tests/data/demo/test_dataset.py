import csv
import hashlib
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes

from simclr_rhd.data.decoding.image import DOPPLER, color_mode
from simclr_rhd.data.demo.anatomy import ClipContent, PixelGrid, heart_echo
from simclr_rhd.data.demo.dataset import (
    CONDITIONS,
    MIN_SHORT_CLIPS,
    VIEWS,
    Hospital,
    draw_patients,
    make_clip,
    write_demo,
)
from simclr_rhd.data.demo.phantom import ScanSettings, draw_clip
from simclr_rhd.data.labels.labels import read_labels
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.vocabulary import VOCABULARY

PREFIXES = ("supervised/annotated-final", "unsupervised-videos/unlabelled-frames")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, patients=24)
    return folder


def table(root):
    with (root / "supervised" / "sorted_file.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def frames(root, prefix):
    return sorted((root / prefix).iterdir())


def contents(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.*")
    }


def test_the_same_number_of_patients_gives_the_same_bytes(root, tmp_path):
    write_demo(tmp_path, patients=24)
    assert contents(tmp_path) == contents(root)


def test_patients_are_drawn_by_several_processes_as_by_one(root, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_rhd.data.demo.dataset.MIN_PARALLEL_PATIENTS", 24)
    write_demo(tmp_path, patients=24)
    assert contents(tmp_path) == contents(root)


def test_frames_are_small_pictures_that_say_they_are_synthetic(root):
    for prefix in PREFIXES:
        for path in frames(root, prefix):
            assert path.name.startswith("synthetic-") and "_frame" in path.name
            assert Image.open(path).size == (128, 96)


def test_every_class_has_several_patients_and_every_patient_several_clips(root):
    listed = [f"{PREFIXES[0]}/{path.name}" for path in frames(root, PREFIXES[0])]
    data = (root / "supervised" / "sorted_file.csv").read_bytes()
    tasks = tuple(VOCABULARY[task] for task in ("view", "condition", "severity", "thickness"))
    labels = read_labels(data, "table", LabelledFiles(listed, listed, PREFIXES), tasks=tasks)
    patients = np.array(labels.patients)
    assert [len(labels.classes[task]) for task in labels.classes] == [4, 7, 4, 3]
    for task in labels.classes:
        for number, name in enumerate(labels.classes[task]):
            assert len(set(patients[labels.values[task] == number])) >= 2, name
    assert len(set(labels.videos)) == 4 * len(set(patients))
    assert len(labels.rows_without_file) == 1 and len(labels.conflicts) == 1, "the quirks of real exports"


def test_clips_move_over_the_cardiac_cycle():
    for patient in draw_patients(12)[:4]:
        clip, _ = make_clip(patient, "A4C", 5)
        assert clip.dtype == np.uint8 and clip.shape == (5, 96, 128, 3)
        still, moved = (
            np.abs(clip[0].astype(int) - clip[1]).mean(),
            np.abs(clip[0].astype(int) - clip[2]).mean(),
        )
        assert still > 3 and moved > 3


def test_names_and_numbers_do_not_tell_the_classes(root):
    views_of_number, patients = defaultdict(set), draw_patients(96)
    for row in (row for row in table(root) if row["PATIENT"]):
        views_of_number[row["FILENAME"].split("-c")[1][0]].add(row["VIEW-APP"])
    assert all(len(views) == len(VIEWS) for number, views in views_of_number.items())
    numbers = defaultdict(list)
    for patient in patients:
        numbers[patient.lesions].append(int(patient.name[-3:]))
    assert len({number % len(CONDITIONS) for number in numbers[("AR",)]}) > 3


@pytest.mark.parametrize("view", VIEWS)
def test_a_clip_with_colour_shows_flow_in_every_view(view):
    """Else the kind of a frame, which the header baseline knows, would tell the view."""
    rng, content = np.random.default_rng(0), ClipContent(view, True, [], prolapse=False, severity=0)
    clips = [draw_clip(content, ScanSettings(1.0, 1.0, 1.0), n_frames=2, rng=rng) for _ in range(20)]
    kinds = [color_mode(np.ascontiguousarray(frame.transpose(2, 0, 1))) for clip in clips for frame in clip]
    assert np.mean(np.array(kinds) == DOPPLER) >= 0.95


def test_a_leak_is_labelled_where_its_valve_and_its_jet_can_be_seen():
    """The mosaic's yellow is in no other part of a picture."""
    with_jet = without = 0
    for patient in draw_patients(96)[:36]:
        for view in VIEWS:
            clip, (_, condition, severity) = make_clip(patient, view, 5)
            red, green, blue = (clip[..., channel].astype(int) for channel in range(3))
            yellow = ((red > 200) & (green > 180) & (blue < 100)).any(axis=(1, 2)).mean()
            if "Regurgitation" in condition:
                with_jet += yellow > 0.5
                without += yellow <= 0.5
            else:
                assert yellow == 0, (patient.name, view, condition)
            assert (severity == "Not Applicable") == (view == "none")
    assert with_jet > 15 and without <= 0.05 * with_jet, (with_jet, without)


def colour_mask(frame):
    """(H, W) whether a pixel has a colour."""
    return np.ptp(frame.astype(int), axis=-1) > 30


@pytest.mark.parametrize(("view", "leak"), [("A4C", "M"), ("A4C", "T"), ("PLAX", "A"), ("PSAX", "P")])
def test_jets_grow_with_the_severity_and_stay_in_the_box(view, leak):
    areas = np.zeros(3)
    for severity in range(3):
        for seed in range(20):
            content = ClipContent(view, True, [leak], prolapse=False, severity=severity)
            rng = np.random.default_rng(seed)
            frame = draw_clip(content, ScanSettings(1.0, 1.0, 1.0), n_frames=1, rng=rng)[0]
            box = binary_fill_holes((frame == 150).all(axis=-1))
            mosaic = colour_mask(frame) & (frame[..., 1] > 130)  # no laminar flow is so green
            assert not (colour_mask(frame) & ~box).any(), (severity, seed)
            areas[severity] += mosaic.sum()
    assert areas[0] < areas[1] < areas[2] < 12 * areas[0], areas


def test_a_moderator_band_distinguishes_the_right_ventricle():
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 121), np.linspace(0, 1, 101))
    inside = np.ones(x.shape, dtype=bool)
    grid = PixelGrid(y, x, inside, x.astype(np.float32), y.astype(np.float32))
    content = ClipContent("A4C", False, [], prolapse=False, severity=0)
    echo = heart_echo(content, grid, np.zeros(1, np.float32), np.random.default_rng(0))[0]
    near = [np.hypot(x - side * 0.195, y - 0.36) < 0.01 for side in (-1, 1)]
    right, left = (echo[part].mean() for part in near)
    assert right > 0.4 and left < 0.1, (right, left)


def test_gain_changes_the_grey_levels_of_a_clip_and_not_its_colours():
    content = ClipContent("A4C", colour=True, leaks=["M"], prolapse=False, severity=2)
    dark, bright = (
        draw_clip(content, ScanSettings(gain, 1.0, 1.0), n_frames=2, rng=np.random.default_rng(0))
        for gain in (0.5, 2.0)
    )
    chroma = [clip.max(axis=-1).astype(int) - clip.min(axis=-1) for clip in (dark, bright)]
    assert (chroma[0] > 0).any() and np.array_equal(chroma[0] > 0, chroma[1] > 0)
    grey = chroma[0] == 0
    assert bright[grey].mean() > dark[grey].mean() + 20


def test_many_patients_have_short_clips(tmp_path):
    """Frames of other clips teach more than other frames of the same one."""
    write_demo(tmp_path, patients=MIN_SHORT_CLIPS)
    labelled, unlabelled = (frames(tmp_path, prefix) for prefix in PREFIXES)
    assert (len(labelled), len(unlabelled)) == (60 * 4 * 2, 36 * 4 * 2)


def test_few_patients_are_refused_and_twelve_are_enough(tmp_path):
    with pytest.raises(ValueError, match="12"):
        write_demo(tmp_path, patients=11)
    write_demo(tmp_path, patients=12)
    assert len(frames(tmp_path, PREFIXES[0])) == 108 and len(frames(tmp_path, PREFIXES[1])) > 100


def test_another_hospital_has_other_patients_another_probe_and_another_gain(root, tmp_path):
    first, other = draw_patients(24), draw_patients(24, hospital=Hospital.draw(7))
    assert not {p.name for p in first} & {p.name for p in other}
    assert {p.scan.sector for p in first} == {1.0} and len({p.scan.sector for p in other}) == 1
    assert other[0].scan.sector < 0.9
    assert [p.scan for p in other] == [p.scan for p in draw_patients(24, hospital=Hospital.draw(7))]
    gains = [np.mean([p.scan.gain for p in patients]) for patients in (first, other)]
    assert abs(np.log2(gains[1] / gains[0])) > 0.4
    assert Hospital.draw(8) != Hospital.draw(7) and Hospital.draw(0) == Hospital()
    write_demo(tmp_path, patients=24, seed=7)
    pictures = {hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.rglob("*.png")}
    assert not pictures & {hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*.png")}
