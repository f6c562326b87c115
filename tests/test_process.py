import logging
import re

from simclr_rhd import process


def test_the_file_has_the_log_from_its_first_line(tmp_path, capfd):
    process.start_log()
    try:
        process.logger.info("before the folder is known")
        process.log_to(tmp_path)
        process.logger.info("after")
        process.logger.error("wrong")
    finally:
        process.stop_log()
    lines = (tmp_path / "simclr_rhd.log").read_text().splitlines()
    assert [line.split(" ", 3)[2:] for line in lines] == [
        ["INFO", "before the folder is known"],
        ["INFO", "after"],
        ["ERROR", "wrong"],
    ]
    out, err = capfd.readouterr()
    assert "after" in out and "wrong" not in out and err.endswith("wrong\n") and "after" not in err
    assert logging.getLogger("simclr_rhd").handlers == []


def test_a_resumed_run_goes_on_with_the_file(tmp_path):
    for text in ("first", "second"):
        process.start_log()
        process.log_to(tmp_path)
        process.logger.info(text)
        process.stop_log()
    assert (tmp_path / "simclr_rhd.log").read_text().count("\n") == 2
    assert (tmp_path / "simclr_rhd.log").stat().st_mode & 0o777 == 0o600


def test_progress_in_a_file_is_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(process, "LOG_EVERY", -1)
    with caplog.at_level(logging.INFO):
        stream = process.progress(
            range(1, 4), total=3, where="here", unit="files", amount=lambda item: item, amount_unit="MB"
        )
        assert list(stream) == [1, 2, 3]
    assert len(caplog.messages) == 3
    assert re.fullmatch(r"here: 2 of 3 files, \d+ files/s, [\d.]+ MB/s, 0 s left", caplog.messages[1])
