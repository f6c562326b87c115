"""Sites, a split of the user's own and its file, in data on the disk."""

import numpy as np
import pytest
from PIL import Image

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.load import read_dataset
from simclr_rhd.data.sources.open import open_data

PARTS = ["train"] * 7 + ["dev"] * 2 + ["Test"] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve patients of three sites with one labelled and two unlabelled frames each."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = ["FILENAME,VIEW-APP,CONDITION,SEVERITY,PATIENT,SITE,SPLIT"]
    for number in range(12):
        for kind, frames in (("labelled", 1), ("unlabelled", 2)):
            (root / kind).mkdir(exist_ok=True)
            for frame in range(frames):
                picture = rng.integers(0, 255, (40 + number % 2, 48), dtype=np.uint8)
                Image.fromarray(picture).save(
                    root / kind / f"v{number}_frame{frame + 10 * (kind != 'labelled')}.png"
                )
        site, view = "ABC"[number % 3], "ab"[number // 3 % 2]
        lines.append(f"v{number}_frame0.png,{view},x,u,P{number},{site},{PARTS[number]}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def read(folder, tmp_path, **options):
    config = DataConfig(
        data=str(folder),
        labelled_prefix="labelled",
        unlabelled_prefix="unlabelled",
        labels_csv="labels.csv",
        cache_dir=str(tmp_path / "cache"),
        image_size=32,
        **options,
    )
    return read_dataset(open_data(config), config, rejected_csv=tmp_path / "rejected.csv")


def test_columns_of_the_table_reach_the_data(folder, tmp_path):
    dataset = read(folder, tmp_path)
    named = {key.rpartition("/")[2]: part for key, part in zip(dataset.store.keys, dataset.part, strict=True)}
    assert [named[f"v{number}_frame0.png"] for number in (0, 7, 9)] == ["train", "val", "test"]
    assert {named["v9_frame10.png"], named["v9_frame11.png"]} == {"held-out"}
    sites = dataset.attributes.columns["SITE"][dataset.labels.annotated()]
    assert sorted(sites.tolist()) == list("AAAABBBBCCCC")
    assert sorted(set(map(tuple, dataset.store.sizes.tolist()))) == [(48, 40), (48, 41)]


def test_one_site_is_left_out_at_a_time(folder, tmp_path):
    with pytest.raises(UserError, match="pass --split none"):
        read(folder, tmp_path, folds_by="SITE")
    dataset = read(folder, tmp_path, folds_by="SITE", split="none")
    sites = dataset.attributes.columns["SITE"]
    assert [set(sites[fold.part == "test"]) for fold in dataset.folds] == [{"A"}, {"B"}, {"C"}]


def test_a_file_of_folders_and_frames_is_a_split_and_changes_the_fingerprint(folder, tmp_path):
    def write(*lines):
        path = tmp_path / f"{len(lines)}.csv"
        path.write_text("\n".join(("path,part", *lines)))
        return read(folder, tmp_path, split=str(path))

    files = [f"labelled/v{number}_frame0.png,{'test' if number < 6 else 'train'}" for number in range(12)]
    dataset = write(*files)
    assert len(dataset.rows("test")) == 6 and len(dataset.rows("train", "val")) == 6
    assert write(*files[1:]).fingerprint != dataset.fingerprint
    with pytest.raises(
        UserError, match="two sides.*\\n.*v0_frame0.png \\(test\\), unlabelled/v0_frame10.png"
    ):
        write(*files, "unlabelled/v0_frame10.png,train")
