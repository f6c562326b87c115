"""The commands: what each does with its knobs. Heavy packages are imported once a command is known."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from simclr_rhd.cli.arguments import Command, CompareArgs, ExportArgs, PredictArgs, RunsArgs, class_shares
from simclr_rhd.config import Config
from simclr_rhd.inference.external.config import ExternalConfig

logger = logging.getLogger("simclr_rhd")


def run(config: Config | Command, argv: Sequence[str]) -> None:
    """Do what a command line asks for.

    Args:
        config: as parsed.
        argv: the command line, for the record.
    """
    if isinstance(config, CompareArgs):
        compare(config)
    elif isinstance(config, RunsArgs):
        from simclr_rhd.cli.runs import runs

        runs(config)
    elif isinstance(config, PredictArgs):
        predict(config)
    elif isinstance(config, ExportArgs):
        export(config)
    elif isinstance(config, ExternalConfig):
        from simclr_rhd.cli.evaluate import evaluate

        evaluate(config, argv)
    elif config.command == "estimate":
        estimate(config)
    else:
        from simclr_rhd.pipeline import train

        train(config, argv)


def compare(config: CompareArgs) -> None:
    """Write finished runs beside each other, on one page."""
    from simclr_rhd.report.compare import page
    from simclr_rhd.report.compare.differences import name_runs
    from simclr_rhd.report.compare.load_run import read_runs
    from simclr_rhd.report.compare.sentences import to_text

    runs, out = name_runs(read_runs([Path(folder) for folder in config.runs])), Path(config.out)
    page.write_comparison_page(out, runs)
    for line in [*to_text(runs), f"Look at {out}"]:
        logger.info(line)


def predict(config: PredictArgs) -> None:
    """Classify files: tables beside `--out`, a page if `--html` names one, a summary on the terminal."""
    from simclr_rhd import load_model
    from simclr_rhd.core.device import make_deterministic
    from simclr_rhd.core.files import ensure_writable_dir
    from simclr_rhd.data.decoding.decode import DecodeOptions
    from simclr_rhd.data.decoding.salt import load_salt
    from simclr_rhd.inference.prediction.exams import ExamCollector
    from simclr_rhd.inference.prediction.frame_reader import FrameReader
    from simclr_rhd.inference.prediction.input_files import find_inputs, read_patients
    from simclr_rhd.inference.prediction.predict_files import PredictionRun
    from simclr_rhd.inference.prediction.terminal_summary import summary_lines
    from simclr_rhd.report.page.exams.page import write_exam_page
    from simclr_rhd.report.page.webpage import require_page_path
    from simclr_rhd.report.wording import SYNTHETIC_WARNING

    make_deterministic()
    out, access = Path(config.out), config.bucket_access()
    ensure_writable_dir(out.parent, flag="--out")
    page = Path(config.html) if config.html else None
    if page:
        require_page_path(page, flag="--html", example="exams.html")
    model = load_model(config.model, device=config.device)
    inputs = find_inputs(config.paths, access)
    patients = read_patients(config.patients_csv, inputs)
    options = DecodeOptions(
        model.facts.stored_side, config.frames_per_clip, config.max_pixels, load_salt(access.cache_dir)
    )
    prediction = PredictionRun(model, FrameReader(inputs, patients, options), class_shares(config.prevalence))
    collector = ExamCollector()
    prediction.write(out, protected=config.patients_csv, on_frame=collector.add if page else None)
    if page:
        write_exam_page(page, prediction, collector, tables=out)
    for line in summary_lines(prediction, out):
        logger.info(line)
    if page:
        logger.info("a page to read, with the frames that decided: %s", page)
    if model.facts.synthetic:
        logger.warning("%s Its model has learnt from them.", SYNTHETIC_WARNING)


def export(config: ExportArgs) -> None:
    """Write a model for other runtimes, each checked on real frames."""
    from simclr_rhd.core.device import make_deterministic
    from simclr_rhd.core.files import ensure_writable_dir
    from simclr_rhd.inference import classifier
    from simclr_rhd.inference import export as exporting
    from simclr_rhd.inference.prediction.frame_reader import sample_frames
    from simclr_rhd.inference.prediction.input_files import find_inputs, labelled_of_run

    make_deterministic()
    exporting.require_onnx_packages()
    model, path = classifier.load(config.model), Path(config.model)
    folder, access = Path(config.out or path.parent / "exported"), config.bucket_access()
    ensure_writable_dir(folder, flag="--out")
    if config.frames:
        inputs = find_inputs(config.frames, access)
    else:
        inputs = [labelled_of_run(path.parent, config)]
    frames = sample_frames(inputs, side=model.facts.stored_side, max_pixels=config.max_pixels)
    logger.info("export: %d frames to fit the 8-bit weights on and to check with", len(frames))
    for check in exporting.export_classifier(model, frames, folder):
        agreement = ", ".join(f"{task} {share:.1%}" for task, share in check.agreement.items())
        logger.info(
            "%s: probabilities within %.1e of PyTorch's on %d frames, the same class: %s",
            *(folder / check.name, check.max_difference, check.frames, agreement),
        )


def estimate(config: Config) -> None:
    """Log the memory and time that a run with these flags would take."""
    from simclr_rhd import pipeline
    from simclr_rhd.core.device import make_deterministic, resolve_device
    from simclr_rhd.core.distributed import is_main_process
    from simclr_rhd.planning.estimate import estimate as estimate_run
    from simclr_rhd.planning.precision import resolve_precision
    from simclr_rhd.ssl.encoder.model import build

    if not is_main_process():
        return
    make_deterministic()
    device = resolve_device(config.device)
    config = replace(config, precision=resolve_precision(config.precision, device))
    build(config.init, seed=config.seed)  # weights that cannot be read are known at once
    estimate_run(config, device, pipeline.load_dataset, pipeline.run_stages)
