"""A command in a child of the loaded process is the program itself: its output, its exit code, its end."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.behaviour import environment
from benchmarks.behaviour_start import Starter

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    with Starter(tmp_path_factory.mktemp("work"), environment(ROOT), ["numpy"]) as loaded:
        yield loaded


@pytest.mark.parametrize(
    "arguments", [["--help"], ["verify", "nowhere"], ["trane"], ["synth", "lung", "raw", "--subjects", "0"]]
)
def test_it_prints_and_leaves_as_python_m_does(starter: Starter, tmp_path: Path, arguments: list[str]) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    code = starter.start(arguments, out, err).wait(120)
    command = [sys.executable, "-m", "interscan", *arguments]
    alone = subprocess.run(command, cwd=tmp_path, env=environment(ROOT), capture_output=True, text=True, check=False)
    work = starter.work
    assert (code, out.read_text(), err.read_text().replace(str(work), str(tmp_path))) == (
        alone.returncode,
        alone.stdout,
        alone.stderr,
    )
    assert out.read_text() + err.read_text()


def test_the_loaded_process_holds_nothing_of_the_program(tmp_path: Path) -> None:
    """So every command imports the checkout's own modules, whatever ran before."""
    (tmp_path / "interscan").mkdir()
    (tmp_path / "interscan" / "__init__.py").touch()
    with Starter(tmp_path, environment(tmp_path), ["numpy"]) as loaded:
        for word in ("first", "second"):
            (tmp_path / "interscan" / "__main__.py").write_text(f"print('{word}')\n")
            assert loaded.start([], tmp_path / word, tmp_path / "err").wait(60) == 0
            assert (tmp_path / word).read_text() == f"{word}\n"


def test_a_command_can_be_asked_to_stop(starter: Starter, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    program = starter.start(["synth", "brain", "heads", "--subjects", "500", "--workers", "0"], out, err)
    until = time.monotonic() + 60
    while not list(starter.work.glob("heads/sub-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert program.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.01)
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == 130
    assert err.read_text().endswith("interscan: interrupted; run the same command again to go on\n")
    assert program.used_s > 0
    program.send_signal(signal.SIGTERM)  # nothing is there any more
