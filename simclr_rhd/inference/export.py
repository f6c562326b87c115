"""The trained model for other runtimes: torch.export, ONNX, ONNX with 8-bit weights; held against PyTorch.

Notation: B frames at once, S pixels of a prepared frame's side, s of a view's.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write
from simclr_rhd.data.decoding import decode as media
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.predict_files import InputFiles
from simclr_rhd.ssl.augment import normalise
from simclr_rhd.ssl.encoder.model import forward_with_ood_stats, fuse_batchnorm

logger = logging.getLogger("simclr_rhd")

PT2, ONNX, INT8 = "model.pt2", "model.onnx", "model.int8.onnx"
METADATA_FILE = "simclr_rhd.json"  # of the metadata
FRAMES_INPUT, NOVELTY_OUTPUT = "frames", "novelty"
MAX_DIFFERENCE = 1e-4  # of probabilities, that an exported model may differ by
OPSET = 18
MIN_FRAMES, MAX_FRAMES, BATCH_SIZE = 2, 400, 32  # frames to check with; to take in all; at once
FRAMES_PER_CLIP = 4  # frames


class ExportableClassifier(nn.Module):
    """The classifier as one graph of common operations: uint8 frames in, probabilities out.

    Args:
        classifier: that is exported; its batch norms are folded into the convolutions.
    """

    resize: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        facts = classifier.facts
        self.encoder, self.heads, self.novelty = (
            fuse_batchnorm(classifier.encoder),
            classifier.heads,
            classifier.novelty,
        )
        # Resizing is linear: by two products with this (s, S), in place of an operation that runtimes lack.
        one = torch.eye(facts.stored_side)[None, None]
        size = (facts.image_size, facts.stored_side)
        self.register_buffer("resize", F.interpolate(one, size=size, mode="bilinear", antialias=True)[0, 0])

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> (B, C) float32 probabilities of each task, and (B,) novelty if known."""
        x = frames.permute(0, 3, 1, 2).float() / 255
        views = normalise(self.resize @ x @ self.resize.T)
        described = forward_with_ood_stats(self.encoder, views)
        found = [
            logits.sigmoid() if task in self.heads.multilabel else logits.softmax(dim=1)
            for task, logits in self.heads(described["features"]).items()
        ]
        return (*found, *([] if self.novelty is None else [self.novelty(described)]))


def output_names(classifier: Classifier) -> list[str]:
    """Names of what `ExportableClassifier` gives: `<task>_probabilities`, and 'novelty' if that is known."""
    return [f"{task}_probabilities" for task in classifier.heads.n_outputs] + [NOVELTY_OUTPUT] * bool(
        classifier.novelty
    )


def export_metadata(classifier: Classifier) -> dict[str, Any]:
    """What a program needs beside the numbers, in types of JSON."""
    facts = classifier.facts
    return {
        "side": facts.stored_side,
        "input": "uint8 RGB, each frame padded to a square with black and resized to side x side",
        "outputs": output_names(classifier),
        "classes": facts.classes,
        "multilabel": sorted(classifier.heads.multilabel),
        "prevalence": {task: held.tolist() for task, held in _prevalence(classifier).items()},
        "said": "the class whose probability is largest for its prevalence; lesions as probable as frequent",
        "thresholds": facts.thresholds,
        "unproved": facts.unproved,
        "novelty": "above 1: unlike the frames that were learnt from",
        "synthetic": facts.synthetic,
        "trained_on": facts.trained_on,
        "use": "Research use only. Not a medical device.",
    }


@dataclass(frozen=True)
class ParityCheck:
    """How an exported model compares with PyTorch on real frames.

    Attributes:
        name: of its file.
        frames: how many.
        max_difference: difference of a probability.
        agreement: {task: share of frames of which both say the same, "novelty": that both mark, or neither}.
    """

    name: str
    frames: int
    max_difference: float
    agreement: dict[str, float]


