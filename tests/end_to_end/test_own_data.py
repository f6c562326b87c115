"""The main job on a user's own files: a folder, a bucket, and what goes wrong with them."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from small_simclr import small_networks

import main
from simclr_rhd.data.demo import dataset as demo
from simclr_rhd.runs import checkpoint

SMALL = "--no-figures --no-rehearsal --image-size 32 --epochs 1 --linear-epochs 2 --batch-size 32".split()
SMALL += "--precision float32 --head-seeds 1 --head-l2 0.01".split()


@pytest.fixture(scope="module", autouse=True)
def small_encoder():
    """The small network for all runs: reading, splits and refusals do not depend on its layers."""
    with small_networks():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    demo.write_demo(folder, patients=12)
    return folder


def linked(source, folder):
    """Hard links to all files of a folder."""
    for path in source.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return folder


@pytest.fixture
def data(drawn, tmp_path):
    """A copy of the demo's files as a user's own folder, to spoil."""
    return linked(drawn, tmp_path / "data")


@pytest.fixture(scope="module")
def undisturbed(drawn, tmp_path_factory):
    """Data with one file that is no picture, and the folder of a finished run on them; to read."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = linked(drawn, folder / "data")
    (data / "supervised" / "annotated-final" / "bad_frame1.png").write_text("not a picture")
    assert main.main(arguments(data, folder / "cache", folder / "out")) == 0
    return data, folder / "out"


def arguments(data, cache, save_dir, *more):
    return [*SMALL, "--data", str(data), "--cache-dir", str(cache), "--save-dir", str(save_dir), *more]


def test_a_frame_split_is_marked_as_leaky_wherever_it_shows(data, tmp_path):
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", "--group-by", "frame")) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["split"]["by"] == "frame" and found["split"]["leaky"] is True
    assert found["synthetic"] is False
    for name in ("simclr_rhd.log", "report.html"):
        assert "leaky" in (tmp_path / "out" / name).read_text().lower()


def test_a_patient_who_is_tested_and_pretrained_on_is_a_leak(data, tmp_path):
    """Groups by video, one labelled video a patient: the others are only in pretraining."""
    table = data / "supervised" / "sorted_file.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if "-c1_" not in row["FILENAME"]:
            row |= dict.fromkeys(("VIEW-APP", "CONDITION", "SEVERITY"), "")
    table.unlink()
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for by, leaky in (("video", True), ("patient", False)):
        assert main.main(arguments(data, tmp_path / "cache", tmp_path / by, "--group-by", by)) == 0
        found = json.loads((tmp_path / by / "metrics.json").read_text())
        assert found["split"]["leaky"] is leaky


def test_one_site_is_left_out_at_a_time(data, tmp_path, capfd):
    table = data / "supervised" / "sorted_file.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    patients = sorted({row["PATIENT"] for row in rows})
    table.unlink()
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "SITE"])
        writer.writeheader()
        writer.writerows(row | {"SITE": "AB"[patients.index(row["PATIENT"]) % 2]} for row in rows)
    argv = arguments(data, tmp_path / "cache", tmp_path / "out", "--folds-by", "SITE")
    assert main.main(argv) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (found["split"]["folds"], found["split"]["fold_names"]) == (2, ["A", "B"])
    view = found["tasks"]["view"]
    assert [row["fold"] for row in view["folds"]] == [1, 2] and "header" in view["margins"]
    assert view["subgroups"]["SITE"]["values"].keys() == {"A", "B"}
    assert "folds are the values of SITE: 1 A, 2 B" in capfd.readouterr().out
    assert main.main(argv) == 0  # finished: not repeated
    assert "2 folds, the values of SITE: A, B" in capfd.readouterr().out


