"""A pool of worker processes that never outlive this one, and processes that end with the one that started them.

Processes are spawned: gcsfs and torch do not survive a fork. Whoever forgets its workers leaves them asleep for ever,
since nothing tells a worker of `concurrent.futures` that its parent was killed (python/cpython#111873); here each
watches a pipe whose other end closes with the parent, which holds on every system with pipes.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from preprocess.errors import StorageError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_ORPHANED = 1
"""Exit code of a process whose parent is gone; nobody is left to read it."""
SIGNAL_PAUSE_S = 0.2
"""A signal to the whole group ends workers too: time for this process's own to arrive before a worker is blamed."""


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes for a `with` block.

    An error of the block lets running tasks end; an interruption, or a consumer that wants no more, ends the workers
    at once. Workers do not see Ctrl-C, which a terminal sends to all: this process decides.

        with WorkerPool(2, where="gs://bucket/store") as pool:
            results = [future.result() for future in [pool.submit(work, one) for one in ones]]

    Args:
        workers: processes, from 1.
        where: what messages name, usually the location that is written.
    """

    def __init__(self, workers: int, *, where: str) -> None:
        _start_tracker()
        super().__init__(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
        self._where = where
        self._others = {process.pid for process in multiprocessing.active_children()}

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Hand a task over; `fn` must be a function of a module."""
        # A worker inherits what is blocked, so Ctrl-C cannot interrupt it while it still imports, with a traceback.
        with _heard_later(), _blocked(signal.SIGINT):
            return super().submit(fn, *args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers.

        Raises:
            StorageError: one of them was killed.
        """
        if kind is not None and not issubclass(kind, Exception):
            for process in multiprocessing.active_children():
                if process.pid not in self._others:
                    process.kill()
        self.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            time.sleep(SIGNAL_PAUSE_S)
            raise StorageError(
                f"{self._where}: a worker process was killed (out of memory?); run the same command again with fewer "
                "--workers"
            ) from error


def _start_tracker() -> None:
    """Start the process of `multiprocessing` that cleans up after a program that had to leave at once.

    Not left to `submit`, which does not expect SIGINT unblocked afterwards. And it need not say that it cleaned up: the
    last line that a user sees says what to do next.
    """
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def end_with(descriptor: int) -> None:
    """End this process at once when the other end of a pipe is closed, as it is when its holder ends.

    Args:
        descriptor: the end that reads; nothing is ever written.
    """
    threading.Thread(target=_end_after, args=(lambda: os.read(descriptor, 1),), name="end-with", daemon=True).start()


def _begin() -> None:
    """Let a worker end when its parent does, and before it where memory is short; the first that it runs."""
    # The kernel would choose by size, and may choose the process that could have gone on without a worker.
    with suppress(OSError):  # not on macOS
        Path("/proc/self/oom_score_adj").write_text("500")
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent.join,), name="end-with-parent", daemon=True).start()


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    # Not sys.exit: this thread's end would not be the process's. What was being written is no more than a part.
    os._exit(_ORPHANED)


@contextmanager
def _heard_later() -> Iterator[None]:
    """Let the handlers of signals that end a program run after the block.

    One that raised inside would leave a worker that was started and never given a task, which says so with a
    traceback. Blocking the signals does not help: Python's main thread handles what any thread of the process receives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    earlier = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):  # ignored and deadly ones raise nothing
            earlier[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
