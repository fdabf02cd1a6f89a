"""The terminal: results on stdout, everything else on stderr."""

import json
import logging
from pathlib import Path

import pytest

from preprocess.console import LOG, complain, configure_logging, emit, progress


def test_a_result_is_text_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"store": Path("/a"), "rows": 2}, "two rows\n\n", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"store": "/a", "rows": 2}
    emit({"rows": 2}, "two rows\n\n", as_json=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("two rows\n", "")


def test_a_complaint_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\n  b\tc")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "interscan: a b c\n")


def test_the_log_goes_to_stderr_once_however_often_it_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging()
    LOG.info("reading %d", 3)
    LOG.debug("unseen")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "reading 3\n")
    configure_logging(logging.DEBUG)
    LOG.debug("seen")
    assert capsys.readouterr().err == "seen\n"


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (10, 10), (1000, 10)])
def test_on_a_pipe_progress_is_at_most_a_line_a_tenth(
    total: int, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging()
    with progress("preprocess") as advance:
        for done in range(1, total + 1):
            advance(done, total)
    written = capsys.readouterr().err.splitlines()
    assert len(written) == lines
    assert written[-1] == f"preprocess: {total} of {total}"


def test_on_a_terminal_progress_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("verify") as advance:
        advance(2, 4)
        advance(4, 4)
    captured = capsys.readouterr()
    assert "4/4" in captured.err
    assert captured.out == ""
