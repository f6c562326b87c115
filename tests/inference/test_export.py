"""Exported models say what PyTorch says, with what a stranger needs beside them."""

import dataclasses
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from echo_files import encode_image, picture
from PIL import Image
from random_model import CLASSES, write_model

import main
from simclr_rhd import load_model
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.inference import classifier, export, parity
from simclr_rhd.inference.prediction.frame_reader import sample_frames
from simclr_rhd.inference.prediction.input_files import find_inputs
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.augment import eval_view
from simclr_rhd.ssl.encoder.model import build

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is missing: pip install -r requirements-dev.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, 60 frames, and what `main.py export` makes of them."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "frames").mkdir()
    for seed in range(60):
        (folder / "frames" / f"v_frame{seed:02d}.png").write_bytes(encode_image(picture(seed=seed)))
    write_model(folder / "model.pt", scaled=True)
    words = ["--model", str(folder / "model.pt"), "--frames", str(folder / "frames")]
    assert main.main(["export", *words, "--cache-dir", str(folder / "cache")]) == 0
    return folder


@pytest.fixture(scope="module")
def frames(made):
    places = find_inputs([str(made / "frames")], BucketAccess(made / "cache"))
    return sample_frames(places, side=classifier.load(made / "model.pt").facts.stored_side)


@pytest.mark.parametrize("number", [1, 7, 60])
def test_exact_models_say_what_pytorch_says_of_any_number_of_frames(made, frames, number):
    some = frames[:number]
    expected = load_model(made / "model.pt").predict_squares(some)
    pixels = np.ascontiguousarray(some.transpose(0, 2, 3, 1))
    outputs = parity.run_onnx(made / "exported" / "model.onnx")(pixels)
    program = torch.export.load(made / "exported" / "model.pt2")
    other = program.module()(torch.from_numpy(pixels))
    for position, task in enumerate(CLASSES):
        np.testing.assert_allclose(outputs[f"{task}_probabilities"], expected.probabilities[task], atol=1e-4)
        np.testing.assert_allclose(other[position].detach().numpy(), expected.probabilities[task], atol=1e-4)
    np.testing.assert_allclose(outputs["novelty"], expected.novelty, rtol=1e-2)


def test_eight_bits_nearly_agree(made, frames):
    expected = load_model(made / "model.pt").predict_squares(frames).probabilities["view"]
    pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    outputs = parity.run_onnx(made / "exported" / "model.int8.onnx")(pixels)["view_probabilities"]
    assert np.abs(outputs - expected).mean() < 0.05 and not np.array_equal(outputs, expected)
    small, exact = ((made / "exported" / name).stat().st_size for name in ("model.int8.onnx", "model.onnx"))
    assert small < exact / 3


def test_the_files_know_their_classes(made):
    import onnxruntime

    session = onnxruntime.InferenceSession(made / "exported" / "model.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["simclr_rhd"])
    assert facts["classes"] == CLASSES and facts["multilabel"] == ["condition"]
    assert [output.name for output in session.get_outputs()] == facts["outputs"]
    (entry,) = session.get_inputs()
    assert entry.shape[1:] == [facts["side"], facts["side"], 3] and entry.type == "tensor(uint8)"
    extra = {export.METADATA_FILE: ""}
    torch.export.load(made / "exported" / "model.pt2", extra_files=extra)
    assert json.loads(extra[export.METADATA_FILE]) == facts


def test_the_example_needs_nothing_of_ours_and_agrees(made):
    script = Path(main.__file__).parent / "docs" / "classify_onnx.py"
    path = made / "frames" / "v_frame03.png"
    command = [sys.executable, str(script), str(made / "exported" / "model.onnx"), str(path)]
    text = subprocess.run(command, cwd=made, capture_output=True, text=True, check=True).stdout
    assert "simclr_rhd import" not in script.read_text() and "import torch" not in script.read_text()
    printed = {line.split()[1]: float(line.split()[-1]) for line in text.splitlines() if "view:" in line}
    expected = load_model(made / "model.pt").predict(path).probabilities["view"][0]
    np.testing.assert_allclose(
        [printed[name] for name in CLASSES["view"]], expected, atol=0.05
    )  # Pillow resizes


def read_safetensors(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["simclr_rhd"]), safetensors.torch.load_file(path)


def test_the_weights_need_torchvision_and_safetensors_alone_and_agree(
    made, frames, tmp_path, monkeypatch, capsys
):
    script, picture_file = Path(main.__file__).parent / "docs" / "classify_safetensors.py", tmp_path / "a.png"
    assert not re.search("^(?:import|from) simclr_rhd", script.read_text(), re.M)
    Image.fromarray(frames[3].transpose(1, 2, 0)).save(
        picture_file
    )  # nothing to pad, or to resize to a square
    words = [str(script), str(made / "exported" / "model.safetensors"), str(picture_file)]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(script))
    printed = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
    expected = load_model(made / "model.pt").predict_squares(frames[3:4]).probabilities
    np.testing.assert_allclose(printed, np.concatenate([expected[task][0] for task in CLASSES]), atol=1e-4)


