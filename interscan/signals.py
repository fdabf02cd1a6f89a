"""SIGINT, SIGTERM and SIGHUP end a program within two seconds: by KeyboardInterrupt if it can, else by leaving.

Python runs a signal's handler between two instructions of the main thread, which may be far apart: a thread that the
system wakes at once sees to it that the program ends. Handlers are installed for each signal, since the first process
of a container ignores every signal that it does not handle. Verbs with handlers of their own (train,
cross-validate, serve) are left to those while they last.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

GRACE_S = 1.5
"""For a verb to give back what it holds, before the program leaves without it."""
_SHOW_CURSOR = "\x1b[?25h"
"""A progress bar hides it."""


def end_on_signals(leave: Callable[[], None]) -> None:
    """Install the handlers, in the main thread of a program that ends with `os._exit`.

    Args:
        leave: says goodbye and ends the process; called by another thread when the main one has not ended in time.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup asks for SIGHUP to be ignored. SIGINT is ignored in whatever a script starts with &, where those who
        # send it mean it all the same.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _report_unraisable
    threading.Thread(target=_watch, args=(reader, leave), name="interscan-signals", daemon=True).start()


def ignore_signals() -> None:
    """Let nothing spoil the end of a program that has done its work."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def show_cursor() -> None:
    """Give a terminal its cursor back, which a progress bar that was cut off has hidden."""
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # A second signal must not cut off what the first one set going; the watching thread ends what hangs.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _ignore)
    raise KeyboardInterrupt


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _watch(reader: int, leave: Callable[[], None]) -> None:
    while True:
        number = os.read(reader, 1)[0]
        if signal.getsignal(number) in (_interrupt, _ignore):
            time.sleep(GRACE_S)
            leave()


def _report_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """As Python does; but an interruption that met a callback is not an error to be shown."""
    if not isinstance(found.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(found)
