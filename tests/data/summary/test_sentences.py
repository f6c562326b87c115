"""The summary at the start of a run says what was taken and what was left."""

import csv
import json
import logging

import pytest
from echo_files import PATIENT_ID, dicom_dataset, encode_image, picture, save_dicom, write_clip

import main

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")
pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
FLAGS = "--no-figures --no-rehearsal --image-size 32 --epochs 1 --linear-epochs 2 --batch-size 8".split()
FLAGS += ["--max-rejected", "0.3", "--precision", "float32"]
pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture
def data(tmp_path):
    """Clips, DICOM files and frames; one of each kind of trouble."""
    lab, wild = (
        tmp_path / "data/supervised/annotated-final",
        tmp_path / "data/unsupervised-videos/unlabelled-frames",
    )
    lab.mkdir(parents=True)
    wild.mkdir(parents=True)
    rows = ["FILENAME,VIEW-APP,CONDITION,SEVERITY,USER,TIMESTAMP"]
    for number in range(8):
        write_clip(lab / f"c{number}.mp4", [picture(seed=10 * number + k) for k in range(4)])
        rows.append(f"c{number}.mp4,{'PLAX' if number % 2 else 'PSAX'},,,ann,2024-01-01")
        write_clip(wild / f"w{number}.avi", [picture(seed=1000 + 10 * number + k) for k in range(4)])
    rows.append("c1.mp4,PSAX,,,bob,2024-02-01")
    rows.append("c2.mp4,PSAX,,,bob,2024-02-01")
    save_dicom(dicom_dataset(picture(seed=500)), lab / "d.dcm")
    rows.append("d.dcm,PLAX,,,,")
    save_dicom(dicom_dataset(picture(seed=501)), wild / "e.dcm")
    (wild / "copy_frame1.png").write_bytes(encode_image(picture(seed=900)))
    (wild / "again_frame1.png").write_bytes(encode_image(picture(seed=900)))
    (wild / "black_frame1.png").write_bytes(encode_image(picture() * 0))
    (wild / "bad_frame1.png").write_bytes(b"no")
    (tmp_path / "data/supervised/sorted_file.csv").write_text("\n".join(rows))
    return tmp_path / "data"


def run(data, tmp_path, *more):
    places = ["--cache-dir", str(tmp_path / "cache"), "--save-dir", str(tmp_path / "out")]
    assert main.main([*FLAGS, "--data", str(data), *places, *more]) == 0
    return json.loads((tmp_path / "out" / "run.json").read_text())["counts"]


def test_what_was_taken_and_what_was_left(data, tmp_path, capfd):
    counts = run(data, tmp_path)
    assert counts["files"] == {"listed": 23, "fetched": 0, "from_cache": 0, "decoded": 22, "used": 21}
    assert counts["frames"] == 8 * 4 + 8 * 4 + 2 + 3 and counts["rejected"] == {"not an image": 1}
    flow = counts["flow"]
    assert (flow["files"], flow["left_out"], flow["contradictory"]) == (22, {"not an image": 1}, {"view": 1})
    assert flow["labelled"]["frames"] + flow["unlabelled"]["frames"] == counts["frames"]
    assert counts["quality"] == {
        "near_black": 1,
        "constant": 0,
        "duplicates": 1,
        "pictures_in_several_videos": 1,
    }
    assert counts["conflicts"] == {"found": 1, "settled": 0} and counts["patients"] == 1
    (kappa,) = counts["agreement"]
    assert kappa["users"] == ["ann", "bob"] and kappa["files"] == 2 and kappa["kappa"] == 0.0
    printed = capfd.readouterr().out
    for words in ("23 listed", "not an image: 1", "1 near-black", "Cohen's kappa 0.00", "1 times rows"):
        assert words in printed


def test_frames_of_a_file_have_its_label_and_a_patient_one_side(data, tmp_path):
    run(data, tmp_path)
    with (tmp_path / "out" / "split.csv").open(newline="", encoding="utf-8") as stream:
        split = {row["path"].split("/")[-1]: row for row in csv.DictReader(stream)}
    assert split["c3.mp4#0002"]["video"] == "c3" and split["c3.mp4#0002"]["part"] in ("train", "val", "test")
    assert split["d.dcm"]["patient"] == split["e.dcm"]["patient"] != ""
    assert split["d.dcm"]["group"] == split["e.dcm"]["group"]
    assert split["copy_frame1.png"]["group"] == split["again_frame1.png"]["group"]
    assert split["c1.mp4#0000"]["part"] in ("unlabelled", "held-out"), "its rows disagree"


def test_flags_of_clips_and_of_conflicts(data, tmp_path):
    counts = run(data, tmp_path, "--frames-per-clip", "2", "--label-conflict", "latest")
    assert counts["frames"] == 8 * 2 + 8 * 2 + 2 + 3 and counts["conflicts"] == {"found": 1, "settled": 1}
    with (tmp_path / "out" / "conflicts.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["used"] == "Parasternal Short Axis (PSAX)" and row["users"] == "ann | bob"


def test_no_name_of_a_patient_comes_out(data, tmp_path, capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        run(data, tmp_path)
    printed = "".join(capfd.readouterr()) + caplog.text
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    index = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("index.json"))
    for secret in ("secretname", PATIENT_ID.lower()):
        assert secret not in printed.lower()
        assert secret.encode() not in written.lower() and secret.encode() not in index.lower()


def test_unlabelled_clips_of_tested_patients_are_not_pretrained_on(data, tmp_path, capfd):
    """w<n> is another clip of the patient of c<n>: without the table nothing says so."""
    table = tmp_path / "patients.csv"
    rows = [f"{letter}{n}.{kind},P{n}" for n in range(8) for letter, kind in (("c", "mp4"), ("w", "avi"))]
    table.write_text("\n".join(["FILENAME,PATIENT", *rows]))
    counts = run(data, tmp_path, "--patients-csv", str(table))
    with (tmp_path / "out" / "split.csv").open(newline="", encoding="utf-8") as stream:
        split = {row["path"].split("/")[-1]: row for row in csv.DictReader(stream)}
    tested = [n for n in range(8) if split[f"c{n}.mp4#0000"]["part"] in ("val", "test")]
    assert tested and all(split[f"w{n}.avi#0000"]["part"] == "held-out" for n in tested)
    assert all(split[f"w{n}.avi#0000"]["patient"] == f"P{n}" for n in range(8))
    others = 4 * len(tested) + (split["e.dcm"]["part"] == "held-out")  # its patient is that of d.dcm
    assert counts["kept_out"]["of_other_videos"] == others
    printed = capfd.readouterr().out
    assert f"{others} of them of videos without any label" in printed
    assert (
        f"NOTICE {counts['kept_out']['no_patient']} unlabelled frames to pretrain on have no known" in printed
    )
