import numpy as np
import pytest
import torch
from echo_files import encode_image, picture
from no_float64 import NoFloat64
from PIL import Image
from random_model import CLASSES, with_heads_on_the_last_stage, write_model

from simclr_rhd import load_model
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.image import letterbox
from simclr_rhd.inference import classifier
from simclr_rhd.runs import checkpoint


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="module")
def model(path):
    return load_model(path)


def test_arrays_pillow_images_and_files_are_the_same_pictures(model, tmp_path):
    pixels = picture()
    (tmp_path / "a.png").write_bytes(encode_image(pixels))
    found = model.predict([pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")])
    for task, names in CLASSES.items():
        p = found.probabilities[task]
        assert p.shape == (4, len(names)) and p.dtype == np.float64
        np.testing.assert_allclose(p, p[:1].repeat(4, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.embeddings, model.embed(pixels).repeat(4, axis=0), atol=1e-4)
    assert found.predicted("view") == [CLASSES["view"][found.probabilities["view"][0].argmax()]] * 4


def test_it_answers_as_the_net_that_was_saved(path, model):
    net = classifier.load(path)
    squares = np.stack(
        [letterbox(picture(seed=seed), net.facts.stored_side) for seed in range(70)]
    )  # two batches

    with torch.inference_mode():
        expected = net(torch.from_numpy(squares))
    found = model.predict([picture(seed=seed) for seed in range(70)])
    for task in CLASSES:
        np.testing.assert_allclose(found.probabilities[task], expected[task].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.novelty, expected["novelty"].numpy(), rtol=1e-3)


def test_a_picture_of_another_kind_is_marked_and_one_of_its_own_is_not(model):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = model.predict(
        [picture(seed=100), noise, np.zeros((48, 64, 3), np.uint8), np.full((9, 12), 200, np.uint8)]
    )
    assert found.out_of_distribution.tolist() == [False, True, True, True]
    assert found.plain.tolist() == [False, False, True, False]  # padded, it is not of one colour


def test_a_model_that_cannot_tell_says_so(tmp_path):
    model = load_model(write_model(tmp_path / "model.pt", novelty=False, thresholds={}))
    found = model.predict(picture())
    assert np.isnan(found.novelty).all() and not found.out_of_distribution.any()
    assert model.abstains("view", found.probabilities["view"], level="frame") is None
    assert model.abstains("condition", found.probabilities["condition"], level="frame") is None


def test_unsure_answers_are_abstained_from_by_level_and_lesion(model):
    p = np.array([[0.45, 0.3, 0.25], [0.6, 0.2, 0.2]])
    assert model.abstains("view", p, level="frame").tolist() == [True, False]
    assert model.abstains("view", p, level="video").tolist() == [False, False]
    lesions = np.array([[0.95, 0.5], [0.05, 0.5], [0.6, 0.99]])  # only MR has a threshold
    assert model.abstains("condition", lesions, level="frame").tolist() == [False, False, True]


def test_nothing_asked_nothing_answered(model):
    found = model.predict([])
    assert found.probabilities["view"].shape == (0, 3) and found.embeddings.shape == (0, 960)
    assert found.predicted("condition") == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((9, 9, 4), np.uint8), r"image 1: found an array \(9, 9, 4\) of uint8, wanted \(H, W\)"),
        (np.zeros((9, 9)), "of float64, wanted"),
        (np.zeros((4, 60, 3), np.uint8), r"too small \(60x4\)"),
        ("no/such.png", "no/such.png: No such file"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(model, image, message):
    with pytest.raises(UserError, match=message):
        model.predict([picture(), image])


def test_answers_move_to_another_prevalence_and_stay_the_same(tmp_path):
    """Each probability by Bayes' rule in odds; the class that is said does not change."""
    model = load_model(write_model(tmp_path / "model.pt", scaled=True))
    answers = model.predict([picture(seed=seed) for seed in range(20)])
    other = answers.at_prevalence({"PSAX": 0.8, "AR": 0.5})
    for task, number, share in (("view", 2, 0.8), ("condition", 1, 0.5)):
        p, q = (of.probabilities[task][:, number] for of in (answers, other))
        was = model.tasks[task].prevalence[number]
        np.testing.assert_allclose(q / (1 - q), p / (1 - p) * share / (1 - share) * (1 - was) / was)
        assert answers.predicted(task) == other.predicted(task)
    assert answers.predicted("view") != [CLASSES["view"][n] for n in answers.probabilities["view"].argmax(1)]


def test_the_heads_of_an_older_model_see_the_last_stage_alone(tmp_path):
    path = write_model(tmp_path / "model.pt", scaled=True)
    saved = checkpoint.load(path)
    for task in CLASSES:
        saved["heads"][f"linear.{task}.weight"][:, :-512] = 0
    checkpoint.save(path, saved)
    checkpoint.save(tmp_path / "old.pt", with_heads_on_the_last_stage(saved) | {"version": 4})
    classifier.save(tmp_path / "old.pt", classifier.load(tmp_path / "old.pt"))
    old, new = (load_model(tmp_path / name).predict(picture()) for name in ("old.pt", "model.pt"))
    assert old.embeddings.shape == (1, 960)
    for task in CLASSES:
        np.testing.assert_allclose(old.probabilities[task], new.probabilities[task], rtol=1e-5)
    np.testing.assert_array_equal(old.novelty, new.novelty)


def test_an_older_model_is_read_as_one_without_biases(tmp_path):
    path = write_model(tmp_path / "model.pt")
    saved = with_heads_on_the_last_stage(checkpoint.load(path))
    checkpoint.save(tmp_path / "4.pt", saved | {"version": 4})
    new = load_model(tmp_path / "4.pt").predict(picture())
    del saved["heads"]["bias"], saved["heads"]["prevalence"]
    checkpoint.save(tmp_path / "old.pt", saved | {"version": 3})
    old = load_model(tmp_path / "old.pt")
    assert old.facts.version == 3 and (old.net.heads.bias == 0).all()
    np.testing.assert_allclose(old.tasks["view"].prevalence, 1 / 3)
    np.testing.assert_array_equal(old.predict(picture()).probabilities["view"], new.probabilities["view"])


def test_on_its_device_a_model_needs_no_float64(model):
    """GPUs of Apple have none: there the encoder runs, and the heads on the processor."""
    squares = np.stack([letterbox(picture(), model.facts.stored_side)])
    with torch.inference_mode(), NoFloat64():
        described = model.net.describe(torch.from_numpy(squares))
    assert {values.dtype for values in described.values()} == {torch.float32}
    assert next(model.net.heads.parameters()).device.type == "cpu"
