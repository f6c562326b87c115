from small_run import SMALL, arguments, run_small

import main
from simclr_rhd.data.demo import dataset as demo


def test_an_estimate_says_memory_time_and_disk_and_leaves_nothing(tmp_path, capfd):
    argv = [
        "estimate",
        *arguments(tmp_path / "cache", tmp_path / "models", "--no-figures", "--batch-size", "auto"),
    ]
    assert main.main(argv) == 0
    printed = capfd.readouterr().out
    for part in (
        "11.5 million parameters",
        "by batch size: 16:",
        "an epoch",
        "if it stops as early",
        "disk:",
    ):
        assert part in printed
    assert "--batch-size auto: 16" in printed, "200 frames: an epoch of 12 batches"
    assert not (tmp_path / "models").exists()


def test_an_estimate_of_data_that_were_never_decoded_takes_a_sample(tmp_path, capfd):
    data = tmp_path / "data"
    data.mkdir()
    demo.write_demo(data, patients=12)
    argv = ["estimate", *SMALL[2:], "--data", str(data), "--cache-dir", str(tmp_path / "cache")]
    assert run_small([*argv, "--no-figures"]) == 0
    printed = capfd.readouterr().out
    assert "data, from a sample: 240 files" in printed and "108 labelled" in printed
    assert {path.name for path in (tmp_path / "cache").rglob("*")} <= {"salt"}, "nothing was decoded to stay"
