import math

import numpy as np
import pytest
import torch
from echo_files import encode_image, picture
from PIL import Image
from random_model import CLASSES, write_model

from simclr_rhd import load_model
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.image import letterbox
from simclr_rhd.inference import classifier
from simclr_rhd.inference.predictor import confidence, entropy, predicted_names, resolve_prevalence
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


def test_words_confidence_and_entropy_by_hand():
    p = np.array([[0.5, 0.25, 0.25]])
    alike = {"prevalence": np.full(3, 1 / 3), "multilabel": False}
    assert predicted_names(p, ["a", "b", "c"], **alike) == ["a"] and confidence(p, **alike) == [0.5]
    rare = {"prevalence": np.array([0.7, 0.2, 0.1]), "multilabel": False}
    assert predicted_names(p, ["a", "b", "c"], **rare) == ["c"] and confidence(p, **rare) == [0.25]
    assert entropy(p, multilabel=False) == pytest.approx([1.5 * math.log(2)])
    lesions = np.array([[0.9, 0.25], [0.9, 0.5], [0.1, 0.2]])
    alike = {"prevalence": np.full(2, 1 / 2), "multilabel": True}
    assert predicted_names(lesions, ["MR", "AR"], **alike) == ["MR", "MR + AR", "no lesion"]
    assert confidence(lesions, **alike).tolist() == [0.75, 0.5, 0.8]
    rare = {"prevalence": np.array([0.95, 0.2]), "multilabel": True}
    assert predicted_names(lesions, ["MR", "AR"], **rare) == ["AR", "AR", "AR"]
    assert entropy(np.array([[0.5, 1.0]]), multilabel=True) == pytest.approx([math.log(2)])


def test_nothing_asked_nothing_answered(model):
    found = model.predict([])
    assert found.probabilities["view"].shape == (0, 3) and found.embeddings.shape == (0, 512)
    assert found.predicted("condition") == []


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((9, 9, 4), np.uint8), r"image 1: found an array \(9, 9, 4\) of uint8, wanted \(H, W\)"),
        (np.zeros((9, 9)), "of float64, wanted"),
        (np.zeros((4, 60, 3), np.uint8), r"too small \(60x4\)"),
        ("no/such.png", "no/such.png: No such file"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(model, image, told):
    with pytest.raises(UserError, match=told):
        model.predict([picture(), image])


KNOWN = {"view": ["A4C", "PLAX", "no"], "condition": ["MR", "AR"], "severity": ["no", "mild"]}
HELD = {
    "view": np.array([0.5, 0.3, 0.2]),
    "condition": np.array([0.1, 0.4]),
    "severity": np.array([0.9, 0.1]),
}


def test_the_shares_that_are_not_given_keep_their_proportions():
    found = resolve_prevalence(KNOWN, {"condition"}, HELD, {"view:no": 0.6, "AR": 0.01})
    np.testing.assert_allclose(found["view"], [0.25, 0.15, 0.6])
    np.testing.assert_allclose(found["condition"], [0.1, 0.01])
    np.testing.assert_allclose(found["severity"], HELD["severity"])
    whole = resolve_prevalence(KNOWN, {"condition"}, HELD, {"severity:no": 0.98, "mild": 0.02})
    np.testing.assert_allclose(whole["severity"], [0.98, 0.02])


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"PSAX": 0.1}, "--prevalence PSAX: the model has no such class; it has view:A4C, view:PLAX"),
        ({"view:MR": 0.1}, "no such class"),
        ({"no": 0.1}, "2 tasks have this class; name it 'view:no' or 'severity:no'"),
        ({"A4C": 0.0}, "A4C=0: wanted a share above 0 and below 1"),
        ({"A4C": 1.5}, "above 0 and below 1"),
        ({"A4C": 0.6, "PLAX": 0.4}, "shares of view add up to 1; wanted less than 1"),
        ({"severity:no": 0.5, "mild": 0.4}, "shares of severity add up to 0.9; wanted 1"),
        ({"A4C": 0.6, "view:A4C": 0.5}, "another share already"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, told):
    with pytest.raises(UserError, match=told):
        resolve_prevalence(KNOWN, {"condition"}, HELD, shares)


def test_answers_move_to_another_prevalence_and_stay_the_same(tmp_path):
    """Each probability by Bayes' rule in odds; the class that is said does not change."""
    model = load_model(write_model(tmp_path / "model.pt", scaled=True))
    answers = model.predict([picture(seed=seed) for seed in range(20)])
    other = answers.at_prevalence({"PSAX": 0.8, "AR": 0.5})
    for task, number, share in (("view", 2, 0.8), ("condition", 1, 0.5)):
        p, q = (of.probabilities[task][:, number] for of in (answers, other))
        was = model.prevalence[task][number]
        np.testing.assert_allclose(q / (1 - q), p / (1 - p) * share / (1 - share) * (1 - was) / was)
        assert answers.predicted(task) == other.predicted(task)
    assert answers.predicted("view") != [CLASSES["view"][n] for n in answers.probabilities["view"].argmax(1)]


def test_an_older_model_is_read_as_one_without_biases(tmp_path):
    path = write_model(tmp_path / "model.pt")
    saved = checkpoint.load(path)
    new = load_model(path).predict(picture())
    del saved["heads"]["bias"], saved["heads"]["prevalence"]
    checkpoint.save(tmp_path / "old.pt", saved | {"version": 3})
    old = load_model(tmp_path / "old.pt")
    assert old.facts.version == 3 and (old.net.heads.bias == 0).all()
    np.testing.assert_allclose(old.prevalence["view"], 1 / 3)
    np.testing.assert_array_equal(old.predict(picture()).probabilities["view"], new.probabilities["view"])
