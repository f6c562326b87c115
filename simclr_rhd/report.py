"""`report.html`: all that a run found on one page, in one file."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_rhd.files import replacing
from simclr_rhd.metrics import AVERAGES
from simclr_rhd.summary import (
    LEVELS,
    RIVALS,
    baseline,
    difference,
    figure,
    headlines,
    interval,
    remarks,
    results,
    verdicts,
)


def write_html(
    path: Path,
    *,
    metrics: dict[str, Any],
    run: dict[str, Any],
    figures: Mapping[str, Path],
) -> None:
    """Write one self-contained page: no script, nothing fetched; all names are escaped.

    Args:
        path: the file to write.
        metrics: the content of `metrics.json`.
        run: the content of `run.json`; shown as it is.
        figures: PNG files by title, in order.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"figure": figure, "interval": interval, "difference": difference}
    pictures = {title: base64.b64encode(picture.read_bytes()).decode() for title, picture in figures.items()}
    facts: dict[str, Any] = {"run": {}}
    for name, value in run.items():
        if isinstance(value, Mapping) and name != "signature":  # the configuration says that, too
            facts[name] = value
        elif name not in (
            "signature",
            "summary",
            "status",
            "finished",
            "figures",
        ):  # known once this is written
            facts["run"][name] = value
    text = page.get_template("report.html").render(
        metrics=metrics,
        run=facts,
        pictures=pictures,
        headlines=headlines(metrics),
        verdicts=verdicts(metrics),
        baseline=baseline,
        results=dict(results(metrics)),
        remarks=remarks(metrics),
        rivals=RIVALS | {"neighbours": "nearest neighbours"},
        levels=LEVELS,
        averages=AVERAGES,
        is_table=_is_table,
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _is_table(value: Mapping[str, Any]) -> bool:
    """Whether the values are records with the same names, so that they make rows of one table."""
    rows = list(value.values())
    flat = all(
        isinstance(row, Mapping) and not any(isinstance(cell, Mapping) for cell in row.values())
        for row in rows
    )
    return flat and len(rows) > 1 and len({tuple(row) for row in rows}) == 1
