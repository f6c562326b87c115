"""What is done before the long part: the rehearsal, the estimate, and what they save the user from."""

import json
import shutil
from dataclasses import replace

import pytest
from small_simclr import small_networks

import main
from simclr_rhd.data.demo import dataset as demo
from simclr_rhd.inference import classifier
from simclr_rhd.planning import profiler
from simclr_rhd.report.charts import pretraining as plots_pretraining

SMALL = "--demo-patients 24 --image-size 32 --epochs 1 --linear-epochs 2 --batch-size 32".split()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """A folder of data of twelve patients."""
    folder = tmp_path_factory.mktemp("twelve")
    demo.write_demo(folder, patients=12)
    return folder


def arguments(cache, save_dir, *more):
    return [*SMALL, "--cache-dir", str(cache), "--save-dir", str(save_dir), *more]


def run_small(argv):
    """Run with a small network, whose steps are measured in this process."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiler, "profile_step", profiler._profile)
        return main.main([*argv, "--precision", "float32"])


def test_a_model_that_cannot_be_loaded_stops_the_run_before_pretraining(cache, tmp_path, monkeypatch, capfd):
    save = classifier.save

    def damaged(path, found):
        names = found.facts.classes | {"view": ["A\x9b4C", "PLAX", "PSAX"]}
        facts = replace(found.facts, classes=names)
        save(path, classifier.Classifier(found.encoder, found.heads, found.novelty, facts))

    monkeypatch.setattr(classifier, "save", damaged)
    assert run_small(arguments(cache, tmp_path, "--no-figures")) == 2
    printed = capfd.readouterr()
    assert (
        "the run would end with a model.pt that cannot be loaded" in printed.err
        and "class names" in printed.err
    )
    assert "epoch 1/1" not in printed.out and not (tmp_path / "simclr_last.pt").exists()


@pytest.mark.slow
def test_a_rehearsal_changes_nothing_of_the_run(cache, tmp_path):
    found = []
    for name, more in (("with", []), ("without", ["--no-rehearsal"])):
        assert main.main(arguments(cache, tmp_path / name, "--no-figures", *more)) == 0
        found.append((tmp_path / name / "metrics.json").read_bytes())
        assert not [path for path in (tmp_path / name).iterdir() if path.name.startswith(".rehearsal")]
    assert found[0] == found[1]
    run = json.loads((tmp_path / "with" / "run.json").read_text())
    assert run["estimate"]["peak_bytes"] > 5e8 and run["settled"]["batch_size"] == 32


def test_an_estimate_says_memory_time_and_disk_and_leaves_nothing(cache, tmp_path, capfd):
    argv = ["estimate", *arguments(cache, tmp_path / "models", "--no-figures", "--batch-size", "auto")]
    assert main.main(argv) == 0
    printed = capfd.readouterr().out
    for part in (
        "11.5 million parameters",
        "by batch size: 16:",
        "an epoch",
        "if it stops as early",
        "disk:",
    ):
        assert part in printed
    assert "--batch-size auto: 16" in printed, "200 frames: an epoch of 12 batches"
    assert not (tmp_path / "models").exists()


def test_an_estimate_of_data_that_were_never_decoded_takes_a_sample(twelve, tmp_path, capfd):
    argv = ["estimate", *SMALL[2:], "--data", str(twelve), "--cache-dir", str(tmp_path / "cache")]
    assert run_small([*argv, "--no-figures"]) == 0
    printed = capfd.readouterr().out
    assert "data, from a sample: 240 files" in printed and "108 labelled" in printed
    assert {path.name for path in (tmp_path / "cache").rglob("*")} <= {"salt"}, "nothing was decoded to stay"


def test_tensorboard_curves_can_be_read(cache, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = ["--no-figures", "--no-rehearsal", "--tensorboard"]
    assert run_small(arguments(cache, tmp_path, *more)) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    for name in ("loss", "val_loss", "alignment", "uniformity", "rank"):
        (point,) = events.Scalars(f"simclr/{name}")
        assert point.step == 1 and point.value == pytest.approx(history[0][name], rel=1e-6)


def test_a_missing_tensorboard_is_named_at_once(cache, tmp_path, monkeypatch, capfd):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main.main(arguments(cache, tmp_path, "--tensorboard")) == 2
    printed = capfd.readouterr()
    assert "pip install tensorboard" in printed.err and "epoch 1/1" not in printed.out


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """The folder of a run that began where a killed rehearsal and an older run had left something."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / ".rehearsal-abc").mkdir()
    (folder / ".rehearsal-abc" / "model.pt").touch()
    (folder / "tensorboard").mkdir()
    assert run_small(arguments(cache, folder, "--no-figures", "--no-rehearsal")) == 0
    return folder


def test_what_a_killed_rehearsal_left_is_removed(finished):
    assert not (finished / ".rehearsal-abc").exists() and not (finished / "tensorboard").exists()


def test_a_picture_that_cannot_be_drawn_stops_the_run_and_leaves_the_one_before_it(
    finished, cache, monkeypatch, capfd
):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.name != ".lock"}

    def broken(*_, **__):
        raise RuntimeError("no such font")

    monkeypatch.setattr(plots_pretraining, "plot_simclr_loss", broken)
    assert run_small(arguments(cache, finished, "--overwrite")) == 1
    printed = capfd.readouterr()
    assert "the dress rehearsal failed" in printed.err and "no such font" in printed.err
    assert "epoch 1/1" not in printed.out
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.name != ".lock"} == before


@pytest.mark.parametrize("unlabelled", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_a_rehearsal_does_with_few_frames(twelve, tmp_path, unlabelled, capfd):
    shutil.copytree(twelve, tmp_path / "data")
    folder = tmp_path / "data" / "unsupervised-videos" / "unlabelled-frames"
    for path in sorted(folder.iterdir())[unlabelled + 1 :]:
        path.unlink()
    argv = [*SMALL[2:], "--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache")]
    status = run_small(
        [*argv, "--save-dir", str(tmp_path / "run"), "--no-figures", "--monitor", "training-loss"]
    )
    printed = capfd.readouterr()
    assert status in (0, 2) and "internal error" not in printed.err, printed.err
    if status == 2:
        assert "unlabelled frames are left for pretraining" in printed.err
