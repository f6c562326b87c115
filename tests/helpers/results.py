"""The content of `metrics.json`, as tests of what is said about it make it up."""

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.scores.records import AVERAGE_METRICS, PER_CLASS_METRICS

HOSTILE = "<script>alert(1)</script>"
RUN = {
    "status": "finished",
    "argv": ["main.py", "--save-dir", HOSTILE],
    "commit": None,
    "summary": "said above",
    "config": {"epochs": 3, "image_size": 64},
    "counts": {
        "frames": 120,
        "labelled": 40,
        "videos": 20,
        "patients": 7,
        "parts": {"train": {"frames": 40, "groups": 7}, "unlabelled": {"frames": 80, "groups": 12}},
        "quality": {"pictures_in_several_videos": 1},
        "rejected": {},
        "classes": {"view": {"a": {"train": 61, "test": 0}, "b": {"train": 62, "test": 1}}},
        "agreement": [{"users": ["A", HOSTILE], "kappa": 0.5}],
    },
    "wall_s": {"pretraining": 12.5},
}


def scores(value, classes, low=None):
    """SCORES in which every figure is `value`, with an interval from `low` where that is given."""
    bounds = {} if low is None else {name: [low, 1.0] for name in AVERAGE_METRICS}
    return {"n": 40, "groups": 7, **dict.fromkeys(AVERAGE_METRICS, value), "ci95": bounds} | {
        "per_class": {name: dict.fromkeys(PER_CLASS_METRICS, value) | {"support": 5} for name in classes},
        "confusion": [[1] * len(classes)] * len(classes),
        "reasons": {},
    }


def task_result(ours, pixels, *, low=None, classes=("Normal", "Definite RHD"), not_evaluable=()):
    def all_levels(value, low=None):
        found = {level: scores(value, classes, low) for level in ("frame", "video", "patient")}
        return found | {"patient": scores(None, classes) | {"reason": "no patient is known"}}

    rivals = {"majority": 0.5, "pixels": pixels, "random encoder": 0.5}
    tables = {name: all_levels(value) for name, value in rivals.items()}
    return {
        "classes": list(classes),
        "not_evaluable": [{"class": name, "reason": "one group only"} for name in not_evaluable],
        "groups": {name: {"frames": 40, "groups": 7, "train": 5, "val": 1, "test": 1} for name in classes},
        "power": {"groups": 7, "accuracy": 0.9, "assumed": False, "half_width": 0.26, "groups_needed": 38},
        "val": all_levels(ours),
        "test": all_levels(ours, low),
        "baselines": {
            name: of["frame"] | {"video": of["video"], "patient": of["patient"]}
            for name, of in tables.items()
        },
        "margins": {
            name: dict.fromkeys(("frame", "video", "patient"), margin(ours, theirs, low))
            for name, theirs in rivals.items()
        },
        "comparisons": 1,
        "draws": dict.fromkeys(rivals, 1),
        "folds": [{"fold": 1, "n": 40, "groups": 7, "accuracy": ours, "balanced_accuracy": ours}],
        "head": {"l2": [0.01], "temperature": [1.5], "bias": [], "prevalence": []}
        | {"balanced_accuracy_of_seeds": [ours]},
    }


def margin(ours, theirs, low):
    if ours is None or theirs is None:
        return {"balanced_accuracy": None, "ci95": None}
    return {"balanced_accuracy": ours - theirs, "ci95": None if low is None else [low - theirs, 0.5]}


def results(found):
    """The content of `metrics.json` as the report reads it."""
    return RunResults.from_json(found)


def metrics(**tasks):
    parts = {part: {"frames": 40, "groups": 7} for part in ("train", "val", "test")}
    split = {"by": "patient", "leaky": False, "folds": 1, "parts": parts, "pretraining": "once, on others"}
    pair = {
        "test_path": "a.png",
        "test_group": "g",
        "other_path": "b.png",
        "other_group": "h",
        "value": 0.9876,
    }
    audit = {"closest": [pair], "near_identical": {"found": 0, "listed": 0, "threshold": 5.0}}
    return {"synthetic": False, "split": split, "tasks": tasks, "audit": audit}
