"""Four ranks on two disks make the store that one process makes, and read each file once between them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from echo_files import dicom_dataset, encode_image, picture, save_dicom
from gcs import free_port
from PIL import Image
from store_worker import CASES, alone

from simclr_rhd.data.decoding.salt import salt_id

pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
N_FILES, N_FRAMES = 24, 22  # one is broken, one is no frame


def write_frames(folder):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(21):
        shape = (20, 30, 3) if number % 3 == 0 else (20, 30)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"v_frame{number:02d}.png")
    save_dicom(dicom_dataset(picture()), folder / "exam.dcm")
    (folder / "broken.png").write_bytes(encode_image(picture())[:30])
    (folder / "notes.txt").write_text("no frame")


@pytest.fixture(scope="module")
def made(tmp_path_factory, gcs):
    """Results of each rank in each case, the folder of the caches, and reads of objects by case."""
    folder = tmp_path_factory.mktemp("ranks")
    write_frames(folder / "data" / "frames")
    for case in CASES:
        gcs.upload("store-bucket", folder / "data", f"{case.replace(' ', '-')}/")
    location = "gs://store-bucket"
    environment = os.environ | {
        "STORAGE_EMULATOR_HOST": gcs.url,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "tests/helpers/store_worker.py", str(folder / "cache"), location]
    (folder / "cache").mkdir()
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment | {"RANK": str(rank)}) for rank in range(4)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]
    reads = {
        case: {name: n for name, n in gcs.reads.items() if name.startswith(case.replace(" ", "-") + "/")}
        for case in CASES
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        alone(folder / "cache", location)
    found = [json.loads((folder / "cache" / f"found.{rank}").read_text()) for rank in range(4)]
    return found, folder / "cache", reads


def contents(cache):
    """{name of the store's file: bytes} of the one store in a cache folder."""
    (folder,) = (cache / "stores").iterdir()
    assert not list((cache / "parts").glob("*/*"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_disks_get_the_store_of_one_process_byte_for_byte(made):
    found, folder, _ = made
    whole = contents(folder / "alone" / "cache")
    assert b'"patients": {}' not in whole["index.json"] and b"exam.dcm" in whole["index.json"]
    for disk in "01":
        assert contents(folder / "two disks" / disk) == whole
    for rank in range(4):
        first, second = found[rank]["two disks"]
        assert (first["frames"], first["decoded"]) == (N_FRAMES, N_FILES - 1)
        assert (second["frames"], second["decoded"]) == (N_FRAMES, 0)
    assert found[0]["two disks"][0]["fetched"] == N_FILES - 1, "by all ranks"


@pytest.mark.parametrize("case", CASES[:7])
def test_each_object_is_read_once_by_all_ranks_together(made, case):
    _, _, reads = made
    assert len(reads[case]) == N_FILES - 1, "all but the note"
    assert set(reads[case].values()) == {1}


def test_ranks_with_a_common_disk_make_one_store(made):
    found, folder, _ = made
    assert [path.name for path in (folder / "one disk").iterdir()] == ["0"]
    frames = {name for name in contents(folder / "one disk" / "0") if name.endswith(".u8")}
    assert frames == {"grey-00000.u8", "colour-00000.u8"}
    assert [found[rank]["one disk"][0]["frames"] for rank in range(4)] == [N_FRAMES] * 4


@pytest.mark.parametrize(("case", "of"), [("another run", 0), ("another run elsewhere", 2)])
def test_all_wait_for_another_run_that_makes_the_same_store_on_one_of_their_disks(made, case, of):
    found, _, _ = made
    assert found[of][case][0]["waited"]
    assert [found[rank][case][0]["frames"] for rank in range(4)] == [N_FRAMES] * 4


def test_a_disk_that_was_lost_gets_the_store_of_another(made):
    found, folder, _ = made
    first, second = found[0]["a disk is lost"]
    assert (first["decoded"], second["decoded"], second["fetched"]) == (N_FILES - 1, 0, 0)
    assert contents(folder / "a disk is lost" / "0") == contents(folder / "a disk is lost" / "1")


def test_patients_hashed_with_a_salt_that_is_lost_are_hashed_again(made):
    found, folder, _ = made
    case = folder / "the leader is lost"
    assert [one["decoded"] for one in found[0][case.name]] == [N_FILES - 1] * 2
    assert contents(case / "0") == contents(case / "1")
    index = json.loads(contents(case / "1")["index.json"])
    assert index["salt"] == salt_id((case / "0" / "salt").read_bytes()) and index["patients"]


def test_a_run_that_was_stopped_goes_on_with_the_parts_that_are_there(made):
    found, folder, _ = made
    assert [found[rank]["stopped"][0].get("frames") for rank in range(4)] == [N_FRAMES] * 4
    assert found[0]["stopped"][0]["decoded"] == 0
    assert contents(folder / "stopped" / "0") == contents(folder / "stopped" / "1")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("full", "rank 3: decoded frames will need about"),
        ("full later", "rank 2: the disk, or your quota of it, is full"),
        ("refused", "rank 1: a package is missing"),
    ],
)
def test_an_error_of_one_rank_stops_all_with_its_message(made, case, message):
    found, _, _ = made
    for rank in range(4):
        first = found[rank][case][0]
        assert first["of all"] and first["error"].startswith(message), first


def test_an_error_of_the_leader_stops_its_followers(made):
    found, _, _ = made
    assert [found[rank]["refused"][1] for rank in range(4)] == [
        {"error": "no such bucket", "of all": rank > 0} for rank in range(4)
    ]


def test_a_disk_that_was_full_goes_on_once_there_is_room(made):
    found, folder, _ = made
    assert [found[rank]["full later"][1]["frames"] for rank in range(4)] == [N_FRAMES] * 4
    assert found[0]["full later"][1]["decoded"] == 0, "all parts were there"
    assert contents(folder / "full later" / "0") == contents(folder / "full later" / "1")