def test_a_leaky_split_of_ones_own_is_refused_or_marked(undisturbed, tmp_path, capfd):
    data, out = undisturbed
    with (out / "split.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {"train", "val", "test", "unlabelled"} <= {row["part"] for row in rows}
    moved = next(row for row in rows if row["part"] == "test")
    moved["part"] = "train"
    path = tmp_path / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    argv = arguments(data, tmp_path / "cache", tmp_path / "out", "--split", str(path))
    assert main.main(argv) == 2
    message = capfd.readouterr().err
    assert "two sides" in message and moved["path"] in message and "Traceback" not in message
    assert main.main([*argv, "--allow-leak"]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["split"]["leaky"] is True and found["split"]["own"] is True
    assert "leaky" in (tmp_path / "out" / "report.html").read_text().lower()


def test_too_many_unreadable_frames_stop_the_run_and_are_listed(data, tmp_path, capfd):
    frames = sorted((data / "supervised" / "annotated-final").iterdir())
    spoilt = frames[: len(frames) // 2]
    for path in spoilt:
        path.unlink()
        path.write_text("not a picture")
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 2
    assert "--max-rejected" in capfd.readouterr().err
    with (tmp_path / "out" / "rejected.csv").open(newline="", encoding="utf-8") as stream:
        listed = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
    assert set(listed) == {path.relative_to(data).as_posix() for path in spoilt}
    assert set(listed.values()) == {"not an image"}


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--data", "{tmp}/nowhere"], ["nowhere", "--data"]),
        (["--labelled-prefix", "wrong"], ["wrong", "--labelled-prefix"]),
        (["--unlabelled-prefix", "wrong"], ["wrong", "--unlabelled-prefix"]),
        (["--labels-csv", "wrong.csv"], ["wrong.csv", "--labels-csv"]),
        (["--labels-csv", "supervised/empty.csv"], ["empty.csv", "FILENAME"]),
        (["--device", "cuda"], ["--device cuda"]),
        (["--device", "mps"], ["--device mps"]),
        (["--epochs", "0"], ["--epochs 0"]),
    ],
)
def test_a_users_mistake_is_one_message_without_a_traceback(data, tmp_path, capfd, mistake, words):
    (data / "supervised" / "empty.csv").touch()
    if "--device" in mistake and torch.accelerator.is_available():
        pytest.skip("there is a GPU here")
    more = [argument.format(tmp=tmp_path) for argument in mistake]
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", *more)) == 2
    printed = capfd.readouterr().err
    assert all(word in printed for word in words) and "Traceback" not in printed


def test_folder_and_bucket_of_the_same_content_give_the_same_run(undisturbed, tmp_path, gcs, monkeypatch):
    data, folder = undisturbed
    gcs.upload("echo-bucket", data, prefix="study 1/")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    words = arguments("gs://echo-bucket/study 1", tmp_path / "cache bucket", tmp_path / "bucket")
    assert main.main(words) == 0
    for name in ("split.csv", "rejected.csv", "metrics.json", "predictions.csv"):
        assert (tmp_path / "bucket" / name).read_bytes() == (folder / name).read_bytes(), name
    records = [json.loads((of / "run.json").read_text()) for of in (folder, tmp_path / "bucket")]
    assert records[0]["data"]["fingerprint"] == records[1]["data"]["fingerprint"]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # nobody answers there
    shutil.rmtree(tmp_path / "cache bucket" / "stores")
    again = arguments("gs://echo-bucket/study 1", tmp_path / "cache bucket", tmp_path / "offline")
    assert main.main([*again, "--offline"]) == 0
    assert (tmp_path / "offline" / "metrics.json").read_bytes() == (
        tmp_path / "bucket" / "metrics.json"
    ).read_bytes()
    counts = json.loads((tmp_path / "offline" / "run.json").read_text())["counts"]["files"]
    assert counts["fetched"] == 0 and counts["from_cache"] == counts["listed"]


def test_a_first_attempt_that_failed_does_not_stand_in_the_way(data, tmp_path):
    places = tmp_path / "cache", tmp_path / "out"
    assert main.main(arguments(tmp_path / "nowhere", *places)) == 2
    assert main.main(arguments(data, *places, "--init", str(data / "supervised" / "sorted_file.csv"))) == 2
    assert [path.name for path in places[1].iterdir()] == [".lock"]


def test_overwrite_destroys_nothing_before_the_new_run_is_possible(data, tmp_path, capfd):
    places = tmp_path / "cache", tmp_path / "out"
    places[1].mkdir()
    for name in ("model.pt", "simclr_last.pt", "run.json", "simclr_rhd.log", "split.csv", "rejected.csv"):
        (places[1] / name).write_text("of an earlier run")
    for path in sorted((data / "supervised" / "annotated-final").iterdir())[:20]:
        path.unlink()
        path.touch()
    for wrong in (["--init", str(places[1] / "model.pt")], ["--labelled-prefix", "wrong"], []):
        assert main.main(arguments(data, *places, "--overwrite", *wrong)) == 2
    assert {path.read_text() for path in places[1].iterdir() if path.name != ".lock"} == {"of an earlier run"}
    assert str(places[0] / "rejected.csv") in capfd.readouterr().err and (places[0] / "rejected.csv").exists()


@pytest.mark.slow
def test_pictures_that_were_left_out_are_drawn_by_the_same_command_without_the_flag(
    data, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        "simclr_rhd.report.charts.figures.draw_charts", lambda *_, **__: drawn.append(1) or {}
    )
    argv = arguments(data, tmp_path / "cache", tmp_path / "out")
    assert main.main(argv) == 0 and not drawn
    model = (tmp_path / "out" / "model.pt").read_bytes()
    assert main.main(argv) == 0 and not drawn
    argv.remove("--no-figures")
    assert main.main(argv) == 0 and drawn
    assert (tmp_path / "out" / "model.pt").read_bytes() == model


def test_a_table_with_one_class_in_each_task_is_a_users_error(data, tmp_path, capfd):
    table = data / "supervised" / "sorted_file.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        found = [row["FILENAME"] for row in csv.DictReader(stream)]
    table.unlink()
    rows = [f"{name},PLAX,['Healthy'],Normal" for name in found]
    table.write_text("\n".join(["FILENAME,VIEW-APP,CONDITION,SEVERITY", *rows]))
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 2
    assert "nothing to learn" in capfd.readouterr().err


def test_names_that_tell_no_videos_or_nothing_are_warned_of(data, tmp_path, capfd):
    """Stills with only a number: nothing tells of which clip they are, and each is a video of its own."""
    frames = data / "supervised" / "annotated-final"
    for number, path in enumerate(sorted(frames.iterdir())):
        path.rename(frames / (f"{number:04d}.png" if number < 3 else path.name.replace("_frame", "-")))
    for path in sorted((data / "unsupervised-videos" / "unlabelled-frames").iterdir()):
        path.rename(path.with_name(path.name.replace("_frame", "-")))
    table = data / "supervised" / "sorted_file.csv"
    text = table.read_text().replace("_frame", "-")
    table.unlink()
    table.write_text(text)
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out", "--group-by", "video")) == 0
    log = capfd.readouterr().out
    assert "have a single frame" in log
    assert "WARNING 3 stills, such as 0000.png, have only a number" in log


def test_numbered_stills_of_few_folders_are_the_reason_of_a_refusal(data, tmp_path, capfd):
    """A folder a class, as for classifiers of photographs."""
    frames = data / "supervised" / "annotated-final"
    rows = ["FILENAME,VIEW-APP,CONDITION,SEVERITY"]
    for number, path in enumerate(sorted(frames.iterdir())):
        view = ("PLAX", "PSAX")[number % 2]
        (frames / view).mkdir(exist_ok=True)
        path.rename(frames / view / f"{number:04d}.png")
        rows.append(f"{view}/{number:04d}.png,{view},,")
    table = data / "supervised" / "sorted_file.csv"
    table.unlink()
    table.write_text("\n".join(rows))
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 2
    assert "give each clip a folder, or call a frame <video>_frame<number>" in capfd.readouterr().err


def interrupted(argv, monkeypatch):
    """A run that is stopped after its first epoch."""
    monkeypatch.setattr("simclr_rhd.ssl.monitoring.epoch_log.epoch_line", stop)
    assert main.main(argv) == 130
    monkeypatch.undo()


def stop(*_):
    raise KeyboardInterrupt


def test_data_that_changed_since_a_run_began_are_not_mixed_with_it(data, tmp_path, monkeypatch, capfd):
    argv = arguments(data, tmp_path / "cache", tmp_path / "out")
    interrupted(argv, monkeypatch)
    next((data / "supervised" / "annotated-final").iterdir()).unlink()
    assert main.main(argv) == 2
    assert "the data changed since the unfinished run" in capfd.readouterr().err


def test_an_interrupted_overwriting_run_says_how_to_go_on(data, tmp_path, monkeypatch, capfd):
    argv = arguments(data, tmp_path / "cache", tmp_path / "out")
    interrupted([*argv, "--overwrite"], monkeypatch)
    assert "the same command, without --overwrite, continues" in capfd.readouterr().err
    assert main.main(argv) == 0
    assert "resumed after epoch 1" in capfd.readouterr().out


def test_an_encoder_that_moves_while_the_heads_learn_is_noticed(data, tmp_path, monkeypatch, capfd):
    from simclr_rhd.heads import encode

    def drifting(encoder, *arguments, **keywords):
        found = honest(encoder, *arguments, **keywords)
        encoder.bn1.running_mean += 1e-6
        return found

    honest = encode.extract_with_ood_stats
    monkeypatch.setattr(encode, "extract_with_ood_stats", drifting)
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "out")) == 1
    assert "the frozen encoder changed" in capfd.readouterr().err