def sample_frames(
    inputs: Sequence[InputFiles], *, side: int, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """(n, 3, S, S) uint8 frames of at most `max_pixels`, evenly chosen among the files of some places.

    Raises:
        UserError: none can be read.
    """
    files = [(place, entry) for place in inputs for entry in place.entries if media.file_type(entry.key)]
    found, reason = [], ""
    for number in evenly_spaced(len(files), min(max_frames, len(files))):
        place, entry = files[number]
        media.require_packages([entry.key])
        paths, _ = place.source.fetch([entry])
        for path in paths.values():
            done = media.decode_file(
                path, entry.key, side=side, max_frames=FRAMES_PER_CLIP, salt=b"", max_pixels=max_pixels
            )
            reason = done.reason or reason
            found += [np.broadcast_to(frame.pixels, (3, side, side)) for frame in done.frames]
    if not found:
        why = f": {reason}" if reason else ""
        raise UserError(f"none of the {len(files)} files is a frame that can be read{why}")
    return np.stack(found[:max_frames])


def export_classifier(classifier: Classifier, frames: np.ndarray, folder: Path) -> list[ParityCheck]:
    """Write `model.pt2`, `model.onnx` and `model.int8.onnx`.

    The weights of the third are fitted on the first half of the frames, and all are checked on the second.

    Args:
        classifier: a trained one.
        frames: (n, 3, S, S) uint8 real frames, n ≥ 4.
        folder: where the files go.

    Raises:
        UserError: a package is missing, there are too few frames, or an exact model is not close to PyTorch.
    """
    require_onnx_packages()
    if len(frames) < 2 * MIN_FRAMES:
        raise UserError(
            f"{len(frames)} frames are too few to check an export with; wanted {2 * MIN_FRAMES} or more"
        )
    portable, names = ExportableClassifier(classifier).eval(), output_names(classifier)
    pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    fitting, checking = pixels[0::2], pixels[1::2]
    expected, predict_class = _reference_outputs(classifier, frames[1::2]), _class_predictor(classifier)
    facts = json.dumps(export_metadata(classifier), ensure_ascii=False)
    write_pt2(portable, pixels, facts, folder / PT2)
    _write_onnx(portable, pixels, names, facts, folder / ONNX)
    checks = [
        _check_parity(PT2, run_pt2(folder / PT2, names), checking, expected, predict_class),
        _check_parity(ONNX, run_onnx(folder / ONNX), checking, expected, predict_class),
    ]
    for check in checks:
        if not check.max_difference <= MAX_DIFFERENCE:
            (folder / check.name).unlink(missing_ok=True)
            raise UserError(
                f"{folder / check.name}: its probabilities differed from PyTorch's by up to "
                f"{check.max_difference:.1e}, more than {MAX_DIFFERENCE:g}, so it was removed. Please report "
                "this with the versions of torch, onnx and onnxruntime"
            )
    _write_int8(folder / ONNX, fitting, facts, folder / INT8)
    return [*checks, _check_parity(INT8, run_onnx(folder / INT8), checking, expected, predict_class)]


def require_onnx_packages() -> None:
    """Make sure that all is there.

    Raises:
        UserError: a package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"export needs packages that are missing ({error.name}): pip install onnx onnxscript onnxruntime"
        ) from None


def run_onnx(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What an ONNX file says: (B, S, S, 3) uint8 -> {output: (B, ...)}."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {FRAMES_INPUT: pixels}), strict=True))


def run_pt2(path: Path, names: Sequence[str]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function that runs a `.pt2` file: (B, S, S, 3) uint8 -> {output: (B, ...)}."""
    with _suppress_warnings():
        net = torch.export.load(path).module()

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {
                name: value.numpy() for name, value in zip(names, net(torch.from_numpy(pixels)), strict=True)
            }

    return run


@torch.inference_mode()
def _reference_outputs(classifier: Classifier, frames: np.ndarray) -> dict[str, np.ndarray]:
    """{output: what the classifier itself says of (n, 3, S, S) frames}."""
    batches: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(frames), BATCH_SIZE):
        outputs = classifier(torch.from_numpy(np.ascontiguousarray(frames[first : first + BATCH_SIZE])))
        for task in classifier.heads.n_outputs:
            batches.setdefault(f"{task}_probabilities", []).append(outputs[task].numpy())
        if classifier.novelty is not None:
            batches.setdefault(NOVELTY_OUTPUT, []).append(outputs[NOVELTY_OUTPUT].numpy())
    return {name: np.concatenate(parts) for name, parts in batches.items()}


