"""All knobs of a run, composed of the rooms' own: each room takes the configuration as its own part of it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from simclr_rhd.core.config import DOWNSTREAM, NOTHING
from simclr_rhd.evaluation.config import EvaluationConfig
from simclr_rhd.heads.config import FinetuneConfig
from simclr_rhd.runs.config import RunConfig
from simclr_rhd.ssl.config import PretrainConfig


@dataclass(frozen=True)
class Config(RunConfig, EvaluationConfig, FinetuneConfig, PretrainConfig):
    """The configuration of the main job."""

    command: str = "train"

    def signature(self) -> dict[str, Any]:
        """The fields that decide a run's result, on the same data: equal signatures, the same run.

        As JSON would give them back, since they are compared with those of an earlier run.
        """
        affects = {field.name: field.metadata.get("affects", NOTHING) for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name, what in affects.items() if what != NOTHING}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def downstream_fields() -> list[str]:
    """Names of the fields that affect only what follows pretraining: `--evaluate-again` may change them."""
    return [field.name for field in dataclasses.fields(Config) if field.metadata.get("affects") == DOWNSTREAM]
