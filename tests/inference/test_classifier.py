import pickle
import resource
import time
import zipfile
from dataclasses import replace

import pytest
import torch
import torchvision
from random_model import CLASSES, SIZE, THRESHOLDS, write_model

from simclr_rhd.core.errors import UserError
from simclr_rhd.inference import classifier
from simclr_rhd.inference.external.training_record import TrainingRecord
from simclr_rhd.runs import checkpoint

RESNET = torchvision.models.resnet18
pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


def test_a_model_comes_back_as_it_was(path, tmp_path):
    found = classifier.load(path)
    assert found.facts.classes == CLASSES and found.facts.thresholds == THRESHOLDS
    assert found.facts.image_size == SIZE and found.heads.multilabel == {"condition"}
    classifier.save(tmp_path / "again.pt", found)
    again = classifier.load(tmp_path / "again.pt")
    assert checkpoint.digest(again) == checkpoint.digest(found) and again.facts == found.facts
    assert not again.training


def test_the_record_of_the_training_comes_back_and_older_files_have_none(path, tmp_path):
    found = classifier.load(path)
    assert found.record is None
    found.record = TrainingRecord(
        b"s" * 32, frozenset([b"f" * 16]), frozenset([b"p" * 16]), frozenset(), b"", {"view": {"A4C": 3}}
    )
    classifier.save(tmp_path / "with.pt", found)
    assert classifier.load(tmp_path / "with.pt").record == found.record
    older = {name: value for name, value in checkpoint.load(path).items() if name != "record"}
    checkpoint.save(tmp_path / "older.pt", older | {"version": 5})
    again = classifier.load(tmp_path / "older.pt")
    assert again.record is None and again.facts.version == 5


def test_a_frame_is_classified_alike_in_grey_and_in_colour(path):
    net = classifier.load(path)
    grey = torch.randint(0, 256, (3, 1, net.facts.stored_side, net.facts.stored_side), dtype=torch.uint8)
    one, three = net(grey), net(grey.expand(-1, 3, -1, -1))
    assert one["view"].shape == (3, 3) and one["features"].shape == (3, 960) and one["novelty"].shape == (3,)
    torch.testing.assert_close(one["view"].sum(dim=1), torch.ones(3, dtype=torch.float64))
    for name, value in one.items():
        torch.testing.assert_close(value, three[name])


def changed(**changes):
    def change(saved):
        return saved | changes

    return change


def without(name):
    return lambda saved: {key: value for key, value in saved.items() if key != name}


def in_part(part, key, value):
    return lambda saved: saved | {part: saved[part] | {key: value}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(format="other"), "another file"),
        (without("format"), "another file"),
        (lambda saved: {"model": {}, "optimizer": {}}, "a checkpoint of the pretraining"),
        (changed(version=2), "version 2, and this program reads versions 3 to 6"),
        (changed(version="9" * 5000), "version 9999"),
        (without("heads"), "heads"),
        (changed(image_size=7), "image_size 7"),
        (changed(image_size="x" * 9000), "image_size xxx"),
        (changed(classes={"view": []}), "class names of view"),
        (changed(classes={"view": "abc", "condition": ["a", "b"]}), "class names of view"),
        (changed(classes={"view": ["a", "b\n", "c"], "condition": ["a", "b"]}), "class names of view"),
        (changed(classes={"view": ["a", "a", "c"], "condition": ["a", "b"]}), "have one name"),
        (changed(thresholds=5), "architecture"),
        (changed(thresholds={"view": {"frame": "x"}}), "the thresholds"),
        (changed(trained_on={"a": {1, 2}}), "architecture"),
        (changed(multilabel=["nonsense"]), "multilabel"),
        (changed(version=3.0), "version 3.0"),
        (in_part("preprocessing", "std", [1.0, 1.0, 1.0]), "prepared in a way"),
        (in_part("heads", "temperature", torch.zeros(2)), "no numbers|above 0"),
        (in_part("heads", "mean", torch.full((960,), 3e38)), "no numbers"),
        (in_part("encoder", "bn1.running_var", torch.full((64,), -1.0)), "no numbers"),
        (in_part("novelty", "layout_limit", torch.tensor(-1.0)), "layout_limit must be above 0"),
        (changed(classes={"view": [1, 2, 3], "condition": ["a", "b"]}), "class names of view"),
        (changed(classes={"../mood": ["a", "b"]}), r"tasks \.\./mood"),
        (changed(classes={"view": ["a", "b"], "condition": ["a", "b"]}), r"heads\.\S+ is"),
        (changed(classes=None), "architecture"),
        (changed(encoder={}), "encoder: 12 names differ"),
        (in_part("encoder", "conv1.weight", torch.zeros(64, 3, 3, 3)), r"encoder\.conv1\.weight"),
        (in_part("encoder", "bn1.bias", torch.full((64,), torch.nan)), "not finite"),
        (in_part("encoder", "bn1.bias", "text"), "architecture"),
        (in_part("novelty", "layout_mean", torch.zeros(36, dtype=torch.int64)), "layout_mean"),
        (changed(multilabel=7), "architecture"),
        (changed(record={"salt": 5}), "architecture"),
        (changed(record={"class_frames": {"view": {"a": -1}}}), "frames of its classes are no counts"),
        (changed(unproved={"\x1b[31mview": {"video": "why"}}), "reasons of the thresholds"),
        (changed(thresholds={"view\u202e": {"video": 0.5}}), "the thresholds"),
        (changed(classes={"view": ["a" * 10**6, "b", "c"], "condition": ["a", "b"]}), "class names of view"),
        (
            in_part("heads", "prevalence", torch.tensor([9.0, 1.0, 1.0, 0.5, 0.5]).double()),
            "prevalence of view",
        ),
        (
            in_part("heads", "prevalence", torch.tensor([0.1, 0.1, 0.1, 0.5, 0.5]).double()),
            "prevalence of view",
        ),
        (
            in_part("heads", "prevalence", torch.tensor([0.5, 0.3, 0.2, 1.5, 0.5]).double()),
            "prevalence of cond",
        ),
    ],
)
def test_foreign_models_are_refused_in_one_sentence(path, tmp_path, change, message):
    bad = tmp_path / "bad.pt"
    checkpoint.save(bad, change(checkpoint.load(path)))
    with pytest.raises(UserError, match=message) as refused:
        classifier.load(bad)
    text = str(refused.value)
    assert text.startswith(f"{bad}: ") and "\n" not in text and len(text) < 500


