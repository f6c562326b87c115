"""The page `checklist.md`."""

from collections.abc import Iterator
from dataclasses import dataclass

from simclr_rhd.report.checklist.claim import CLAIM
from simclr_rhd.report.checklist.items import Guideline, Item, RunFacts
from simclr_rhd.report.checklist.stard_ai import STARD_AI
from simclr_rhd.report.checklist.tripod_ai import TRIPOD_AI
from simclr_rhd.report.findings import data_warnings
from simclr_rhd.report.wording import escape_markdown, markdown_table

GUIDELINES = (TRIPOD_AI, CLAIM, STARD_AI)
TO_BE_FILLED = "to be filled by you"
MAX_REPEATED = 120  # characters of a text that stands at several items; a longer one stands at the first


@dataclass(frozen=True)
class FilledItem:
    """An item with what a run knows of it.

    Attributes:
        item: of a guideline.
        known: what the run knows; "" for nothing.
    """

    item: Item
    known: str

    @property
    def is_complete(self) -> bool:
        """Return True if nothing is left to the authors."""
        return bool(self.known) and not self.item.rest

    @property
    def open(self) -> str:
        """The rest for the authors; "" for nothing."""
        if self.is_complete:
            return ""
        return f"{TO_BE_FILLED}: {self.item.rest}" if self.item.rest else TO_BE_FILLED


def fill(guideline: Guideline, facts: RunFacts) -> list[FilledItem]:
    """The items of a guideline with what a run knows of each."""
    return [FilledItem(item, item.fact(facts).strip() if item.fact else "") for item in guideline.items]


def checklist(facts: RunFacts) -> str:
    """The page in Markdown: for each guideline a table of its items."""
    lines = ["# Checklists for the paper", ""]
    for warning in data_warnings(facts.results):
        lines += [f"> **{escape_markdown(warning)}**", ""]
    names = ", ".join(guideline.name for guideline in GUIDELINES)
    lines += [
        f"The items of {names} by number, each with its subject in our words and with what this run knows of "
        f"it. What it cannot know is **{TO_BE_FILLED}**. The guidelines' own texts say what is wanted; this "
        "page does not replace them.",
        "",
    ]
    places = dict[str, str]()
    for guideline in GUIDELINES:
        lines += [*_section(guideline, fill(guideline, facts), places), ""]
    return "\n".join(lines)


def _section(guideline: Guideline, filled: list[FilledItem], places: dict[str, str]) -> Iterator[str]:
    """The lines of a guideline; `places` are {text: the item that has it}, and grow."""
    complete = sum(of.is_complete for of in filled)
    unknown = sum(not of.known for of in filled)
    yield f"## {guideline.name}"
    yield ""
    yield (
        f"For {guideline.scope}: {guideline.source}. Of {len(filled)} items and sub-items this run fills "
        f"{complete}, and {len(filled) - complete - unknown} in part; {unknown} are yours."
    )
    yield ""
    rows = []
    for of in filled:
        place = f"{guideline.name} {of.item.number}"
        first = places.setdefault(of.known, place)
        known = of.known if first == place or len(of.known) <= MAX_REPEATED else f"See {first}."
        rows.append([of.item.number, of.item.about, known, of.open])
    yield from markdown_table(["item", "subject", "this run", "yours"], rows)
