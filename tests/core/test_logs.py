import logging
import re

from simclr_rhd.core import logs


def test_the_file_has_the_log_from_its_first_line(tmp_path, capfd):
    logs.start_log()
    try:
        logs.logger.info("before the folder is known")
        logs.log_to(tmp_path)
        logs.logger.info("after")
        logs.logger.error("wrong")
    finally:
        logs.stop_log()
    lines = (tmp_path / "simclr_rhd.log").read_text().splitlines()
    assert [line.split(" ", 3)[2:] for line in lines] == [
        ["INFO", "before the folder is known"],
        ["INFO", "after"],
        ["ERROR", "wrong"],
    ]
    out, err = capfd.readouterr()
    assert "after" in out and "wrong" not in out and err.endswith("wrong\n") and "after" not in err
    assert logging.getLogger("simclr_rhd").handlers == []
    assert logging.getLogger("simclr_rhd").propagate, "a program that uses the package gets its lines again"


def test_a_resumed_run_goes_on_with_the_file(tmp_path):
    for text in ("first", "second"):
        logs.start_log()
        logs.log_to(tmp_path)
        logs.logger.info(text)
        logs.stop_log()
    assert (tmp_path / "simclr_rhd.log").read_text().count("\n") == 2
    assert (tmp_path / "simclr_rhd.log").stat().st_mode & 0o777 == 0o600


def test_progress_in_a_file_is_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(logs, "LOG_INTERVAL_S", -1)
    with caplog.at_level(logging.INFO):
        stream = logs.progress(
            range(1, 4), total=3, label="here", unit="files", amount=lambda item: item, amount_unit="MB"
        )
        assert list(stream) == [1, 2, 3]
    assert len(caplog.messages) == 3
    assert re.fullmatch(r"here: 2 of 3 files, \d+ files/s, [\d.]+ MB/s, 0 s left", caplog.messages[1])


def test_names_command_no_terminal(tmp_path, capfd):
    logs.start_log()
    try:
        logs.log_to(tmp_path)
        logs.logger.info("a\x1b[2Jb\x1b]0;title\x07c\x9bd\u202ee\tf\ng \u00e9")
        logs.logger.error("%s", "\x1b[31mred\r")
    finally:
        logs.stop_log()
    printed = "".join(capfd.readouterr()) + (tmp_path / "simclr_rhd.log").read_text()
    assert printed.count("abcde\tf\ng \u00e9\n") == 2 and printed.count("red") == 2
    assert all(letter.isprintable() or letter in "\t\n" for letter in printed)
