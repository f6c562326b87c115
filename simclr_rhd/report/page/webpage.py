"""HTML pages of one file: nothing is fetched, all names are escaped, and no script runs but our own."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import REPORT, RUN_RECORD
from simclr_rhd.core.files import atomic_write, ensure_writable_dir
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.report.charts.style import DARK, whole_percent
from simclr_rhd.report.wording import format_difference, format_interval, format_score, format_signed

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class ForestRow:
    """A row of the macro `forest`: a score with its interval, as a bar.

    Attributes:
        name: of what is scored.
        score: without a value where it cannot be computed; None for a heading.
        ours: whether it is the model's.
        note: beside the bar.
    """

    name: str
    score: Score | None
    ours: bool = False
    note: str = ""


def require_page_path(path: Path, *, flag: str, example: str) -> None:
    """Make sure that a page can be written, and that it replaces no report of a run.

    Args:
        path: the page.
        flag: that names it.
        example: the name of a page.

    Raises:
        UserError: it cannot.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; wanted a file, such as {path / example}")
    if path.name == REPORT and (path.parent / RUN_RECORD).exists():
        raise UserError(f"{flag} {path}: is the report of a run; name another file")
    ensure_writable_dir(path.parent, flag=flag)


def write_page(path: Path, template: str, *, script: str = "", private: bool = False, **values: Any) -> None:
    """Render a template to one self-contained file, written whole or not at all.

    Args:
        path: the file.
        template: name of a file in `templates/` that extends `page.html`.
        script: name of a script in `templates/`; the page's policy allows this very text and no other.
        private: its owner alone may read it.
        values: what the template shows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters |= {
        "format_score": format_score,
        "format_interval": format_interval,
        "format_difference": format_difference,
        "format_signed": format_signed,
        "is_table": is_table,
        "breakable": breakable,
        "heading": lambda name: name[:1].upper() + name[1:],
        "percent": lambda share: whole_percent(100 * share),
    }
    code = (TEMPLATES / script).read_text(encoding="utf-8") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = environment.get_template(template).render(
        palette=DARK,
        script=Markup(code),  # ours, not a user's
        script_source=Markup(f"'sha256-{digest}'" if code else "'none'"),
        **values,
    )
    with atomic_write(path, private=private) as part:
        part.write_text(text, encoding="utf-8")


def breakable(name: str) -> Markup:
    """A file's name that may be broken after each of its parts; escaped."""
    return Markup("<wbr>").join(re.split(r"(?<=[_. -])", name))


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a MIME type as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def svg_uri(text: str) -> str:
    """An SVG as an address: an image of its own, whose names meet no other's and whose scripts do not run."""
    return data_uri(text.encode(), "image/svg+xml")


def is_table(value: Mapping[str, Any]) -> bool:
    """Return True if the values are records with the same names, which make rows of one table."""
    rows = list(value.values())
    flat = all(
        isinstance(row, Mapping) and not any(isinstance(cell, Mapping) for cell in row.values())
        for row in rows
    )
    return flat and len(rows) > 1 and len({tuple(row) for row in rows}) == 1
