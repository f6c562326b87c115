"""The trained model for other programs: safetensors, torch.export, ONNX, ONNX with 8-bit weights.

Each is compared with PyTorch.

Notation: B frames at once, S pixels of a prepared frame's side, s of a view's.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write
from simclr_rhd.inference.classifier import Classifier, preprocessing
from simclr_rhd.inference.parity import (
    BATCH_SIZE,
    ENCODER_PREFIX,
    FRAMES_INPUT,
    HEADS_PREFIX,
    METADATA_KEY,
    ParityCheck,
    ParityChecker,
    output_names,
    run_onnx,
    run_pt2,
    run_safetensors,
    suppress_warnings,
)
from simclr_rhd.ssl.augment import normalise
from simclr_rhd.ssl.encoder.model import forward_with_ood_stats, fuse_batchnorm

SAFETENSORS, PT2, ONNX, INT8 = "model.safetensors", "model.pt2", "model.onnx", "model.int8.onnx"
METADATA_FILE = "simclr_rhd.json"  # of the metadata
MAX_DIFFERENCE = 1e-4  # of probabilities, that an exported model may differ by
OPSET = 18
MIN_FRAMES = 2  # to fit on, and to check with


class ExportableClassifier(nn.Module):
    """The classifier as one graph of common operations: uint8 frames in, probabilities out.

    Args:
        classifier: that is exported; its batch norms are folded into the convolutions.
    """

    resize: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        facts = classifier.facts
        self.encoder = fuse_batchnorm(classifier.encoder)
        self.heads, self.novelty = classifier.heads, classifier.novelty
        # Resizing is linear: by two products with this (s, S), in place of an operation that runtimes lack.
        one = torch.eye(facts.stored_side)[None, None]
        size = (facts.image_size, facts.stored_side)
        self.register_buffer("resize", F.interpolate(one, size=size, mode="bilinear", antialias=True)[0, 0])

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> (B, C) float32 probabilities of each task, and (B,) novelty if known."""
        x = frames.permute(0, 3, 1, 2).float() / 255
        views = normalise(self.resize @ x @ self.resize.T)
        described = forward_with_ood_stats(self.encoder, views)
        probabilities = [
            logits.sigmoid() if task in self.heads.multilabel else logits.softmax(dim=1)
            for task, logits in self.heads(described["features"]).items()
        ]
        return (*probabilities, *([] if self.novelty is None else [self.novelty(described)]))


def export_metadata(classifier: Classifier) -> dict[str, object]:
    """Facts that a program needs beside the numbers, in types of JSON."""
    facts = classifier.facts
    return {
        "side": facts.stored_side,
        "input": "uint8 RGB, each frame padded to a square with black and resized to side x side",
        "outputs": output_names(classifier),
        "classes": facts.classes,
        "multilabel": sorted(classifier.heads.multilabel),
        "prevalence": {
            task: output.prevalence.tolist() for task, output in classifier.task_outputs().items()
        },
        "said": "the class whose probability is largest for its prevalence; lesions as probable as frequent",
        "thresholds": facts.thresholds,
        "unproved": facts.unproved,
        "novelty": "above 1: unlike the frames that were learnt from",
        "synthetic": facts.synthetic,
        "trained_on": facts.trained_on,
        "use": "Research use only. Not a medical device.",
    }


def export_classifier(classifier: Classifier, frames: np.ndarray, folder: Path) -> list[ParityCheck]:
    """Write `model.safetensors`, `model.pt2`, `model.onnx` and `model.int8.onnx`.

    The weights of the last are fitted on the first half of the frames, and all are checked on the second.

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
    names = output_names(classifier)
    pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    metadata = json.dumps(export_metadata(classifier), ensure_ascii=False)
    write_safetensors(classifier, folder / SAFETENSORS)
    program = trace(ExportableClassifier(classifier).eval(), pixels)
    write_pt2(program, metadata, folder / PT2)
    _write_onnx(program, names, metadata, folder / ONNX)
    checker = ParityChecker(classifier, frames[1::2])
    checks = [
        checker.check(SAFETENSORS, run_safetensors(folder / SAFETENSORS)),
        checker.check(PT2, run_pt2(folder / PT2, names)),
        checker.check(ONNX, run_onnx(folder / ONNX)),
    ]
    for check in checks:
        if not check.max_difference <= MAX_DIFFERENCE:
            (folder / check.name).unlink(missing_ok=True)
            raise UserError(
                f"{folder / check.name}: its probabilities differed from PyTorch's by up to "
                f"{check.max_difference:.1e}, more than {MAX_DIFFERENCE:g}, so it was removed. Please report "
                "this with the versions of torch, onnx and onnxruntime"
            )
    _write_int8(folder / ONNX, pixels[0::2], metadata, folder / INT8)
    return [*checks, checker.check(INT8, run_onnx(folder / INT8))]


def require_onnx_packages() -> None:
    """Check that onnx, onnxruntime and onnxscript are installed.

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


def write_safetensors(classifier: Classifier, path: Path) -> None:
    """Write encoder and heads, under torchvision's and our names, with the facts as text."""
    facts = export_metadata(classifier) | {
        "preprocessing": preprocessing(classifier.facts),
        "encoder": "torchvision's resnet18 without fc; features: the means over the maps of layer1 to layer4",
        "heads": "the last features, standardised; linear, over the temperature, plus bias; then softmax, or "
        "sigmoid where multilabel",
    }
    del facts["outputs"], facts["novelty"]  # of the graphs
    parts = ((ENCODER_PREFIX, classifier.encoder), (HEADS_PREFIX, classifier.heads))
    tensors = {
        prefix + name: x.contiguous() for prefix, part in parts for name, x in part.state_dict().items()
    }
    # one entry: several have no fixed order, and the bytes would differ from one export to the next
    content = safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(facts, ensure_ascii=False)})
    with atomic_write(path) as part:
        part.write_bytes(content)


def trace(portable: ExportableClassifier, pixels: np.ndarray) -> torch.export.ExportedProgram:
    """Export by `torch.export` with a free batch size; (n, S, S, 3) uint8 `pixels` are the example."""
    batch = torch.export.Dim("batch", min=1)
    example = torch.from_numpy(pixels[:MIN_FRAMES])
    return torch.export.export(portable, (example,), dynamic_shapes={FRAMES_INPUT: {0: batch}})


def write_pt2(program: torch.export.ExportedProgram, metadata: str, path: Path) -> None:
    """Write a traced classifier and its facts."""
    with atomic_write(path) as part, part.open("wb") as stream, suppress_warnings():
        torch.export.save(program, stream, extra_files={METADATA_FILE: metadata})


def _write_onnx(
    program: torch.export.ExportedProgram, names: Sequence[str], metadata: str, path: Path
) -> None:
    with suppress_warnings():
        onnx_program = torch.onnx.export(
            program,  # and not the module: PyTorch 2.9 would trace it anew, and refuse a batch of one
            dynamo=True,
            input_names=[FRAMES_INPUT],
            output_names=list(names),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert onnx_program is not None
    with atomic_write(path) as part:
        onnx_program.save(str(part), external_data=False)
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

    with atomic_write(path) as part, suppress_warnings():
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


def _write_metadata(path: Path, metadata: str) -> None:
    """Put the facts into the metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata})
    onnx.save(model, path)
