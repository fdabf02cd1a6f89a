"""The shared folder: table last, finished after a loss, refused where it does not belong."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from interscan.synthetic.folder import PlannedFile, table_text, write_cohort
from preprocess.errors import UsageError


def _files(made: list[str], stop_at: str = "") -> list[PlannedFile]:
    def content(name: str) -> Callable[[], bytes]:
        def make() -> bytes:
            if name == stop_at:
                raise InterruptedError(name)
            made.append(name)
            return name.encode()

        return make

    return [PlannedFile(f"{name}/{name}.npy", content(name)) for name in ("a", "b", "c")]


def _write(out: Path, files: list[PlannedFile], seed: int = 0) -> int:
    return write_cohort(out, parameters={"cohort": "x", "seed": seed}, files=files, scans="path\n", truth="t\n")


def test_a_stopped_write_has_no_table_and_the_same_call_makes_only_what_is_missing(tmp_path: Path) -> None:
    out, made = tmp_path / "cohort", []
    with pytest.raises(InterruptedError):
        _write(out, _files(made, stop_at="b"))
    assert not (out / "scans.csv").exists()
    assert not (out / "truth.tsv").exists()
    assert _write(out, _files(made)) == 2
    assert made == ["a", "b", "c"]
    assert (out / "b/b.npy").read_bytes() == b"b"
    assert (out / "scans.csv").read_text() == "path\n"
    assert _write(out, _files(made)) == 0
    assert not list(out.rglob("*.partial"))


def test_other_parameters_and_other_folders_are_refused_and_left_alone(tmp_path: Path) -> None:
    _write(tmp_path / "cohort", _files([]))
    with pytest.raises(UsageError, match="holds a cohort of seed 0, not 1; choose another folder"):
        _write(tmp_path / "cohort", _files([]), seed=1)
    (tmp_path / "words").mkdir()
    (tmp_path / "words/thesis.tex").write_text("x")
    for path in (tmp_path / "words", tmp_path / "words/thesis.tex"):
        with pytest.raises(UsageError, match="is not empty and holds no cohort"):
            _write(path, _files([]))
    assert [path.name for path in (tmp_path / "words").iterdir()] == ["thesis.tex"]


def test_progress_counts_every_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_cohort(
        tmp_path / "c", parameters={}, files=_files([]), scans="", truth="", progress=lambda *at: seen.append(at)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_tables_come_back_from_the_csv_reader_as_they_went_in() -> None:
    rows = [("a,b", '"', "1"), ("x\ty", "", "2")]
    for delimiter in (",", "\t"):
        text = table_text(("p", "q", "r"), rows, delimiter=delimiter)
        assert [tuple(row) for row in csv.reader(io.StringIO(text), delimiter=delimiter)] == [("p", "q", "r"), *rows]
        assert "\r" not in text
