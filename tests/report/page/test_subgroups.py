"""The subgroups and the sites of a run in its files."""

import json

import numpy as np
import pytest
from untrained_run import evaluate_run, make_dataset

from simclr_rhd.data.attributes.attributes import FrameAttributes
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.dataset import build_dataset

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a run that leaves one of three sites out at a time."""
    dataset = make_dataset({"view": ["a", "b"]}, patients=60)
    number = np.array([int(name[1:]) for name in dataset.labels.patients])
    site = np.array(["Gulu", "Kampala", NASTY])[number // 2 % 3]
    sex = np.array(["female", "male", ""])[number % 3]
    attributes = FrameAttributes({"SITE": site, "SEX": sex}, None, site, "SITE")
    config = DataConfig(seed=0, folds_by="SITE")
    dataset = build_dataset(dataset.store, dataset.labels, "0", config, attributes)
    save_dir = tmp_path_factory.mktemp("run") / "models"
    with pytest.MonkeyPatch.context() as patch:
        assert evaluate_run(dataset, save_dir, patch, "--no-figures") == 0
    return save_dir


def test_metrics_have_each_value_of_each_column(folder):
    found = json.loads((folder / "metrics.json").read_text())
    assert found["split"]["folds_by"] == "SITE" and found["split"]["fold_names"] == [NASTY, "Gulu", "Kampala"]
    view = found["tasks"]["view"]
    assert [*view["subgroups"]["SITE"]["values"]] == [NASTY, "Gulu", "Kampala"]
    assert sum(of["groups"] for of in view["subgroups"]["SITE"]["values"].values()) == 50
    assert view["subgroups"]["SEX"]["unknown"] > 0 and view["subgroups"]["SITE"]["comparisons"] == 4
    assert {"mask", "header"} <= view["baselines"].keys() & view["margins"].keys()


def test_the_page_shows_them_and_their_names_are_text(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "View by SITE, per video" in text and "View by SEX, per video" in text
    assert NASTY not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Largest gap: " in text and "[-" in text and "too few to tell" not in text
    assert "3 folds, the values of SITE" in text and "<td>Kampala</td>" in text
