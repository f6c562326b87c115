import logging
from types import SimpleNamespace

import pytest
import torch

from simclr_rhd.cli.command_line import parse
from simclr_rhd.planning import plan

FACTS = {"versions": {"torch": "2"}, "argv": [], "device": "CPU", "commit": "abc"}


@pytest.mark.parametrize(
    ("cached", "init", "named"),
    [(False, "random", True), (True, "random", False), (False, "imagenet", False)],
)
def test_the_log_names_imagenet_where_it_cannot_be_compared(monkeypatch, caplog, cached, init, named):
    """A run that starts from its weights downloads them before it compares."""
    monkeypatch.setattr(plan, "imagenet_weights_cached", lambda: cached)
    run = SimpleNamespace(record=SimpleNamespace(facts=FACTS), device=torch.device("cpu"))
    with caplog.at_level(logging.INFO, logger="simclr_rhd"):
        plan.announce(parse(["--data", "demo", "--init", init]), run)
    assert ("--init imagenet downloads them" in caplog.text) == named
