"""Comparing a result again changes no figure of a seed, and what is published is what it gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from benchmarks.method_again import compare_again, wide_table
from benchmarks.method_cases import CASES
from benchmarks.running import ROOT

PUBLISHED = ROOT / "benchmarks" / "results" / "methods.json"
CASE = next(case for case in CASES if case.name == "joint_complete")


def test_what_is_published_is_what_its_figures_give() -> None:
    result = json.loads(PUBLISHED.read_text())
    for case in CASES:
        for again, before in zip(compare_again(case, result), result[case.name]["metrics"], strict=True):
            assert again.metric == before["metric"]
            for row, published in zip(again.rows, before["rows"], strict=True):
                assert {str(seed): value for seed, value in row.by_seed} == published["by_seed"]
                assert again.standing(row) == published["standing"]
                assert row.p_holm == (published["p_holm"] and pytest.approx(published["p_holm"]))


def test_a_difference_of_the_published_table_is_the_corrected_t_test_by_hand() -> None:
    result = json.loads(PUBLISHED.read_text())
    again = next(one for one in compare_again(CASE, result) if one.metric == "balanced_accuracy")
    css, plain = (next(row.by_seed for row in again.rows if row.method == name) for name in ("css", "concatenation"))
    differences = [one - other for (_, one), (_, other) in zip(css, plain, strict=True)]
    mean, num = sum(differences) / 10, 10
    variance = sum((one - mean) ** 2 for one in differences) / 9
    t = mean / (variance * (1 / num + 72 / 168)) ** 0.5
    row = next(one for one in again.rows if one.method == "css")
    assert row.p_value == pytest.approx(2 * stats.t.sf(t, 9))
    assert again.standing(row) == "not told apart"


def test_the_wide_table_marks_what_is_told_apart() -> None:
    severity = next(case for case in CASES if case.name == "severity")
    lines = wide_table(compare_again(severity, json.loads(PUBLISHED.read_text()))).splitlines()
    assert lines[0].startswith("| method | macro_f1 | maee | tau_b |")
    assert len(lines) == 2 + len(severity.arms)
    assert lines[2].startswith("| conpro | 0.46 (0.38 to 0.54) |")
    assert lines[4].startswith("| supcon-2 | 0.32 (0.14 to 0.51), worse |")


def test_the_script_writes_tables_pictures_and_the_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.method_again", str(PUBLISHED), "--only", "joint_complete"]
    options = ["--baseline", "css", "--plots", str(tmp_path), "--out", str(tmp_path / "again.json")]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "minus `css`" in done.stdout
    assert "### joint_missing" not in done.stdout
    assert (tmp_path / "joint_complete.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "again.json").read_text())
    assert written["joint_complete"]["metrics"][0]["baseline"] == "css"
    assert written["joint_missing"] == json.loads(PUBLISHED.read_text())["joint_missing"]
