"""The shared folder: table last, finished after a loss, refused where it does not belong; draws spread evenly."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.folder import (
    PlannedFile,
    check_range,
    even_share,
    stream,
    table_text,
    write_cohort,
)
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
    for place in (tmp_path / "words", tmp_path / "words/thesis.tex"):
        with pytest.raises(UsageError, match="is not empty and holds no cohort"):
            _write(place, _files([]))
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


def test_streams_differ_by_seed_word_and_number_and_repeat_themselves() -> None:
    keys: list[tuple[int, str, int]] = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    draws = [stream(seed, word, number).random() for seed, word, number in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [stream(seed, word, number).random() for seed, word, number in keys]


@pytest.mark.parametrize("num_subjects", [20, 60, 500])
def test_every_prefix_holds_close_to_its_share(num_subjects: int) -> None:
    for seed in range(20):
        shares = np.array([even_share(seed, "test", number) for number in range(num_subjects)])
        for share in (0.1, 0.4, 0.7):
            # Free draws would have a standard deviation of 2.2 subjects at 20 and of 11 at 500.
            assert abs((shares < share).sum() - share * num_subjects) <= 3


def test_the_two_axes_are_not_related() -> None:
    pairs = np.array([[even_share(3, "one", n, 0), even_share(3, "two", n, 1)] for n in range(1000)])
    assert abs(stats.spearmanr(pairs).statistic) < 0.03
    assert stats.kstest(pairs[:, 0], "uniform").pvalue > 0.05
    counts = np.histogram2d(*pairs.T, bins=5, range=[[0, 1], [0, 1]])[0]
    assert counts.min() >= 30  # 40 on average


def test_ranges_are_refused_with_value_limit_and_remedy() -> None:
    check_range("size_px", 32, 32, 512)
    check_range("size_px", 512, 32, 512)
    for value, message in [
        (31, "size_px is 31, below 32; give 32 or more"),
        (513, "size_px is 513, above 512; give 512 or less"),
        (float("nan"), "size_px is nan, below 32"),
    ]:
        with pytest.raises(UsageError, match=message):
            check_range("size_px", value, 32, 512)