def many_times(value, levels=9):
    """Lists that hold one list ten times each: few bytes in a file, 10 ** levels values."""
    for _ in range(levels):
        value = [value] * 10
    return value


def deep(levels):
    """A list in a list in a list."""
    value = []
    for _ in range(levels):
        value = [value]
    return value


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(encoder=torch.zeros(1).expand(10**9)), "larger than the file"),
        (changed(multilabel=torch.zeros(1).expand(10**9)), "larger than the file"),
        (changed(trained_on={"x": torch.zeros(1).expand(10**9, 10)}), "larger than the file"),
        (in_part("encoder", "conv1.weight", torch.ones(1).expand(64, 3, 7, 7)), "larger than the file"),
        (in_part("encoder", "conv1.weight", torch.ones(9).as_strided((64, 3, 7, 7), (0, 0, 1, 0))), "larger"),
        (changed(x=torch.sparse_coo_tensor(torch.tensor([[5]]), torch.ones(1), (10**12,))), "another kind"),
        (changed(x=torch.zeros(10**6, device="meta")), "another kind"),
        (changed(x=Call(torch.Tensor, 10**5, 10**4)), "larger than the file"),
        (changed(x=Call(bytearray, 10**9)), "more than tensors"),
        (changed(trained_on={"x": many_times(1)}), "nested too deep, or too long"),
        (changed(trained_on={"x": many_times("y" * 10**6, 3)}), "texts are longer than the file"),
        (changed(version=many_times(1)), "nested too deep, or too long"),
        (changed(classes={"view": many_times("a")}), "nested too deep, or too long"),
        (changed(thresholds={"view": {"frame": deep(400)}}), "nested too deep"),
        (changed(encoder=torch.zeros(3)), "encoder is no table"),
        (changed(multilabel=torch.zeros(3)), "multilabel"),
        (changed(classes=torch.zeros(3)), "classes is no table"),
        (changed(synthetic=[1]), "synthetic"),
        (changed(trained_on=[1]), "trained_on"),
        *(
            (changed(thresholds={"view": {"frame": 0.5, "video": limit}}), "the thresholds")
            for limit in (float("nan"), -1e-9, -1.0, float("-inf"))
        ),
    ],
)
def test_a_file_that_is_made_to_mislead_is_refused_at_once_without_gigabytes(path, tmp_path, change, message):
    bad = tmp_path / "bad.pt"
    checkpoint.save(bad, change(checkpoint.load(path)))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=message) as refused:
        classifier.load(bad)
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_model_for_large_frames_is_tried_with_a_small_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.models, "resnet18", RESNET)  # whose seconds are the question
    model = classifier.load(write_model(tmp_path / "model.pt"))
    large = classifier.Classifier(
        model.encoder, model.heads, model.novelty, replace(model.facts, image_size=4096)
    )
    classifier.save(tmp_path / "large.pt", large)
    started = time.process_time()
    assert classifier.load(tmp_path / "large.pt").facts.image_size == 4096
    assert time.process_time() - started < 3


def test_parts_that_lie_on_top_of_each_other_are_refused(path, tmp_path):
    """A directory of a zip archive that lists one part many times is a bomb without compression."""
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    directory = data[start : start + size] * 3
    count = (int.from_bytes(data[end + 10 : end + 12], "little") * 3).to_bytes(2, "little")
    tail = data[end : end + 8] + count * 2 + len(directory).to_bytes(4, "little") + data[end + 16 : end + 20]
    (tmp_path / "bad.pt").write_bytes(data[:start] + directory + tail + bytes(2))
    with pytest.raises(UserError, match="on top of each other"):
        classifier.load(tmp_path / "bad.pt")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code ran while a model was loaded",)


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, -1])
def test_truncated_models_are_refused(path, tmp_path, cut):
    bad = tmp_path / "bad.pt"
    bad.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="not a checkpoint of this program, or damaged"):
        classifier.load(bad)


def test_a_file_that_would_grow_is_refused(path, tmp_path):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bad.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="compressed inside"):
        classifier.load(tmp_path / "bad.pt")


def test_nothing_in_a_file_is_run(path, tmp_path):
    bad = tmp_path / "bad.pt"
    bad.write_bytes(pickle.dumps({"format": classifier.FORMAT, "version": classifier.VERSION, "x": Bomb()}))
    with pytest.raises(UserError, match="not a checkpoint"):
        classifier.load(bad)
    torch.save(checkpoint.load(path) | {"classes": Bomb()}, bad)
    with pytest.raises(UserError, match="more than tensors"):
        classifier.load(bad)
