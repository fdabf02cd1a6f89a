"""One daemon thread beside training: one job at a time, one waiting at most, and a pulse between jobs.

Uploads and the lease's heartbeat share it, so that a step waits for neither. What fails there is raised on the
training thread, at the next step.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from preprocess.errors import InterscanError, RunError

Job = Callable[[], None]


class Background:
    """Runs jobs in the order they came.

        with Background(lease.beat, pulse_s=lease.beat_s) as background:
            background.submit(upload)
            background.raise_failure()  # after every step

    Args:
        pulse: called every `pulse_s` while no job runs; it must be quick.
        pulse_s: seconds between two pulses.

    Leaving the block after an error, a stop request included, waits for nothing: the thread ends with the program.
    Leaving it otherwise waits for the jobs.
    """

    def __init__(self, pulse: Job | None = None, *, pulse_s: float = 10.0) -> None:
        self._pulse = pulse
        self._pulse_s = pulse_s
        self._changed = threading.Condition()
        self._running = False
        self._waiting: tuple[Job, bool] | None = None
        self._closed = False
        self._failure: InterscanError | None = None
        # A daemon, since a request that hangs must not hold up the end of a stopped program.
        self._thread = threading.Thread(target=self._work, name="interscan-background", daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            with self._changed:
                self._closed, self._waiting = True, None
                self._changed.notify_all()
            if error is None:
                self._thread.join()

    def submit(self, job: Job, *, must_run: bool = False) -> None:
        """Hand a job over.

        It replaces a job that still waits; where that one must run, this waits until it has begun.

        Args:
            job: what to do.
            must_run: whether a later job may not replace it.

        Raises:
            InterscanError: an earlier job failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle_slot() or self._ended())
            self._raise_failure()
            self._waiting = (job, must_run)
            self._changed.notify_all()

    def wait(self) -> None:
        """Return when all jobs are done.

        Raises:
            InterscanError: one of them failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: (self._waiting is None and not self._running) or self._ended())
            self._raise_failure()

    def forget(self) -> None:
        """Drop a job that has not begun."""
        with self._changed:
            self._waiting = None
            self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raise what a job or the pulse failed with; called after every step.

        Raises:
            InterscanError: the failure, once and at every later call.
        """
        with self._changed:
            self._raise_failure()

    def _idle_slot(self) -> bool:
        return self._waiting is None or not self._waiting[1]

    def _ended(self) -> bool:
        return self._failure is not None or not self._thread.is_alive()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._thread.is_alive():
            raise RunError("the thread that writes checkpoints has ended; its traceback is above: please report it")

    def _work(self) -> None:
        try:
            next_pulse = time.monotonic() + self._pulse_s
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._closed or self._waiting is not None,
                        timeout=max(0.0, next_pulse - time.monotonic()) if self._pulse else None,
                    )
                    if self._closed:
                        return
                    job = self._waiting[0] if self._waiting else None
                    self._waiting, self._running = None, job is not None
                    self._changed.notify_all()
                if self._pulse and time.monotonic() >= next_pulse:
                    self._pulse()
                    next_pulse = time.monotonic() + self._pulse_s
                if job is not None:
                    job()
                    del job  # it holds a whole state
                with self._changed:
                    self._running = False
                    self._changed.notify_all()
        except InterscanError as error:
            with self._changed:
                self._failure = error
        finally:
            with self._changed:
                self._running, self._waiting = False, None
                self._changed.notify_all()
