"""The program's own commands on a device, each in a process of its own."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from gpu_rows.bench import Bench, Outcome, check
from gpu_rows.speed import write_pictures
from simclr_rhd import load_model
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.inference import classifier

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "--epochs 2 --linear-epochs 5 --finetune --finetune-epochs 1 --no-figures --no-rehearsal"
DEMO = "--demo-patients 24"
TINY = "--epochs 1 --linear-epochs 2 --demo-patients 12 --image-size 32 --view-sizes full"


def run_command(*arguments: str) -> str:
    """Output of `main.py`.

    Raises:
        RuntimeError: its exit status is not 0.
    """
    done = subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"main.py {arguments[0]}: status {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def train_and_predict(bench: Bench) -> Outcome:
    """The main job with fine-tuning, then `predict` on the device and on the processor."""
    save_dir, device = bench.folder / "models", bench.device.type
    flags = ["--device", device, "--save-dir", str(save_dir), "--cache-dir", str(bench.folder / "cache")]
    flags += TRAIN.split()
    if bench.data:
        flags += ["--data", bench.data]
    else:
        flags += (DEMO if bench.sizes.judged else TINY).split()
    run_command("train", *flags)
    pictures, tables = write_pictures(bench)[0].parent, []
    for where in dict.fromkeys((device, "cpu")):
        out = bench.folder / f"{where}.csv"
        run_command(
            *("predict", str(pictures), "--model", str(save_dir / "model.pt"), "--device", where),
            *("--out", str(out), "--cache-dir", str(bench.folder / "cache")),
        )
        with out.open(newline="") as stream:
            tables.append([row["probability"] for row in csv.DictReader(stream)])
    apart = max(abs(float(a) - float(b)) for a, b in zip(tables[0], tables[-1], strict=True))
    return check(
        apart <= 1e-3,
        f"training, fine-tuning and predict on {device}: exit 0; probabilities within {apart:.1e} of the "
        "processor's",
        apart=apart,
    )


def exported(bench: Bench) -> Outcome:
    """An exported model on the processor against the same model on the device."""
    from simclr_rhd.inference import export, parity

    model_path = bench.folder / "models" / "model.pt"
    if not model_path.exists():
        raise RuntimeError("there is no model: the row of the commands failed")
    model = classifier.load(model_path)
    side = storage_size(model.facts.image_size)
    frames = np.random.default_rng(0).integers(0, 256, (16, 3, side, side), np.uint8)
    folder = bench.folder / "exported"
    folder.mkdir(exist_ok=True)
    pixels = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    program = export.trace(export.ExportableClassifier(model).eval(), pixels)
    export.write_pt2(program, "{}", folder / export.PT2)
    outputs = parity.run_pt2(folder / export.PT2, parity.output_names(model))(pixels)
    there = load_model(model_path, device=bench.device.type).predict_squares(frames).probabilities
    apart = max(float(np.abs(outputs[f"{task}_probabilities"] - p).max()) for task, p in there.items())
    return check(
        apart <= 1e-3, f"model.pt2 on the processor within {apart:.1e} of {bench.device.type}", apart=apart
    )
