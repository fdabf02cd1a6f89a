"""The command line as a whole: what it loads, what it says, and what it returns."""

import json
import subprocess
import sys

import pytest

from interscan.cli import VERBS, run


def test_help_lists_every_verb_of_the_design(capsys):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in (
        "synth",
        "preprocess",
        "verify",
        "plan",
        "train",
        "evaluate",
        "cross-validate",
        "export",
        "embed",
        "predict",
        "serve",
        "demo",
        "bench",
    ):
        assert verb in shown


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_explains_every_one_of_its_options(verb, capsys):
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"interscan {verb}" in shown
    rows = [row.strip("│ ") for row in shown.splitlines() if row.startswith("│")]
    # A row that starts an option ends in its explanation; wrapped text follows without a leading dash or star.
    for row in rows:
        if row.startswith(("--", "*")):
            assert len(row.split("  ")) > 1, row
    if verb != "serve":
        assert "--json" in shown


def test_asking_for_help_loads_neither_torch_nor_any_part():
    program = (
        "import sys; from interscan.cli import run; code = run(['--help']);"
        "heavy = {'torch', 'monai', 'zarr', 'fastapi', 'numpy', 'preprocess.engine'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["preproces", "a", "b"], 'Did you mean "preprocess"'),
        (["preprocess", "a"], "--store requires an argument"),
        (["train", "demo", "--stroe", "x"], "--stroe"),
        (["synth", "heart", "out"], "heart"),
        (["synth", "brain", "out", "--subjects", "many"], "many"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments, words, capsys):
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("interscan: ")
    assert words in said.err


def test_the_program_returns_the_exit_code_of_a_broken_store(tmp_path):
    command = [sys.executable, "-m", "interscan", "verify", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "no store.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_one_object_on_stdout_and_the_log_is_not(tmp_path, capsys):
    assert (
        run(["synth", "brain", str(tmp_path / "c"), "--subjects", "1", "--visits", "1", "--spacing-mm", "8", "--json"])
        == 0
    )
    said = capsys.readouterr()
    assert json.loads(said.out)["num_subjects"] == 1
    assert said.out.count("\n") == 1