def test_the_labels_of_the_test_part_do_not_change_the_model(undisturbed, tmp_path):
    data, folder = linked(undisturbed[0], tmp_path / "data"), undisturbed[1]
    with (folder / "split.csv").open(newline="", encoding="utf-8") as stream:
        test = {Path(row["path"]).name for row in csv.DictReader(stream) if row["part"] == "test"}
    table = data / "supervised" / "sorted_file.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    views = sorted({row["VIEW-APP"] for row in rows})
    patients = sorted({row["PATIENT"] for row in rows if Path(row["FILENAME"]).name in test})
    assert patients and len(views) > 2
    turned = dict(zip(views, views[1:] + views[:1], strict=True))
    for row in rows:
        if Path(row["FILENAME"]).name in test:
            row["VIEW-APP"] = turned[row["VIEW-APP"]]
    table.unlink()
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert main.main(arguments(data, tmp_path / "cache", tmp_path / "two")) == 0
    split = [(of / "split.csv").read_bytes() for of in (folder, tmp_path / "two")]
    models = [checkpoint.load(of / "model.pt") for of in (folder, tmp_path / "two")]
    assert split[0] == split[1]
    for part in ("encoder", "heads"):
        for name, tensor in models[0][part].items():
            assert torch.equal(tensor, models[1][part][name]), name
