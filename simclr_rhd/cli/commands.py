"""The commands beside the main job: what each is told, and its flags. Nothing heavy is imported here."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_rhd.data.decoding.limits import MAX_PIXELS

MODEL = "models/model.pt"


@dataclass(frozen=True)
class Comparison:
    """What `compare` is told: the folders of finished runs, the reference first, and the page to write."""

    runs: tuple[str, ...]
    out: str = "comparison.html"


@dataclass(frozen=True)
class Prediction:
    """What `predict` is told; one field a flag, `paths` what is to be classified."""

    paths: tuple[str, ...]
    model: str = MODEL
    out: str = "predictions.csv"
    patients_csv: str | None = None
    frames_per_clip: int | None = None
    max_pixels: int = MAX_PIXELS
    cache_dir: str | None = None
    offline: bool = False
    billing_project: str | None = None
    device: str = "auto"
    prevalence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """What `export` is told; one field a flag."""

    model: str = MODEL
    out: str | None = None  # None: a folder beside the model
    frames: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS
    cache_dir: str | None = None
    offline: bool = False
    billing_project: str | None = None


Command = Comparison | Prediction | Export


def parse_comparison(arguments: Sequence[str]) -> Comparison:
    """Read what follows `compare`."""
    parser = argparse.ArgumentParser(
        prog="main.py compare",
        usage="python3 main.py compare DIR DIR... [--out FILE.html]",
        description="Holds finished runs against each other, on one page: settings, curves, results, and by "
        "how much each run that tested the same frames differs from the first.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="*", metavar="DIR", help="folder of a finished run (its --save-dir)")
    parser.add_argument(
        "--out", default=Comparison.out, metavar="FILE.html", help="the page (default: %(default)s)"
    )
    found = parser.parse_intermixed_args(arguments)
    runs, out = tuple(map(os.path.expanduser, found.runs)), os.path.expanduser(found.out)
    if len(runs) < 2:
        parser.error(f"wanted the folders of two or more finished runs, got {len(runs)}")
    if not out.lower().endswith((".html", ".htm")):
        parser.error(f"--out {out}: wanted a file whose name ends in .html")
    return Comparison(runs, out)


def parse_prediction(arguments: Sequence[str]) -> Prediction:
    """Read what follows `predict`."""
    parser = argparse.ArgumentParser(
        prog="main.py predict",
        usage="python3 main.py predict PATH... [--model FILE] [--out FILE.csv] [flags]",
        description="Classifies frames, folders of frames, clips and DICOM files with a trained model: per "
        "frame, per video and per patient. Beside --out it writes the same as JSON, and tables of the "
        "videos, of the patients and of the files left out. Research use only.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a file, a folder, or gs://BUCKET/..., of frames, clips, DICOM",
    )
    parser.add_argument(
        "--model", default=MODEL, metavar="FILE", help="what a run has written (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        default=Prediction.out,
        metavar="FILE.csv",
        help="one row a frame and task (default: %(default)s)",
    )
    parser.add_argument(
        "--patients-csv",
        metavar="FILE",
        help="a table with columns FILENAME and PATIENT; DICOM files name their patient themselves",
    )
    parser.add_argument(
        "--frames-per-clip",
        type=int,
        metavar="N",
        help="evenly spaced frames of a clip or DICOM file at most (default: all)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="pixels of a frame at most; of a whole file, 25 times as many, or 1,000 for each of its bytes "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where a bucket's files are kept (default: the platform's user cache folder)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="use what is kept of a bucket, without the network"
    )
    parser.add_argument(
        "--billing-project",
        metavar="PROJECT",
        help="Google Cloud project that pays for reading a bucket whose requesters pay",
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--prevalence",
        action="append",
        default=[],
        metavar="CLASS=SHARE",
        help="the share of a class where the frames come from, which the probabilities shall hold for "
        "(default: that of the groups which the model was validated on); may be given for several classes, "
        "the others keep their proportions. The class that is said stays the same",
    )
    found = vars(parser.parse_intermixed_args(arguments))
    homes = {name: os.path.expanduser(found[name] or "") or None for name in ("cache_dir", "patients_csv")}
    out, model = os.path.expanduser(found["out"]), os.path.expanduser(found["model"])
    lists = {name: tuple(found[name]) for name in ("paths", "prevalence")}
    config = Prediction(**{**found, **homes, **lists, "out": out, "model": model})
    problems = [
        f"--prevalence {text}: wanted CLASS=SHARE, as in 'Definite RHD=0.02'"
        for text in config.prevalence
        if not _is_share(text)
    ]
    if not config.paths:
        problems.append("nothing to classify: wanted at least one PATH")
    if not out.lower().endswith(".csv"):
        problems.append(f"--out {out}: wanted a file whose name ends in .csv")
    if not Path(model).is_file():
        problems.append(f"--model {model}: no such file; wanted the model.pt that a run has written")
    if config.billing_project is not None and not any(path.startswith("gs://") for path in config.paths):
        problems.append(f"--billing-project {config.billing_project}: only a path gs://BUCKET/... reads it")
    if config.frames_per_clip is not None and config.frames_per_clip < 1:
        problems.append(f"--frames-per-clip {config.frames_per_clip}: wanted at least 1")
    if config.max_pixels < 1:
        problems.append(f"--max-pixels {config.max_pixels}: wanted at least 1")
    if problems:
        parser.error("\n  ".join(problems))
    return config


def shares_of(texts: Sequence[str]) -> dict[str, float]:
    """{class: share} of CLASS=SHARE."""
    return {name.strip(): float(share) for name, _, share in (text.rpartition("=") for text in texts)}


def _is_share(text: str) -> bool:
    name, _, share = text.rpartition("=")
    try:
        return bool(name.strip()) and math.isfinite(float(share))
    except ValueError:
        return False


def parse_export(arguments: Sequence[str]) -> Export:
    """Read what follows `export`."""
    parser = argparse.ArgumentParser(
        prog="main.py export",
        usage="python3 main.py export [--model FILE] [--out DIR] [--frames PATH...] [flags]",
        description="Writes a trained model as torch.export's model.pt2, as ONNX, and as ONNX with 8-bit "
        "weights, and checks each against PyTorch on real frames. Needs onnx, onnxscript and onnxruntime.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", default=MODEL, metavar="FILE", help="what a run has written (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder (default: 'exported' beside the model)")
    parser.add_argument(
        "--frames",
        nargs="+",
        default=[],
        metavar="PATH",
        help="real frames to fit the 8-bit weights on and to check with: files, folders, gs://BUCKET/... "
        "(default: labelled frames of the run)",
    )
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where a bucket's files are kept (default: the platform's user cache folder)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="pixels of a frame at most (default: %(default)s)",
    )
    parser.add_argument("--offline", action="store_true", help="use what is kept of a bucket")
    parser.add_argument(
        "--billing-project",
        metavar="PROJECT",
        help="Google Cloud project that pays for reading a bucket whose requesters pay",
    )
    found = vars(parser.parse_args(arguments))
    homes = {name: os.path.expanduser(found[name] or "") or None for name in ("cache_dir", "out")}
    config = Export(
        **{**found, **homes, "frames": tuple(found["frames"]), "model": os.path.expanduser(found["model"])}
    )
    if not Path(config.model).is_file():
        parser.error(f"--model {config.model}: no such file; wanted the model.pt that a run has written")
    if config.max_pixels < 1:
        parser.error(f"--max-pixels {config.max_pixels}: wanted at least 1")
    return config


PARSERS: dict[str, Callable[[Sequence[str]], Command]] = {
    "compare": parse_comparison,
    "predict": parse_prediction,
    "export": parse_export,
}
