"""The trainer's verbs through the program: exit codes, one JSON object on stdout, one line for an error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from interscan.cli import run as interscan
from preprocess.manifest import Manifest
from tests.support.cohorts import default_scans, recipe_toml, tiny_recipe, write_store
from tests.trainer.conftest import Finished
from trainer.metrics.evaluation import Evaluation


def only_json(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    """The one object on stdout, and the log."""
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    return json.loads(printed.out), printed.err


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(recipe_toml(tiny_recipe()))
    return str(path)


def test_the_three_verbs_lead_from_a_store_to_an_artefact(
    tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run, artefact = (str(tmp_path / name) for name in ("store", "run", "artefact"))
    write_store(store)
    assert interscan(["train", recipe, "--store", store, "--run", run, "--set", "optim.epochs=1", "--json"]) == 0
    trained, log = only_json(capsys)
    assert trained["run"] == run
    assert trained["steps"] == 3
    assert "train: 3 of 3" in log
    assert interscan(["evaluate", run, "--json"]) == 0
    evaluated, _ = only_json(capsys)
    assert Path(str(evaluated["report"])).is_file()
    fields = {name: value for name, value in evaluated.items() if name in Evaluation.model_fields}
    assert Evaluation.model_validate(fields).recipe == "tiny"
    assert interscan(["export", run, artefact, "--name", "mine", "--version", "2", "--json"]) == 0
    exported, _ = only_json(capsys)
    assert exported.pop("artefact") == artefact
    manifest = Manifest.model_validate(exported)
    assert (manifest.name, manifest.version) == ("mine", "2")
    assert manifest == Manifest.model_validate_json((tmp_path / "artefact" / "manifest.json").read_bytes())


def test_without_json_stdout_holds_text_for_a_person(
    evaluated: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = str(evaluated.folder), evaluated.store.location.uri
    assert interscan(["train", recipe_of(tmp_path), "--store", store, "--run", run]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{run}: 6 steps, ")
    assert "last epoch: learning_rate 0.000, loss " in text
    assert interscan(["evaluate", run]) == 0
    assert f"report: {run}/evaluation/report.html" in capsys.readouterr().out
    assert interscan(["export", run, str(tmp_path / "artefact")]) == 0
    first, *guarantees = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/artefact: tiny 1, 5 files, programs agree within 1e-05"
    assert guarantees[0] == "guarantees: 3 of 3 hold"


def test_cross_validate_says_a_line_a_metric_or_one_object_and_goes_on(
    finished: Finished, tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "cv")
    command = ["cross-validate", recipe, "--store", finished.store.location.uri, "--out", out]
    three, short = ["--folds", "3"], ["--set", "optim.epochs=1"]
    assert interscan([*command, *three, *short, "--json"]) == 0
    found, log = only_json(capsys)
    assert found.pop("summary") == f"{out}/cross_validation.json"
    assert found == json.loads((tmp_path / "cv" / "cross_validation.json").read_text())
    assert "folds: 3 of 3" in log
    assert interscan([*command, *three, *short]) == 0
    lines = capsys.readouterr().out.splitlines()
    metric = found["figures"]["macro_f1"]
    row = next(line for line in lines if line.startswith("macro_f1 ")).split()
    assert [float(row[1]), float(row[-1])] == [round(metric["value"], 3), round(metric["chance"], 3)]
    assert lines[0].startswith("tiny on mmse: 3 folds, repeats: 1; ")
    for arguments, code, message in (
        ([*command, "--folds", "4", *short], 3, "number of folds: it was 3 and is 4"),
        ([*command, *three], 3, "optim.epochs was 1 and is 2"),
        ([*command, "--folds", "1", *short], 2, "1 folds and 1 repeats; at least 2 folds"),
        ([*command, "--folds", "40", *short], 2, "subjects, fewer than the 40 folds"),
    ):
        assert interscan(arguments) == code
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert message in printed.err


def recipe_of(folder: Path) -> str:
    path = folder / "tiny.toml"
    path.write_text(recipe_toml(tiny_recipe()))
    return str(path)


def test_a_moved_store_can_be_given(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished.copy_to(tmp_path / "run")
    moved = write_store(tmp_path / "moved", default_scans()).location.uri
    assert interscan(["evaluate", run.location.uri, "--store", moved, "--json"]) == 0
    assert interscan(["export", run.location.uri, str(tmp_path / "artefact"), "--store", moved, "--json"]) == 0
    manifest = json.loads((tmp_path / "artefact" / "manifest.json").read_text())
    assert manifest["training"]["store_uri"] == moved
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "none", "--store", "S", "--run", "R"], 2, "none: no recipe of that name"),
        (["train", "clinimcl"], 2, "--store"),
        (["train", "clinimcl", "--store", "S", "--run", "R", "--set", "sed=1"], 2, "did you mean 'seed'?"),
        (["train", "clinimcl", "--store", "{here}/none", "--run", "R"], 3, "no store.json"),
        (["train", "{recipe}", "--store", "{store}", "--run", "{run}"], 3, "seed was 0 and is 5"),
        (["train", "clinimcl", "--store", "ftpx://a/b", "--run", "R"], 3, "use a local path, gs://"),
        (["evaluate", "{here}/none"], 3, "no run.json"),
        (["export", "{run}", "{here}/artefact"], 3, "run interscan evaluate first"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    finished: Finished,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    recipe = tmp_path / "other.toml"
    recipe.write_text(recipe_toml(tiny_recipe(seed=5)))
    paths = {
        "here": str(tmp_path), "recipe": str(recipe), "store": finished.store.location.uri, "run": str(finished.folder)
    }  # fmt: skip
    assert interscan([argument.format(**paths) for argument in arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("interscan: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


@pytest.mark.bucket
def test_the_three_verbs_work_on_a_bucket(bucket: str, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    from preprocess.storage import Location

    write_store(Location(f"{bucket}/store"))
    assert interscan(["train", recipe, "--store", f"{bucket}/store", "--run", f"{bucket}/run", "--json"]) == 0
    assert interscan(["evaluate", f"{bucket}/run", "--json"]) == 0
    assert interscan(["export", f"{bucket}/run", f"{bucket}/models/tiny/1", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert Location(f"{bucket}/models/tiny/1").exists("manifest.json")


@pytest.mark.parametrize(
    "verb",
    [["train", "clinimcl", "--run", "r"], ["cross-validate", "clinimcl", "--out", "o"], ["plan", "s", "clinimcl"]],
)
def test_a_wrong_setting_is_answered_before_torch_is_loaded(tmp_path: Path, verb: list[str]) -> None:
    arguments = [*verb, *([] if verb[0] == "plan" else ["--store", "s"]), "--set", "objective.0.temprature=1"]
    program = (
        f"import sys; from interscan.cli import run; code = run({arguments!r});"
        "sys.exit('loaded torch' if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ("interscan: clinimcl: unknown key 'objective.0.temprature'; did you mean 'temperature'?\n")
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
