import pickle
import zipfile

import pytest
import torch
from a_model import CLASSES, SIZE, THRESHOLDS, write_model

from simclr_rhd import checkpoint, classifier
from simclr_rhd.errors import UserError


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


def test_a_frame_is_classified_alike_in_grey_and_in_colour(path):
    net = classifier.load(path)
    grey = torch.randint(0, 256, (3, 1, net.facts.stored_side, net.facts.stored_side), dtype=torch.uint8)
    one, three = net(grey), net(grey.expand(-1, 3, -1, -1))
    assert one["view"].shape == (3, 3) and one["features"].shape == (3, 512) and one["novelty"].shape == (3,)
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
    ("change", "told"),
    [
        (changed(format="other"), "another file"),
        (without("format"), "another file"),
        (lambda saved: {"model": {}, "optimizer": {}}, "a checkpoint of the pretraining"),
        (changed(version=2), "version 2, and this program reads versions 3 and 4"),
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
        (in_part("heads", "mean", torch.full((512,), 3e38)), "no numbers"),
        (in_part("encoder", "bn1.running_var", torch.full((64,), -1.0)), "no numbers"),
        (in_part("novelty", "layout_limit", torch.tensor(-1.0)), "layout_limit must be above 0"),
        (changed(classes={"view": [1, 2, 3], "condition": ["a", "b"]}), "class names of view"),
        (changed(classes={"mood": ["a", "b"]}), "tasks mood"),
        (changed(classes={"view": ["a", "b"], "condition": ["a", "b"]}), r"heads\.\S+ is"),
        (changed(classes=None), "architecture"),
        (changed(encoder={}), "encoder: 120 names differ"),
        (in_part("encoder", "conv1.weight", torch.zeros(64, 3, 3, 3)), r"encoder\.conv1\.weight"),
        (in_part("encoder", "bn1.bias", torch.full((64,), torch.nan)), "not finite"),
        (in_part("encoder", "bn1.bias", "text"), "architecture"),
        (in_part("novelty", "layout_mean", torch.zeros(36, dtype=torch.int64)), "layout_mean"),
        (changed(multilabel=7), "architecture"),
    ],
)
def test_foreign_models_are_refused_in_one_sentence(path, tmp_path, change, told):
    bad = tmp_path / "bad.pt"
    checkpoint.save(bad, change(checkpoint.load(path)))
    with pytest.raises(UserError, match=told) as refused:
        classifier.load(bad)
    text = str(refused.value)
    assert text.startswith(f"{bad}: ") and "\n" not in text and len(text) < 500


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
