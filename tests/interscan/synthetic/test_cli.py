"""`interscan synth`: a sub-verb a cohort, with its own options and no others, in help, in errors and in Python."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interscan.cli import run
from interscan.synthetic import cli
from interscan.synthetic.brain.cohort import write_brain_cohort
from interscan.synthetic.connectome.cohort import write_connectome_cohort
from interscan.synthetic.eyes.cohort import write_severity_cohort
from interscan.synthetic.lung.cohort import write_lung_cohort
from preprocess.sources.scan_table import list_table

OPTIONS = {
    "brain": {"--subjects", "--visits", "--seed", "--spacing-mm", "--ageing", "--score-noise", "--workers", "--json"},
    "lung": {"--subjects", "--visits", "--seed", "--size-px", "--frames", "--json"},
    "severity": {"--subjects", "--seed", "--size-px", "--balanced", "--json"},
    "connectome": {"--subjects", "--seed", "--missing", "--json"},
}
FOREIGN = [
    (cohort, option) for cohort in OPTIONS for option in sorted(set().union(*OPTIONS.values()) - OPTIONS[cohort])
]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    assert out.count("\n") == 1  # one object and nothing else
    return code, json.loads(out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and all of stderr, which is one line; nothing on stdout."""
    code, out, err = call(capsys, *arguments)
    assert out == ""
    assert err.count("\n") == 1
    return code, err.removesuffix("\n")


def test_what_brain_writes_is_read_by_preprocess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--subjects", "2", "--visits", "2", "--spacing-mm", "3", "--workers", "1")
    code, result = call_json(capsys, "synth", "brain", tmp_path / "c", *options)
    assert (code, result["cohort"], result["num_subjects"]) == (0, "brain", 2)
    tiny = ("--set", "grid=[24,24,24]", "--set", "spacing_mm=8", "--workers", "0")
    code, made = call_json(capsys, "preprocess", tmp_path / "c", tmp_path / "s", *tiny)
    assert (code, made["found"]) == (0, result["num_scans"])


@pytest.mark.parametrize(
    ("cohort", "options", "modality"),
    [
        ("lung", ("--visits", "2", "--size-px", "48", "--frames", "4"), "LUS"),
        ("severity", ("--size-px", "48", "--balanced"), "fundus"),
        ("connectome", ("--missing", "0"), "SC"),
    ],
)
def test_the_others_write_tables_that_list_what_they_counted(
    cohort: str, options: tuple[str, ...], modality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = call_json(capsys, "synth", cohort, tmp_path / "c", "--subjects", "2", "--seed", "3", *options)
    assert (code, result["cohort"], result["num_subjects"]) == (0, cohort, 2)
    listing = list_table(result["table"], [modality])
    assert listing.notes == []
    with Path(result["table"]).open() as lines:
        assert result["num_scans"] == sum(1 for _ in lines) - 1
    assert {scan.subject_id for scan, _, _ in listing.scans} == {"sub-001", "sub-002"}
    code, out, _ = call(capsys, "synth", cohort, tmp_path / "c", "--subjects", "2", "--seed", "3", *options)
    assert out == f"{result['num_scans']} scans of 2 subjects in {tmp_path}/c ({cohort}, seed 3)\n"


def test_json_names_the_cohort_its_places_and_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = {"cohort", "out", "root", "truth", "num_subjects", "num_scans", "num_written"}
    small = {
        "brain": ("--spacing-mm", "8", "--visits", "1", "--workers", "0"),
        "lung": ("--size-px", "32", "--frames", "2", "--visits", "1"),
        "severity": ("--size-px", "48"),
        "connectome": (),
    }
    own = {
        "brain": {"num_rescans", "num_by_trajectory"},
        "lung": {"table", "num_by_trajectory"},
        "severity": {"table", "num_by_grade"},
        "connectome": {"table", "num_impaired", "num_lacking"},
    }
    for cohort, options in small.items():
        _, result = call_json(capsys, "synth", cohort, tmp_path / cohort, "--subjects", "1", *options)
        assert set(result) == shared | own[cohort]
        assert result["out"] == result["root"] == str(tmp_path / cohort)


@pytest.mark.parametrize(("cohort", "options"), OPTIONS.items())
def test_help_of_a_cohort_shows_its_own_options_and_no_others(
    cohort: str, options: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown, _ = call(capsys, "synth", cohort, "--help")
    assert code == 0
    assert shown.startswith(f"Usage: interscan synth {cohort} [OPTIONS] OUT\n")
    assert set(re.findall(r"--[a-z-]+", shown)) == options | {"--out"}


@pytest.mark.parametrize(("cohort", "option"), FOREIGN)
def test_an_option_of_another_cohort_is_unknown_and_the_line_says_what_there_is(
    cohort: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = () if option in ("--ageing", "--balanced") else ("2",)
    code, line = complaint(capsys, "synth", cohort, tmp_path / "c", option, *value)
    assert code == 2
    assert line.startswith(f"interscan: Unknown option: {option}.")
    assert line.endswith(f" (see interscan synth {cohort} --help)")
    said = re.search(f"interscan synth {cohort} takes (.*) \\(", line)
    assert said is not None
    assert set(said[1].split(", ")) == OPTIONS[cohort]
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "no cohort is named"),
        (("liver", "out"), "liver stands where the cohort belongs"),
        (("--subjects", "1", "brain", "out"), "--subjects stands where the cohort belongs"),
        (("--json",), "--json stands where the cohort belongs"),
    ],
)
def test_the_cohort_comes_first(arguments: tuple[str, ...], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    remedy = "give brain, lung, severity or connectome, as in interscan synth brain OUT"
    assert complaint(capsys, "synth", *arguments) == (2, f"interscan: {found}; {remedy}")


@pytest.mark.parametrize(
    "words", [["synth", "--help"], ["synth", "brain", "--help"], ["synth", "lung", "x", "--missing"]]
)
def test_neither_help_nor_a_wrong_option_loads_what_draws(words: list[str]) -> None:
    program = (
        f"import sys; from interscan.cli import run; run({words});"
        "heavy = {'numpy', 'scipy', 'nibabel', 'PIL', 'torch'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_of_synth_lists_every_cohort(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = call(capsys, "synth", "--help")
    assert code == 0
    assert set(re.findall(r"^│ ([a-z]+)", shown, re.MULTILINE)) == set(OPTIONS)


def test_eyes_is_another_word_for_severity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--subjects", "1", "--size-px", "48")
    for number, word in enumerate(("severity", "eyes")):
        _, result = call_json(capsys, "synth", word, tmp_path / "c", *options)
        # The second call finds what the first wrote.
        assert (result["cohort"], result["num_written"] == 0) == ("severity", number == 1)


@pytest.mark.parametrize(
    ("verb", "write"),
    [
        (cli.brain, write_brain_cohort),
        (cli.lung, write_lung_cohort),
        (cli.severity, write_severity_cohort),
        (cli.connectome, write_connectome_cohort),
    ],
)
def test_what_is_not_given_means_the_same_as_in_python(verb: Callable[..., int], write: Callable[..., Any]) -> None:
    def defaults(function: Callable[..., Any], leave_out: str) -> dict[str, Any]:
        given = inspect.signature(function).parameters.values()
        return {one.name.removeprefix("num_"): one.default for one in given if one.name not in ("out", leave_out)}

    assert defaults(verb, "json") == defaults(write, "progress")
