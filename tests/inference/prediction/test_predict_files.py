"""`main.py predict` on files of every kind: the same frames, the same predictions."""

import csv
import json

import numpy as np
import pytest
from echo_files import PATIENT_ID, PATIENT_NAME, dicom_dataset, encode_image, picture, save_dicom, write_gif
from PIL import Image
from random_model import CLASSES, write_model

import main
from simclr_rhd import load_model

FRAMES = {
    f"v{video}_frame{number}.png": picture(seed=10 * video + number)
    for video in (1, 2)
    for number in (0, 1, 2)
}
pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("data")
    for name, pixels in FRAMES.items():
        (top / name).write_bytes(encode_image(pixels))
    return top


def predict(tmp_path, model, *paths, flags=(), out="out.csv"):
    words = [*map(str, paths), "--model", str(model), "--out", str(tmp_path / out)]
    return main.main(["predict", *words, "--cache-dir", str(tmp_path / "cache"), *flags])


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def numbers(row):
    return np.array([float(value) for name, value in row.items() if name.startswith("p:") and value])


def test_frames_videos_and_patients_of_a_folder(tmp_path, model, folder):
    table = tmp_path / "patients.csv"
    table.write_text("FILENAME,PATIENT\n" + "".join(f"{name},Ann\n" for name in FRAMES if name < "v2"))
    assert predict(tmp_path, model, folder, flags=["--patients-csv", str(table)]) == 0
    found, expected = rows(tmp_path / "out.csv"), load_model(model).predict(list(FRAMES.values()))
    assert list(found[0])[:7] == ["path", "video", "patient", "task", "predicted", "probability", "entropy"]
    assert list(found[0])[-3:] == ["novelty", "out_of_distribution", "abstained"]
    for task in CLASSES:
        of_task = [row for row in found if row["task"] == task]
        assert [row["path"] for row in of_task] == [f"{folder}/{name}" for name in FRAMES]
        np.testing.assert_allclose([numbers(row) for row in of_task], expected.probabilities[task], atol=1e-5)
        assert [row["predicted"] for row in of_task] == expected.predicted(task)
    assert {row["patient"] for row in found} == {"Ann", ""}

    videos = [row for row in rows(tmp_path / "out.videos.csv") if row["task"] == "view"]
    assert [(row["video"], row["frames"], row["patient"]) for row in videos] == [
        (f"{folder}/v1", "3", "Ann"),
        (f"{folder}/v2", "3", ""),
    ]
    mean = expected.probabilities["view"][:3].mean(axis=0)
    np.testing.assert_allclose(numbers(videos[0]), mean, atol=1e-5)
    (patient,) = [row for row in rows(tmp_path / "out.patients.csv") if row["task"] == "view"]
    assert (patient["patient"], patient["frames"]) == ("Ann", "3")
    written = [path for path in tmp_path.iterdir() if path.name.startswith("out.")]
    assert len(written) == 6 and all(path.stat().st_mode & 0o077 == 0 for path in written)
    np.testing.assert_allclose(numbers(patient), mean, atol=1e-5)

    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["classes"] == CLASSES and len(written["frames"]) == 6
    assert written["frames"][0]["tasks"]["view"]["predicted"] == found[0]["predicted"]
    assert not list(tmp_path.glob(".*part"))