def test_the_lines_in_the_documents_read_the_encoder(made, frames):
    document = (Path(main.__file__).parent / "docs" / "use.md").read_text()
    (lines,) = (block for block in re.findall(r"```python\n(.*?)```", document, re.S) if "safe_open" in block)
    names = {}
    exec(lines.replace("models/exported", str(made / "exported")), names)
    facts = names["facts"]
    assert facts["classes"] == CLASSES and facts["preprocessing"]["image_size"] == 32
    assert facts["preprocessing"]["stored_side"] == facts["side"] == frames.shape[-1]
    views = eval_view(torch.from_numpy(frames[:5]), size=32)
    with torch.inference_mode():
        expected = classifier.load(made / "model.pt").encoder(views)
        torch.testing.assert_close(names["encoder"].eval()(views), expected, atol=1e-5, rtol=1e-5)


def test_the_weights_are_the_models_and_a_start_for_another_run(made, tmp_path):
    model = classifier.load(made / "model.pt")
    facts, tensors = read_safetensors(made / "exported" / "model.safetensors")
    for prefix, part in (("encoder.", model.encoder), ("heads.", model.heads)):
        for name, value in part.state_dict().items():
            assert torch.equal(tensors.pop(prefix + name), value)
    assert not tensors and "outputs" not in facts and "Not a medical device" in facts["use"]
    export.write_safetensors(model, tmp_path / "again.safetensors")
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (made / "exported" / "model.safetensors").read_bytes()
    encoder = build(str(made / "exported" / "model.safetensors"), seed=3).encoder
    assert checkpoint.digest(encoder) == checkpoint.digest(model.encoder)


def test_names_of_classes_come_back_as_they_were(made, tmp_path):
    model = classifier.load(made / "model.pt")
    names = ['a "b": {x}', "\\n é 心 \U0001f600", "]"]
    model.facts = dataclasses.replace(model.facts, classes=CLASSES | {"view": names})
    export.write_safetensors(model, tmp_path / "names.safetensors")
    assert read_safetensors(tmp_path / "names.safetensors")[0]["classes"] == CLASSES | {"view": names}


def test_weights_that_came_out_wrong_are_refused(made, frames, tmp_path, monkeypatch):
    facts, tensors = read_safetensors(made / "exported" / "model.safetensors")
    tensors["heads.bias"] += 0.1 * torch.arange(5)
    metadata = {"simclr_rhd": json.dumps(facts)}
    monkeypatch.setattr(
        export, "write_safetensors", lambda _, path: safetensors.torch.save_file(tensors, path, metadata)
    )
    for name in ("write_pt2", "_write_onnx"):
        monkeypatch.setattr(export, name, lambda *_: None)
    for name in ("run_pt2", "run_onnx"):
        monkeypatch.setattr(
            export, name, lambda *_: parity.run_safetensors(made / "exported" / "model.safetensors")
        )
    with pytest.raises(
        UserError, match="model.safetensors: its probabilities differed from PyTorch's by up to"
    ):
        export.export_classifier(classifier.load(made / "model.pt"), frames, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_model_that_came_out_wrong_is_refused(made, frames, tmp_path, monkeypatch, value):
    monkeypatch.setattr(export, "write_pt2", lambda *_: None)
    monkeypatch.setattr(export, "_write_onnx", lambda *_: None)
    wrong = {f"{task}_probabilities": np.full((32, len(names)), value) for task, names in CLASSES.items()}
    wrong["novelty"] = np.zeros(32)
    for name in ("run_pt2", "run_onnx"):
        monkeypatch.setattr(export, name, lambda *_: lambda x: {k: v[: len(x)] for k, v in wrong.items()})
    (tmp_path / export.PT2).touch()
    with pytest.raises(UserError, match="differed from PyTorch's by up to .*removed"):
        export.export_classifier(classifier.load(made / "model.pt"), frames, tmp_path)
    assert not (tmp_path / export.PT2).exists()


def test_mistakes_are_told_in_the_users_words(made, tmp_path, capsys):
    assert main.main(["export", "--model", "no.pt"]) == 2
    assert "no such file; wanted the model.pt" in capsys.readouterr().err
    cache = ["--cache-dir", str(tmp_path)]
    assert main.main(["export", "--model", str(made / "model.pt"), *cache]) == 2
    assert "name some with --frames" in capsys.readouterr().err
    small = ["--frames", str(made / "frames"), "--max-pixels", "1000"]
    assert main.main(["export", "--model", str(made / "model.pt"), *cache, *small]) == 2
    assert "can be read: too large (64x48): --max-pixels allows 1000" in capsys.readouterr().err
    with pytest.raises(UserError, match="too few to check"):
        export.export_classifier(
            classifier.load(made / "model.pt"), np.zeros((3, 3, 37, 37), np.uint8), tmp_path
        )
