"""The dress rehearsal, in runs of a small network."""

import json
import shutil
from dataclasses import replace

import pytest
from small_run import SMALL, arguments, run_small
from untrained_run import FakeEmbeddingWorker

import main
from simclr_rhd.data.demo import dataset as demo
from simclr_rhd.inference import classifier
from simclr_rhd.report.charts import pretraining as plots_pretraining
from simclr_rhd.report.page.embedding_map import MapsMissing


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """A folder of data of twelve patients."""
    folder = tmp_path_factory.mktemp("twelve")
    demo.write_demo(folder, patients=12)
    return folder


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


def test_maps_that_fail_stop_the_run_in_its_rehearsal(finished, cache, monkeypatch, capfd):
    class Failed(FakeEmbeddingWorker):
        def maps(self, timeout_s=None):
            raise MapsMissing(f"no umap, rehearsal {self.rehearsal}")

    monkeypatch.setattr("simclr_rhd.report.build.EmbeddingWorker", Failed)
    assert run_small(arguments(cache, finished, "--overwrite")) == 2
    assert "cannot be computed here: no umap, rehearsal True; --no-figures" in capfd.readouterr().err


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
