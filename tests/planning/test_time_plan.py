"""The plan of a run that has to end in time, from steps whose time is made up."""

import json
import re
from dataclasses import replace

import pytest
from small_run import arguments, run_small
from step_costs import COST

from simclr_rhd.cli.command_line import parse
from simclr_rhd.core import logs
from simclr_rhd.core.errors import UserError
from simclr_rhd.planning import profiler
from simclr_rhd.planning.run_estimate import Plan
from simclr_rhd.planning.time_plan import ENOUGH_EPOCHS, FEW_LINEAR_EPOCHS, MARGIN, TimePlan, plan_time

QUICK = replace(COST, pair_s=0.005, smaller=[(32, 0.4), (48, 0.7)])
STAGES = (32, 48, 64)


def amounts(config, **more):
    return Plan(
        rows=1000,
        val_frames=100,
        labelled=500,
        batch=64,
        micro_batch=None,
        epochs=config.epochs,
        patience=5,
        knn_every=0,
        linear_epochs=config.linear_epochs,
        figures=True,
        setup_s=30.0,
        **more,
    )


def planned(*flags, cost=QUICK, **more):
    config = parse(list(flags))
    return plan_time(config, cost, amounts(config, **more))


def total_s(plan):
    return plan.past_s + plan.pretraining_s + plan.after_s


@pytest.mark.parametrize("minutes", [2, 3, 5, 60])
@pytest.mark.parametrize("pretrainings", [1, 4])
def test_a_plan_fills_its_time_but_for_the_margin(minutes, pretrainings):
    plan = planned("--minutes", str(minutes), pretrainings=pretrainings)
    within = 60 * minutes - MARGIN * (60 * minutes - 30)
    assert total_s(plan) <= within < total_s(plan) + pretrainings * max(plan.epoch_s.values())
    assert plan.past_s == 30 and plan.epochs < 10_000


def test_the_epochs_asked_for_are_the_upper_bound():
    assert planned("--minutes", "60", "--epochs", "7").epochs == 7
    free, bound = planned("--minutes", "60"), planned("--minutes", "60", "--epochs", "100")
    assert free.epochs > 100 == bound.epochs


def test_more_minutes_never_give_fewer_epochs():
    epochs = [planned("--minutes", str(minutes)).epochs for minutes in (1.5, 2, 2.5, 3, 5, 10, 60, 1000)]
    assert epochs == sorted(epochs) and len(set(epochs)) > 5


def test_a_plan_with_time_for_enough_epochs_makes_nothing_cheaper():
    plan = planned("--minutes", "20", "--linear-epochs", "50")
    assert plan.epochs >= ENOUGH_EPOCHS and plan.linear_epochs == 50 and plan.cheaper == []


def test_where_few_epochs_fit_one_thing_after_the_other_is_cheaper():
    """The rehearsal by the minutes alone; then the maps, then the heads; what is left are few epochs."""
    slow = replace(QUICK, pair_s=0.01, frame_s=0.0)
    first_words = ["no dress rehearsal", "t-SNE and UMAP", "the heads learn for 20 epochs instead of 900"]
    lengths = []
    for minutes in (9.9, 4.4, 3.2, 1.8):
        plan = planned("--minutes", str(minutes), "--linear-epochs", "900", cost=slow, n_head_fits=1)
        lengths.append(len(plan.cheaper))
        for sentence, words in zip(plan.cheaper, first_words, strict=False):
            assert sentence.startswith(words)
        assert plan.linear_epochs == (900 if len(plan.cheaper) < 3 else FEW_LINEAR_EPOCHS)
        assert ("are few" in plan.cheaper[-1]) == (plan.epochs < ENOUGH_EPOCHS)
    assert lengths[0] == 1 and lengths == sorted(lengths) and lengths[-1] == 4


def test_what_is_not_there_is_not_made_cheaper():
    plan = planned("--minutes", "1.5", "--linear-epochs", "9", "--no-rehearsal")
    assert plan.linear_epochs == 9 and "heads" not in " ".join(plan.cheaper)
    assert "rehearsal" not in " ".join(plan.cheaper)


def test_too_short_a_time_is_refused_with_the_least_that_suffices():
    with pytest.raises(UserError, match=r"--minutes 0.7: all before .* 30 s, one epoch") as refused:
        planned("--minutes", "0.7")
    least = float(re.search(r"wanted --minutes ([\d.]+) or more", str(refused.value))[1])
    assert planned("--minutes", str(least)).epochs >= 1
    with pytest.raises(UserError, match="wanted --minutes"):
        planned("--minutes", str(round(least - 0.1, 1)))


def test_a_plan_is_read_as_it_was_written():
    plan = planned("--minutes", "3")
    assert TimePlan.from_record(json.loads(json.dumps(vars(plan))), "run.json", STAGES) == plan
    assert plan.limit().epoch_s[64] == plan.epoch_s["64"] > plan.epoch_s["32"]


