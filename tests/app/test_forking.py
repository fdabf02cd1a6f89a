"""The process to fork from is started once, and has the readers."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

from app.forking import start_forking


def loaded(names: list[str], connection: object) -> None:
    connection.send((os.getppid(), [name in sys.modules for name in names]))  # type: ignore[attr-defined]


def test_starting_again_keeps_the_one_that_is_there() -> None:
    start_forking()
    pid = forkserver._forkserver._forkserver_pid
    start_forking()
    assert forkserver._forkserver._forkserver_pid == pid
    ours, theirs = multiprocessing.get_context("forkserver").Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=loaded, args=(["numpy", "monai"], theirs))
    process.start()
    parent, (has_numpy, has_monai) = ours.recv()
    process.join()
    assert parent == pid
    assert has_numpy
    assert not has_monai


def test_stopping_leaves_neither_process_nor_socket_nor_folder(tmp_path: Path) -> None:
    code = (
        "import os; from multiprocessing import forkserver; from app.forking import start_forking, stop_forking; "
        "start_forking(); print(forkserver._forkserver._forkserver_pid); stop_forking(); stop_forking(); "
        "print(os.listdir(os.environ['TMPDIR'])); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-uc", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=120,
    )
    pid, left = done.stdout.splitlines()
    assert left == "[]"
    assert not Path(f"/proc/{pid}").exists()
