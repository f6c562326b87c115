"""The items of a guideline, and what a run can say to one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simclr_rhd.evaluation.results import RunResults


@dataclass(frozen=True)
class RunFacts:
    """The records of a run that items are filled from.

    Attributes:
        results: of the run.
        run: the content of `run.json`.
        figures: whether pictures were drawn.
    """

    results: RunResults
    run: Mapping[str, Any]
    figures: bool

    @property
    def counts(self) -> Mapping[str, Any]:
        """The counts of the data."""
        counts: Mapping[str, Any] = self.run["counts"]
        return counts

    def setting(self, name: str) -> str:
        """A flag's value as the run used it; '-' for one that it does not know."""
        known = self.run["config"] | self.run.get("settled", {})
        return str(known.get(name, "-"))


Fact = Callable[[RunFacts], str]  # sentences on a run; "" where it knows nothing of this


@dataclass(frozen=True)
class Item:
    """An item of a guideline.

    Attributes:
        number: as the guideline has it.
        about: its subject in a few words of our own; the guideline's text says what is wanted.
        fact: what the run knows of it.
        rest: what only the authors know of it; "" where the run knows all.
    """

    number: str
    about: str
    fact: Fact | None = None
    rest: str = ""


@dataclass(frozen=True)
class Guideline:
    """A reporting guideline.

    Attributes:
        name: its name.
        source: where it was published.
        scope: the studies that it is for.
        items: all of them, in its order.
    """

    name: str
    source: str
    scope: str
    items: tuple[Item, ...]