def test_heads_that_are_trained_again_have_all_their_epochs():
    flags = ["--minutes", "1.5", "--linear-epochs"]
    plan = planned(*flags, "900")
    assert plan.linear_epochs == FEW_LINEAR_EPOCHS
    again = plan.for_evaluation(parse([*flags, "33", "--evaluate-again"]))
    assert again == replace(plan, linear_epochs=33, cheaper=["no dress rehearsal, as below 10 minutes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: found 0, wanted from 1 to 100,000"),
        ({"minutes": "three"}, "minutes: found .*three.*, wanted a number"),
        (
            {"epoch_s": {"32": 1.0, "48": 2.0}},
            "epoch_s: found an object, wanted seconds .* 32, 48, 64 pixels",
        ),
        ({"epoch_s": {"32": 1.0, "48": 2.0, "64": 0.0}}, "epoch_s: found an object, wanted seconds above 0"),
        ({"cheaper": None}, "cheaper: found null, wanted a list"),
    ],
)
def test_a_damaged_plan_is_refused_in_words(change, message):
    record = vars(planned("--minutes", "3")) | change
    with pytest.raises(UserError, match=f"run.json: {message}"):
        TimePlan.from_record(record, "run.json", STAGES)


def test_the_log_has_the_plan():
    plan = planned("--minutes", "3", "--epochs", "12")
    line, *notices = plan.lines(STAGES)
    assert re.match(
        r"--minutes 3: planned are 12 epochs \(\d+ of 32 pixels, \d+ of 48 .*annealing in the last 2\)", line
    )
    assert f"{total_s(plan) / 60:.1f} minutes in all" in line
    assert notices == ["NOTICE --minutes 3: no dress rehearsal, as below 10 minutes"]


@pytest.fixture
def clock(monkeypatch):
    """A log that is always ten seconds old, and steps of which a plan of two minutes holds two epochs."""
    monkeypatch.setattr(logs, "elapsed", lambda: 10.0)
    steps = replace(COST, pair_s=0.2)
    monkeypatch.setattr(profiler, "_profile", lambda config, device: steps)
    return steps


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_a_run_keeps_its_plan_when_it_is_continued(clock, cache, tmp_path, monkeypatch, capfd):
    """On a machine that is ten times as fast, too, the epochs are those of the first plan."""
    argv = arguments(cache, tmp_path / "run", "--no-figures", "--epochs", "90", "--minutes", "2")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("simclr_rhd.pipeline.evaluate_encoders", stop)
        assert run_small(argv) == 130
    first = record_of(tmp_path / "run")
    epochs = first["time_plan"]["epochs"]
    assert epochs == 2 and first["settled"]["epochs"] == epochs and first["config"]["epochs"] == 90
    printed = capfd.readouterr().out
    assert f"planned are {epochs} epochs" in printed and "NOTICE --minutes 2: no dress rehearsal" in printed
    monkeypatch.setattr(profiler, "_profile", lambda config, device: replace(clock, pair_s=clock.pair_s / 10))
    assert run_small(argv) == 0
    printed, second = capfd.readouterr().out, record_of(tmp_path / "run")
    assert f"the plan of {epochs} epochs is that of the run before" in printed
    assert second["time_plan"] == first["time_plan"] and second["settled"] == first["settled"]
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history if row["phase"] == "simclr"] == list(range(1, epochs + 1))
    assert "rehearsal" not in second["wall_s"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "time_plan" in page and "no dress rehearsal, as below 10 minutes" in page
    assert f"| --epochs | {epochs} |" in (tmp_path / "run" / "model_card.md").read_text()
    assert run_small([*argv, "--minutes", "3"]) == 2
    assert "holds another run (--minutes was 2.0, is 3.0)" in capfd.readouterr().err


@pytest.mark.slow
def test_the_command_estimate_has_the_plan_too(clock, cache, tmp_path, capfd):
    argv = ["estimate", *arguments(cache, tmp_path / "run", "--no-figures", "--minutes")]
    assert run_small([*argv, "2", "--epochs", "90"]) == 0
    printed = capfd.readouterr().out
    epochs = int(re.search(r"planned are (\d+) epochs", printed)[1])
    assert f"with all {epochs} epochs as planned" in printed
    assert run_small([*argv, "0.2"]) == 2
    assert "wanted --minutes" in capfd.readouterr().err


@pytest.mark.slow
def test_a_warm_up_that_is_longer_than_the_time_is_refused(clock, cache, tmp_path, capfd):
    argv = ["estimate", *arguments(cache, tmp_path / "run", "--no-figures", "--minutes")]
    assert run_small([*argv, "2", "--epochs", "900", "--warmup-epochs", "890"]) == 2
    assert "--warmup-epochs 890: more than the" in capfd.readouterr().err