def test_a_folder_a_bucket_a_clip_and_a_dicom_file_of_the_same_frames_are_answered_alike(
    tmp_path, model, folder, gcs, monkeypatch, caplog
):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
    gcs.upload("echo-predict", folder, "some/")
    pixels = np.stack(list(FRAMES.values())[:3])
    (tmp_path / "scans").mkdir()
    save_dicom(dicom_dataset(pixels, frames=3), tmp_path / "scans" / "v1.dcm")
    assert predict(tmp_path, model, folder, out="a.csv") == 0
    assert predict(tmp_path, model, "gs://echo-predict/some", out="b.csv") == 0
    assert predict(tmp_path, model, "gs://echo-predict/some/v1_frame1.png", out="c.csv") == 0
    assert predict(tmp_path, model, tmp_path / "scans", out="d.csv") == 0
    a, b, c, d = (rows(tmp_path / f"{name}.csv") for name in "abcd")
    assert [row["path"] for row in b[::2]] == [f"gs://echo-predict/some/{name}" for name in FRAMES]
    assert [row["path"] for row in c] == ["gs://echo-predict/some/v1_frame1.png"] * 2
    assert [row["path"] for row in d[::2]] == [f"{tmp_path}/scans/v1.dcm#{n:04d}" for n in range(3)]
    for ours, theirs in ((a, b), (a[2:4], c), (a[:6], d)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(numbers(one), numbers(other), atol=1e-5)
    (patient,) = {row["patient"] for row in d}
    assert patient.startswith("dicom-")
    for path in tmp_path.glob("*.*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert PATIENT_ID not in text and PATIENT_NAME.split("^")[0] not in text


def test_clips_are_one_video_each_of_as_many_frames_as_are_wanted(tmp_path, model):
    write_gif(tmp_path / "loop.gif", list(FRAMES.values()))
    assert predict(tmp_path, model, tmp_path / "loop.gif", flags=["--frames-per-clip", "2"]) == 0
    found = rows(tmp_path / "out.csv")
    assert [row["path"] for row in found[::2]] == [f"{tmp_path}/loop.gif#0000", f"{tmp_path}/loop.gif#0005"]
    assert {row["video"] for row in found} == {f"{tmp_path}/loop"}


def test_all_pictures_of_a_still_are_classified_and_too_large_ones_left_out(tmp_path, model):
    first, *others = (Image.fromarray(pixels) for pixels in FRAMES.values())
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    first.resize((100, 100)).save(tmp_path / "large.png")
    flags = ["--max-pixels", "9999"]
    assert predict(tmp_path, model, tmp_path / "pages.tif", tmp_path / "large.png", flags=flags) == 0
    found = rows(tmp_path / "out.csv")
    assert [row["path"] for row in found[::2]] == [f"{tmp_path}/pages.tif#{n:04d}" for n in range(6)]
    (left_out,) = rows(tmp_path / "out.rejected.csv")
    assert "large.png" in left_out["path"] and "--max-pixels allows 9999" in left_out["reason"]


def test_what_cannot_be_read_is_named_and_the_rest_is_classified(tmp_path, model, folder, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "broken.png").write_bytes(b"no picture")
    (other / "notes.txt").write_bytes(b"x")
    assert predict(tmp_path, model, folder / "v1_frame0.png", other, folder / "v1_frame0.png") == 0
    assert len(rows(tmp_path / "out.csv")) == 2  # named twice, taken once
    reasons = {row["path"]: row["reason"] for row in rows(tmp_path / "out.rejected.csv")}
    assert reasons == {f"{other}/broken.png": "not an image", f"{other}/notes.txt": "not a frame: .txt"}
    assert "left out or not whole: 1 files, not an image" in capsys.readouterr().out


def test_without_anything_classified_nothing_is_written(tmp_path, model, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert predict(tmp_path, model, tmp_path / "broken.png") == 2
    assert "none of the 1 files could be classified" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".*"))


def test_what_is_foreign_or_unsure_is_marked_on_the_terminal(tmp_path, model, folder, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    (tmp_path / "cat.png").write_bytes(encode_image(noise))
    assert predict(tmp_path, model, folder, tmp_path / "cat.png") == 0
    printed = capsys.readouterr().out
    cat = next(line for line in printed.splitlines() if " cat " in line)
    assert " !" in cat and "(1 of 3 videos)" in printed
    assert [row["out_of_distribution"] for row in rows(tmp_path / "out.csv")] == ["False"] * 12 + ["True"] * 2


def test_a_model_of_synthetic_data_says_so(tmp_path, folder, capsys):
    assert predict(tmp_path, write_model(tmp_path / "model.pt", synthetic=True), folder) == 0
    assert "SYNTHETIC" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to classify"),
        (["x", "--out", "x.txt"], "wanted a file whose name ends in .csv"),
        (["x", "--model", "no/model.pt"], "no such file; wanted the model.pt"),
        (["x", "--frames-per-clip", "0"], "wanted 1 or more"),
        (["no/such"], "no/such: no such file or folder"),
        (["gs://Bad_Name!/x"], "wanted gs://BUCKET"),
    ],
)
def test_mistakes_are_told_in_the_users_words(tmp_path, model, capsys, words, message):
    flags = [] if "--model" in words else ["--model", str(model)]
    out = [] if "--out" in words else ["--out", str(tmp_path / "out.csv")]
    assert main.main(["predict", *words, *flags, *out, "--cache-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_patients_table_of_other_files_is_refused(tmp_path, model, folder, capsys):
    table = tmp_path / "patients.csv"
    for content, message in (
        ("FILENAME,PATIENT\nother.png,Ann\n", "none of its rows names one of the 6 files"),
        ("FILENAME\nv1_frame0.png\n", "no column PATIENT"),
        ("FILENAME,PATIENT\nv1_frame0.png,Ann\nv1_frame0.png,Bob\n", "v1_frame0.png has several patients"),
    ):
        table.write_text(content)
        assert predict(tmp_path, model, folder, flags=["--patients-csv", str(table)]) == 2
        error = capsys.readouterr().err
        assert message in error and "Ann" not in error


def test_the_users_own_table_is_not_replaced(tmp_path, model, folder, capsys):
    table = tmp_path / "out.patients.csv"
    table.write_text("FILENAME,PATIENT\nv1_frame0.png,Ann\n")
    assert predict(tmp_path, model, folder, flags=["--patients-csv", str(table)]) == 2
    assert "would replace" in capsys.readouterr().err and "Ann" in table.read_text()


def test_what_cannot_be_used_in_a_folder_is_named(tmp_path, model, folder):
    top = tmp_path / "top"
    top.mkdir()
    (top / "a.png").write_bytes(encode_image(picture()))
    (top / "new\nline.png").write_bytes(encode_image(picture()))
    (top / "gone.png").symlink_to(top / "nowhere.png")
    assert predict(tmp_path, model, top) == 0
    reasons = {row["path"]: row["reason"] for row in rows(tmp_path / "out.rejected.csv")}
    assert reasons == {
        f"{top}/new\\nline.png": "unusable name: control characters",
        f"{top}/gone.png": "a link that leads nowhere",
    }


def test_prevalence_moves_the_probabilities_and_not_what_is_said(tmp_path, folder, capsys, caplog):
    path = write_model(tmp_path / "model.pt", scaled=True)
    shares = ["--prevalence", "PSAX=0.5", "--prevalence", "condition:AR=0.01"]
    assert (
        predict(tmp_path, path, folder) == 0
        and predict(tmp_path, path, folder, flags=shares, out="b.csv") == 0
    )
    held = json.loads((tmp_path / "b.json").read_text())["prevalence"]
    assert held["view"]["PSAX"] == 0.5 and held["condition"] == {"MR": 0.2, "AR": 0.01}
    assert held["view"]["A4C"] / held["view"]["PLAX"] == pytest.approx(0.8 / 0.15)
    assert json.loads((tmp_path / "out.json").read_text())["prevalence"]["view"]["PSAX"] == pytest.approx(
        0.05
    )
    for end in ("csv", "videos.csv"):
        for one, other in zip(rows(tmp_path / f"out.{end}"), rows(tmp_path / f"b.{end}"), strict=True):
            assert one["predicted"] == other["predicted"] and one["abstained"] == other["abstained"]
            if one["task"] == "view":
                p, q = (float(row["p:PSAX"]) for row in (one, other))
                assert q / (1 - q) == pytest.approx(p / (1 - p) * 19, rel=1e-3)
                best = max(held["view"], key=lambda name: float(other[f"p:{name}"]) / held["view"][name])
                assert other["predicted"] == best, "the largest probability for its prevalence"


@pytest.mark.parametrize(
    ("shares", "message"),
    [("nonsense", "wanted CLASS=SHARE"), ("A4C=much", "wanted CLASS=SHARE"), ("TEE=0.1", "no such class")],
)
def test_a_prevalence_that_does_not_fit_is_refused(tmp_path, model, folder, capsys, shares, message):
    assert predict(tmp_path, model, folder, flags=["--prevalence", shares]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out.csv").exists()


def test_where_nothing_is_proved_all_answers_are_marked_and_the_reason_is_told(tmp_path, folder, capsys):
    why = "5 validation groups are too few; a proof takes 22 without a mistake"
    never = {"view": {"frame": 2.0, "video": 2.0}, "condition: MR": {"frame": 0.0, "video": 0.0}}
    unproved = {"view": {"frame": why, "video": why}, "condition: MR": {"frame": "", "video": ""}}
    path = write_model(tmp_path / "model.pt", thresholds=never, unproved=unproved)
    assert predict(tmp_path, path, folder) == 0
    printed = capsys.readouterr().out
    assert "with 90% confidence at most 10% of a patient's accepted predictions are wrong" in printed
    assert f"view: nothing is proved, so that all predictions are marked: {why}" in printed
    marked = {(row["task"], row["abstained"]) for row in rows(tmp_path / "out.csv")}
    assert marked == {("view", "True"), ("condition", "False")}


def test_numbered_stills_are_of_the_video_that_their_folder_is_called(tmp_path, model):
    for clip in ("clip7", "clip8"):
        (tmp_path / clip).mkdir()
        for number, pixels in enumerate(list(FRAMES.values())[:3]):
            (tmp_path / clip / f"frame_{number:04d}.png").write_bytes(encode_image(pixels))
    assert predict(tmp_path, model, tmp_path / "clip7", tmp_path / "clip8") == 0
    videos = {row["video"] for row in rows(tmp_path / "out.videos.csv")}
    assert videos == {f"{tmp_path}/clip7", f"{tmp_path}/clip8"}
