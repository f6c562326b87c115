import logging

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
