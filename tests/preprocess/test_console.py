"""The terminal: results on stdout, everything else on stderr."""

import errno
import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from preprocess.console import LOG, complain, configure_logging, emit, progress
from preprocess.errors import StorageError


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


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_result_that_cannot_be_written_is_an_error_and_a_lost_log_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(
        StorageError, match=r"^stdout: no space left on device; .* only its result could not be printed"
    ):
        emit({"a": 1}, "one", as_json=True)
    monkeypatch.setattr(sys, "stderr", Full())
    configure_logging()
    LOG.info("unheard")
    complain("unheard")


def test_a_defect_in_a_log_line_is_still_reported(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    LOG.info("%d", "no number")
    assert "TypeError" in capsys.readouterr().err


def test_names_of_files_that_are_no_utf_8_go_through_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"source": os.fsdecode(b"M\xfcller")}, "", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"source": "M\udcfcller"}
