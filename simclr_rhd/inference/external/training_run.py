"""The run that a model is of, as far as its files lie beside the model: its own test scores."""

import hashlib
import logging
from pathlib import Path

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import FINETUNED_MODEL, METRICS, RUN_RECORD
from simclr_rhd.core.records import read_json_object
from simclr_rhd.evaluation.results import LEVELS, RunResults
from simclr_rhd.runs.test_evaluations import PastEvaluations

logger = logging.getLogger("simclr_rhd")


def own_test_scores(model: Path, fingerprint: object) -> dict[str, dict[str, float | None]]:
    """{target: {level: balanced accuracy in the test part of the model's own run}}.

    Args:
        model: the model's file.
        fingerprint: of the data that it learnt from; a run beside it on other data is not its own.

    Returns:
        Empty where the run's files do not lie beside the model, or cannot be read.
    """
    folder = model.parent
    if not (folder / METRICS).is_file():
        return {}
    try:
        if read_json_object(folder / RUN_RECORD).object("data").text("fingerprint") != fingerprint:
            return {}
        results = RunResults.from_json(read_json_object(folder / METRICS).fields)
    except UserError as error:
        logger.info("NOTICE the scores of the model's own run are not shown: %s", error)
        return {}
    finetuned = model.name == FINETUNED_MODEL
    tests = {
        name: (result.finetuned.test if result.finetuned else {}) if finetuned else result.test
        for name, result in results.targets.items()
    }
    return {
        name: {level: of[level]["balanced_accuracy"].value for level in LEVELS if level in of}
        for name, of in tests.items()
    }


def own_test_evaluations(model: Path, pictures: str) -> int:
    """Times that pictures were scored as the test part in the folder of a model; 0 if they are not that part.

    Args:
        model: the model's file.
        pictures: their digest, see `digest_pictures`.
    """
    past = PastEvaluations.from_folder(model.parent, {}, evaluate_again=False)
    return past.n if past.test_part == pictures else 0


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
