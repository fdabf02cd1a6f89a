"""The command line as a whole: what it loads, what it says, and what it returns."""

import json
import os
import subprocess
import sys

import pytest

from interscan.cli import VERBS, run
from tests.support.stores import write_store


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
        "card",
        "embed",
        "predict",
        "serve",
        "demo",
        "bench",
    ):
        assert verb in shown


WITH_OPTIONS = [*sorted(set(VERBS) - {"synth"}), "synth brain", "synth lung", "synth severity", "synth connectome"]


@pytest.mark.parametrize("verb", WITH_OPTIONS)
def test_each_verb_explains_every_one_of_its_options(verb, capsys):
    assert run([*verb.split(), "--help"]) == 0
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
        (["train", "demo", "--store", "s", "--ru", "x"], "--run"),
        (["verify", "x", "--shallow"], "interscan verify takes --cluster, --json (see interscan verify --help)"),
        (["synth", "heart", "out"], "heart"),
        (["synth", "brain", "out", "--subjects", "many"], "many"),
        (["synth", "brain"], "(see interscan synth brain --help)"),
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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "store").location.uri


def shell(line, **environment):
    """What a user types, with the program as "$@"; code of the program, stdout, stderr."""
    command = ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "interscan"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("output", ["| true", ">&-", ">&- 2>&- <&-", "2>&-", "2>/dev/full", "2>&1 | true"])
def test_whoever_does_not_read_changes_no_exit_code(store, output):
    assert shell(f'"$@" verify {store} --json {output}')[0] == 0
    assert shell(f'"$@" verify {store}/none --json {output}')[0] == 3


@pytest.mark.parametrize("verb", ["verify", "--help"])
def test_a_result_that_cannot_be_written_is_one_line_and_exit_3(store, verb):
    code, _, err = shell(f'"$@" {verb if verb == "--help" else f"verify {store}"} > /dev/full')
    assert code == 3
    assert "no space left on device; make room there" in err.splitlines()[-1]


@pytest.mark.parametrize("arguments", ["--help", "synth --help", "--version"])
@pytest.mark.parametrize("output", ["| true", ">&-"])
def test_help_that_nobody_reads_is_no_error(arguments, output):
    assert shell(f'"$@" {arguments} {output}')[::2] == (0, "")


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_ascii_terminal_gets_all_of_it(store, environment, tmp_path):
    odd = tmp_path / "Gemüse"
    odd.mkdir()
    code, out, _ = shell('"$@" synth --help', LC_ALL="C", **environment)
    assert (code, out.isascii()) == (0, True)
    code, _, err = shell(f'"$@" verify {odd}', LC_ALL="C", **environment)
    if "PYTHONUTF8" in environment:
        expected = (2, f"interscan: {odd}: the locale names ASCII files only; set PYTHONUTF8=1, or LC_ALL=C.UTF-8")
    else:
        expected = (3, f"interscan: {odd}: no store.json, so this is not a finished store; run interscan preprocess")
    assert code == expected[0]
    assert err.startswith(expected[1].encode("ascii", "backslashreplace").decode())


def test_a_path_that_is_no_utf_8_is_refused_before_any_work(capsys):
    assert run(["verify", os.fsdecode(b"M\xfcller/store")]) == 2
    assert capsys.readouterr().err == (
        "interscan: M\\xfcller/store: holds bytes that are no UTF-8; rename the folder, or reach it through a link "
        "whose name is UTF-8\n"
    )


FAILING = "import preprocess.store as s; s.Store.open = lambda *_: (_ for _ in ()).throw({error}); "


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("OSError(24, 'Too many open files', '/x')", 3, "interscan: /x: too many open files; allow more open files"),
        ("MemoryError()", 3, "interscan: out of memory; ask for less at once"),
        ("KeyError('odd')", 70, "interscan: this is a defect of interscan; please report the lines above"),
    ],
)
def test_what_nobody_foresaw_has_a_line_and_never_the_code_of_scans_left_out(error, code, line):
    program = FAILING.format(error=error) + "from interscan.cli import main; main(['verify', 'x'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith(line)
    assert ("Traceback" in done.stderr) == (code == 70)


@pytest.mark.parametrize("cohort", ["brain", "lung"])
def test_a_full_disk_under_synth_is_one_line(tmp_path, cohort):
    # A limit on the size of files, which any user may set, stands for the disk.
    size = "--spacing-mm 4 --workers 0" if cohort == "brain" else ""
    code, out, err = shell(f'ulimit -f 16; "$@" synth {cohort} {tmp_path}/out --subjects 2 {size}')
    assert (code, out) == (3, b"")
    last = err.splitlines()[-1]
    assert last.startswith(f"interscan: {tmp_path}/out/")
    assert "too large" in last
    assert last.endswith("; allow larger files (ulimit -f), or choose another location")
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("writer.json"))
