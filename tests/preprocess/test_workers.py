"""Workers end with their parent however it dies, at once when it is interrupted, and never see Ctrl-C themselves."""

import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from preprocess.errors import StorageError
from preprocess.workers import WorkerPool


def pid_of_worker(_: int) -> int:
    return os.getpid()


def square(number: int) -> int:
    return number * number


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_interruptible(_: int) -> bool:
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def sleep_in(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def begin_and_end(folder: str) -> None:
    (Path(folder) / "begun").touch()
    time.sleep(0.5)
    (Path(folder) / "ended").touch()


PARENT = """
import signal
import sys
from preprocess.workers import WorkerPool
from tests.preprocess.test_workers import sleep_in
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run behind an &
    with WorkerPool(2, where="here") as pool:
        list(pool.map(sleep_in, [sys.argv[1]] * 2))
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # An orphan that nobody reaps, as in a container without an init, has ended all the same.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return Path("/proc/self").exists() is False


def wait_until(condition, seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_when_their_parent_dies_however_it_dies(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "pids").mkdir()
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "pids")]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as parent:
        assert wait_until(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
        pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
        assert all(map(runs, pids))
        parent.send_signal(number)
    assert wait_until(lambda: not any(map(runs, pids)))


LEAVING = """
import os
from preprocess.workers import WorkerPool
from tests.preprocess.test_workers import square
if __name__ == "__main__":
    with WorkerPool(2, where="here") as pool:
        print(list(pool.map(square, [2, 3])), flush=True)
        os._exit(5)
"""


def test_a_program_that_leaves_at_once_leaves_no_word_of_what_was_cleaned_up_after_it(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    # The output ends when the last process that holds it has ended: the one that cleans up.
    done = subprocess.run(
        [sys.executable, str(tmp_path / "leaving.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "[4, 9]\n", "")


def test_results_come_back_and_no_worker_is_left() -> None:
    with WorkerPool(2, where="here") as pool:
        assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
        pid = pool.submit(pid_of_worker, 0).result()
        assert pid != os.getpid()
    assert not runs(pid)


def test_a_worker_does_not_see_ctrl_c_and_this_process_still_does() -> None:
    with WorkerPool(1, where="here") as pool:
        assert not pool.submit(is_interruptible, 0).result()
    assert is_interruptible(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_while_a_worker_is_started_is_heard_and_the_worker_does_not_complain(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spawn, started = multiprocessing.util.spawnv_passfds, threading.Event()

    def hear() -> None:
        """Any thread of a process may receive its signals, whatever the main one blocks."""
        started.wait()
        signal.raise_signal(number)

    other = threading.Thread(target=hear)

    def spawn_and_hear(*arguments):
        pid = spawn(*arguments)
        started.set()
        other.join()
        return pid

    def submit() -> None:
        with WorkerPool(1, where="here") as pool:
            other.start()
            monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", spawn_and_hear)
            try:
                pool.submit(square, 2)
            finally:
                pids.extend(process.pid for process in multiprocessing.active_children())

    pids: list[int] = []
    earlier = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            submit()
    finally:
        signal.signal(number, earlier)
    assert len(pids) == 1
    assert not runs(pids[0])
    assert capfd.readouterr().err == ""


def use_pool(folder: Path, where: str, work, argument: object, error: BaseException | None = None) -> None:
    """Hand one task to a pool, wait until it has begun, then fail, or wait for its answer."""
    with WorkerPool(1, where=where) as pool:
        future = pool.submit(work, argument)
        if error is None:
            future.result()
        else:
            assert wait_until(lambda: any(folder.iterdir()))
            raise error


def test_a_worker_that_was_killed_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^gs://b/s: a worker process was killed \(out of memory\?\); .*--workers$"):
        use_pool(tmp_path, "gs://b/s", die, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_interruption_ends_running_tasks_at_once(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        use_pool(tmp_path, "here", sleep_in, str(tmp_path), error)
    # Returning at all shows it: the task sleeps for ten minutes.
    assert not runs(int(next(tmp_path.iterdir()).name))


def test_an_error_lets_running_tasks_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        use_pool(tmp_path, "here", begin_and_end, str(tmp_path), ValueError("elsewhere"))
    assert {path.name for path in tmp_path.iterdir()} == {"begun", "ended"}


def test_a_process_ends_when_the_pipe_of_its_holder_closes() -> None:
    watched, held = os.pipe()
    program = (
        "from preprocess.workers import end_with; import time; "
        f"end_with({watched}); print(1, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], pass_fds=(watched,), stdout=subprocess.PIPE) as child:
        os.close(watched)
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        assert child.poll() is None
        os.close(held)
        assert child.wait(60) == 1
