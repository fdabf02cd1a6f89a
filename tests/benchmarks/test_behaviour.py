"""Two records are compared value by value, and the runner notes what a command printed, wrote and removed."""

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import behaviour
from benchmarks.behaviour import Runner, compare, differences, environment, main, require_own_modules, with_needs
from benchmarks.behaviour_roads import ROADS, Step
from benchmarks.behaviour_start import Starter

ROOT = Path(__file__).parents[2]
RECORD: dict[str, Any] = {
    "machine": {"python": "3.11", "torch": "2.13", "work": "w"},
    "steps": {
        "train/demo": {
            "code": 0,
            "stdout": {"json": {"loss": "1.5", "finished": "<varies>"}},
            "stderr": ["going on", "done"],
            "files": {"run/model.pt": {"weight": "aa", "bias": "bb"}},
            "gone": [],
        },
        "help/train": {"code": 0, "stdout": ["Usage"], "stderr": [], "files": {}, "gone": []},
    },
    "used_s": {"train/demo": 3.0, "help/train": 0.2},
}


def changed(*way: str | int, to: object) -> dict[str, Any]:
    """The record with one value replaced."""
    record = copy.deepcopy(RECORD)
    inner: Any = record
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = to
    return record


def test_a_record_is_equal_to_itself_whatever_time_it_took() -> None:
    assert compare(RECORD, changed("used_s", "train/demo", to=99.0)) == []


@pytest.mark.parametrize(
    ("way", "to", "line"),
    [
        (("stdout", "json", "loss"), "1.6", 'train/demo > stdout > json > loss: "1.5" -> "1.6"'),
        (("code",), 3, "train/demo > code: 0 -> 3"),
        (("code",), False, "train/demo > code: 0 -> false"),
        (("stderr", 1), "Done", 'train/demo > stderr > 1: "done" -> "Done"'),
        (("gone",), ["a"], 'train/demo > gone: new; is "a"'),
        (("files", "run/model.pt", "bias"), "c", 'train/demo > files > run/model.pt > bias: "bb" -> "c"'),
        (("files", "run/new"), "d", 'train/demo > files > run/new: new; is "d"'),
        (("stdout", "json"), {"loss": "1.5"}, 'train/demo > stdout > json > finished: gone; was "<varies>"'),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_each_changed_value_is_one_line_with_the_way_to_it(way: tuple[str | int, ...], to: object, line: str) -> None:
    assert line in compare(RECORD, changed("steps", "train/demo", *way, to=to))


def test_the_same_keys_in_another_order_are_a_difference() -> None:
    assert list(differences({"a": 1, "b": 2}, {"b": 2, "a": 1}, "file")) == [
        'file: the same keys in another order, ["b", "a"]'
    ]


def test_a_step_that_is_meant_to_differ_can_be_left_out_and_no_other() -> None:
    after = changed("steps", "help/train", "stdout", to=["Use"])
    after["steps"]["train/demo"]["code"] = 1
    assert len(compare(RECORD, after)) == 2
    assert compare(RECORD, after, ["help/*"]) == ["train/demo > code: 0 -> 1"]


def test_records_of_two_machines_are_not_taken_for_equal() -> None:
    assert compare(RECORD, changed("machine", "torch", to="2.14")) == ['machine > torch: "2.13" -> "2.14"']


def test_comparing_files_prints_the_list_and_leaves_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, record in (("a", RECORD), ("b", changed("steps", "train/demo", "code", to=1))):
        (tmp_path / name).write_text(json.dumps(record))
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out == "train/demo > code: 0 -> 1\n1 differences\n"
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out == "0 differences\n"


def test_roads_run_after_those_they_need() -> None:
    assert [road.name for road in with_needs(["answers"])] == ["synth", "preprocess", "train", "answers"]
    assert with_needs([]) == list(ROADS)
    with pytest.raises(SystemExit, match="no such road"):
        with_needs(["lane"])


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises((SystemExit, subprocess.CalledProcessError)):
        require_own_modules(tmp_path, tmp_path)
    require_own_modules(ROOT, tmp_path)


def test_a_work_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    with pytest.raises(SystemExit, match="is there already"):
        behaviour.observe(ROOT, tmp_path, [])
    assert (tmp_path / "theirs").exists()


def observed(work: Path, *, is_cold: bool) -> list[dict[str, Any]]:
    """What is noted of three commands in a folder that is made for them."""
    work.mkdir()
    size = ("--subjects", "2", "--visits", "1", "--size-px", "32", "--frames", "8")
    steps = (
        Step("synth", ("synth", "lung", "raw", *size), is_cold=is_cold),
        Step("again", ("synth", "lung", "raw", *size, "--json"), is_cold=is_cold),
        Step("wrong", ("verify", "raw"), prepare=lambda work: (work / "raw/truth.tsv").unlink(), is_cold=is_cold),
    )
    with Starter(work, environment(ROOT), ["numpy"]) as starter:
        runner = Runner(ROOT, work, starter)
        found = [runner.run(one) for one in steps]
    shutil.rmtree(work)
    return found


def test_commands_are_noted_with_all_they_wrote_and_removed_and_alike_however_they_start(tmp_path: Path) -> None:
    first = observed(tmp_path / "work", is_cold=True)
    synth, again, wrong = first
    assert (synth["code"], again["code"], wrong["code"]) == (0, 0, 3)
    assert "raw/truth.tsv" in synth["files"]
    assert len(synth["files"]) > 3
    # What a preparation does is not what the command did.
    assert (wrong["files"], wrong["gone"]) == ({}, [])
    assert [line.startswith("interscan: WORK/raw") for line in wrong["stderr"]] == [True]
    assert str(tmp_path) not in json.dumps(first)
    assert list(differences(first, observed(tmp_path / "work", is_cold=False))) == []
