"""A verb that is interrupted says so, leaves with 130, leaves nothing running, and can be run again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interscan.synthetic.brain.cohort import write_brain_cohort
from tests.support.images import tree

ROOT = Path(__file__).parents[2]
GO_ON = "interscan: interrupted; run the same command again to go on\n"
START_OVER = "interscan: interrupted; run the same command again to start over\n"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw") / "cohort"
    write_brain_cohort(out, num_subjects=8, spacing_mm=6.0, workers=0)
    return out


def preprocessing(cohort: Path, store: Path) -> list[str]:
    size = ("--set", "grid=[16, 16, 16]", "--set", "spacing_mm=12", "--set", "quality.max_spacing_mm=9")
    settings = (*size, "--workers", "2")
    return [sys.executable, "-m", "interscan", "preprocess", str(cohort), str(store), *settings]


def offspring(pid: int) -> set[int]:
    """Processes below one, at any depth."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def is_there(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return listed.strip() != "" and not listed.strip().startswith("Z")


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def interrupt(
    arguments: list[str], number: signal.Signals, ready: Callable[[int], bool], *, group: bool = False
) -> tuple[int, str, str, set[int]]:
    """Run a program until it is ready, send it a signal; its code, output, and the processes it had."""
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as program:
        assert wait_for(lambda: ready(program.pid) or program.poll() is not None)
        assert program.poll() is None, program.communicate()
        had = offspring(program.pid)
        (os.killpg if group else os.kill)(program.pid, number)
        out, err = program.communicate(timeout=240)
    return program.returncode, out, err, had


@pytest.mark.parametrize("group", [True, False], ids=["the terminal", "kill"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_preprocess_says_the_line_and_goes_on_later(
    cohort: Path, tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    command = preprocessing(cohort, tmp_path / "store")
    # Two workers and multiprocessing's own helper.
    code, out, err, had = interrupt(command, number, lambda pid: len(offspring(pid)) >= 3, group=group)
    assert (code, out) == (130, "")
    assert err.endswith(GO_ON)
    assert "Traceback" not in err
    assert len(had) >= 3
    assert wait_for(lambda: not any(map(is_there, had)))
    assert not list(tmp_path.rglob("writer.json"))
    if number == signal.SIGTERM and group:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        undisturbed = preprocessing(cohort, tmp_path / "other")
        subprocess.run(undisturbed, capture_output=True, check=True, cwd=ROOT)
        assert tree(tmp_path / "store") == tree(tmp_path / "other")


def test_workers_do_not_outlive_a_run_that_was_killed_and_its_store_is_free_at_once(
    cohort: Path, tmp_path: Path
) -> None:
    command = preprocessing(cohort, tmp_path / "store")
    code, _, _, had = interrupt(command, signal.SIGKILL, lambda pid: len(offspring(pid)) >= 3)
    assert code == -signal.SIGKILL
    assert wait_for(lambda: not any(map(is_there, had)))
    assert (tmp_path / "store" / "writer.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "taking over from host" in done.stderr
    assert not (tmp_path / "store" / "writer.json").exists()


def test_synth_ends_its_workers_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    arguments = ["--subjects", "6", "--spacing-mm", "3", "--workers", "2"]
    command = [sys.executable, "-m", "interscan", "synth", "brain", str(tmp_path / "out"), *arguments]
    code, _, err, had = interrupt(command, signal.SIGTERM, lambda pid: any((tmp_path / "out").rglob("*.nii.gz")))
    assert (code, err.splitlines(keepends=True)[-1]) == (130, GO_ON)
    assert "Traceback" not in err
    assert wait_for(lambda: not any(map(is_there, had)))
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    write_brain_cohort(tmp_path / "truth", num_subjects=6, spacing_mm=3.0, workers=0)
    assert tree(tmp_path / "out") == tree(tmp_path / "truth")


HANGING = """
import sys, time, os
import preprocess.store
def hang(*_):
    print("hangs", file=sys.stderr, flush=True)
    time.sleep(600)
preprocess.store.Store.open = hang
from interscan.cli import main
main(sys.argv[1:])
"""


def hear_hangups() -> None:
    """The tests themselves may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("arguments", "number", "line"),
    [
        (("verify", "store"), signal.SIGINT, START_OVER),
        (("verify", "store"), signal.SIGTERM, START_OVER),
        (("verify", "store"), signal.SIGHUP, START_OVER),
        (("plan", "store", "demo"), signal.SIGTERM, START_OVER),
        (("embed", "artefact", "store", "out.parquet"), signal.SIGTERM, START_OVER),
        (("train", "demo", "--store", "store", "--run", "run"), signal.SIGTERM, GO_ON),
        (("cross-validate", "demo", "--store", "store", "--out", "run"), signal.SIGINT, GO_ON),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_other_verbs_say_whether_they_go_on(arguments: tuple[str, ...], number: signal.Signals, line: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", HANGING, *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        preexec_fn=hear_hangups,
    )  # fmt: skip
    with program:
        assert program.stderr is not None
        assert program.stderr.readline() == "hangs\n"
        program.send_signal(number)
        out, err = program.communicate(timeout=120)
    assert (program.returncode, out, err) == (130, "", line)


def test_the_first_process_of_a_container_hears_too(cohort: Path, tmp_path: Path) -> None:
    """There a signal without a handler is ignored, whatever its default is elsewhere."""
    spawn = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*spawn, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not make a namespace of processes")
    command = [*spawn, *preprocessing(cohort, tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as outer:
        assert wait_for(lambda: len(offspring(outer.pid)) >= 4)
        first = min(offspring(outer.pid))
        had = offspring(outer.pid)
        os.kill(first, signal.SIGTERM)
        _, err = outer.communicate(timeout=240)
    assert outer.returncode == 130
    assert err.endswith(GO_ON)
    assert wait_for(lambda: not any(map(is_there, had)))
