"""Settings and environments that differ between finished runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from simclr_rhd.core.config import flag_name
from simclr_rhd.report.compare.load_run import Runs

AS_USED = ", as used"  # after a flag whose value the program decided


def differing_settings(runs: Runs) -> dict[str, list[str]]:
    """{flag in its spelling: its value in each run}, where they differ; also what the program decided."""
    flags = {
        flag_name(name): row for name, row in _differing_rows([run.flags for run in runs.values()]).items()
    }
    decided = _differing_rows([run.training_settings for run in runs.values()])
    return flags | {
        f"{flag_name(name)}{AS_USED}": row
        for name, row in decided.items()
        if flags.get(flag_name(name)) != row
    }


def differing_environment(runs: Runs) -> dict[str, list[str]]:
    """{'commit', 'device' or a package: its value in each run}, of those that differ."""
    return _differing_rows([run.environment for run in runs.values()], absent="-")


def _differing_rows(records: Sequence[Mapping[str, Any]], absent: str = "default") -> dict[str, list[str]]:
    names = dict.fromkeys(name for record in records for name in record)
    rows = {name: [_format_value(record, name, absent) for record in records] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def _format_value(record: Mapping[str, Any], name: str, absent: str) -> str:
    if name not in record:  # not known to the version that made the run
        return "-"
    value = record[name]
    if value is None or isinstance(value, bool):
        return absent if value is None else "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