def _check_parity(
    name: str,
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    pixels: np.ndarray,
    expected: Mapping[str, np.ndarray],
    predict_class: Callable[[str, np.ndarray], np.ndarray],
) -> ParityCheck:
    parts = [run(pixels[first : first + BATCH_SIZE]) for first in range(0, len(pixels), BATCH_SIZE)]
    differences, agreement = [], {}
    for output, wanted in expected.items():
        found = np.concatenate([part[output] for part in parts])
        task = output.removesuffix("_probabilities")
        if output == NOVELTY_OUTPUT:
            agreement[NOVELTY_OUTPUT] = float(((found > 1) == (wanted > 1)).mean())
            continue
        differences.append(np.abs(found - wanted).max())
        agreement[task] = float((predict_class(task, found) == predict_class(task, wanted)).mean())
    return ParityCheck(name, len(pixels), float(np.max(differences)), agreement)  # NaN stays NaN


def _prevalence(classifier: Classifier) -> dict[str, np.ndarray]:
    held = classifier.heads.split_by_task(classifier.heads.prevalence)
    return {task: of_task.cpu().numpy() for task, of_task in held.items()}


def _class_predictor(classifier: Classifier) -> Callable[[str, np.ndarray], np.ndarray]:
    """A function of a task and (n, C) probabilities, to (n,) the class, or which lesions, that they say."""
    prevalences, several = _prevalence(classifier), classifier.heads.multilabel

    def predict_class(task: str, p: np.ndarray) -> np.ndarray:
        return (
            (p >= prevalences[task]) @ (1 << np.arange(p.shape[1]))
            if task in several
            else balanced_choice(p, prevalences[task])
        )

    return predict_class


def write_pt2(portable: ExportableClassifier, pixels: np.ndarray, metadata: str, path: Path) -> None:
    """Export by `torch.export` with a free batch size; (n, S, S, 3) uint8 `pixels` are the example."""
    batch = torch.export.Dim("batch", min=1)
    example = torch.from_numpy(pixels[:MIN_FRAMES])
    program = torch.export.export(portable, (example,), dynamic_shapes={FRAMES_INPUT: {0: batch}})
    with atomic_write(path) as part, part.open("wb") as stream, _suppress_warnings():
        torch.export.save(program, stream, extra_files={METADATA_FILE: metadata})


def _write_onnx(
    portable: ExportableClassifier, pixels: np.ndarray, names: Sequence[str], metadata: str, path: Path
) -> None:
    batch = torch.export.Dim("batch", min=1)
    with _suppress_warnings():
        program = torch.onnx.export(
            portable,
            (torch.from_numpy(pixels[:MIN_FRAMES]),),
            dynamo=True,
            input_names=[FRAMES_INPUT],
            output_names=list(names),
            dynamic_shapes={FRAMES_INPUT: {0: batch}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    with atomic_write(path) as part:
        program.save(str(part), external_data=False)
        _write_metadata(part, metadata)


def _write_int8(exact: Path, pixels: np.ndarray, metadata: str, path: Path) -> None:
    """Static quantisation of the convolutions, their ranges taken from real frames (per channel)."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = (
                {FRAMES_INPUT: pixels[first : first + BATCH_SIZE]}
                for first in range(0, len(pixels), BATCH_SIZE)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with atomic_write(path) as part, _suppress_warnings():
        quantization.quantize_static(
            str(exact),
            str(part),
            Reader(),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        _write_metadata(part, metadata)


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Without the hints that libraries give their own developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_metadata(path: Path, metadata: str) -> None:
    """Put the facts into the metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"simclr_rhd": metadata})
    onnx.save(model, path)
