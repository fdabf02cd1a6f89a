"""INT, TERM and HUP end a program in time: politely, or by force where Python cannot run a handler."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, signal, sys, time
from interscan.signals import end_on_signals, ignore_signals
def leave():
    os.write(1, b"left\\n")
    os._exit(130)
end_on_signals(leave)
def work():
    os.write(1, b"ready\\n")
    {work}
try:
    work()
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
    {after}
    os._exit(7)
"""
WAIT = "time.sleep(600)"
# Locks a mutex twice: holds the main thread in C, where no handler can run, without the lock that other threads need.
DEAF = (
    "import ctypes; c = ctypes.CDLL(None); m = (ctypes.c_char * 64)(); c.pthread_mutex_lock(m); c.pthread_mutex_lock(m)"
)


def end(number: signal.Signals, *, work: str = WAIT, after: str = "pass", prefix: tuple[str, ...] = (), again=0):
    command = [*prefix, sys.executable, "-c", PROGRAM.format(work=work, after=after)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may run under nohup
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(0.2)
        program.send_signal(number)
        for _ in range(again):
            time.sleep(0.1)
            program.send_signal(number)
        out, err = program.communicate(timeout=120)
    return program.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_program_is_interrupted_first(number: signal.Signals) -> None:
    assert end(number) == (7, "interrupted\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is a free one on Linux only")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_python_cannot_reach_is_left(number: signal.Signals) -> None:
    assert end(number, work=DEAF) == (130, "left\n", "")


def test_a_program_that_hangs_while_it_gives_back_what_it_holds_is_left() -> None:
    assert end(signal.SIGTERM, after=WAIT) == (130, "interrupted\nleft\n", "")


def test_further_signals_do_not_cut_off_what_the_first_set_going() -> None:
    code, out, err = end(signal.SIGINT, after="time.sleep(0.6); os.write(1, b'given back\\n')", again=3)
    assert (code, out, err) == (7, "interrupted\ngiven back\n", "")


def test_ctrl_c_reaches_what_a_script_started_in_the_background() -> None:
    """Shells let it begin with SIGINT ignored."""
    assert end(signal.SIGINT, prefix=("sh", "-c", 'trap "" INT; exec "$@"', "sh")) == (7, "interrupted\n", "")


def test_nohup_is_obeyed() -> None:
    prefix = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    assert end(signal.SIGHUP, work="time.sleep(1); os._exit(5)", prefix=prefix) == (5, "", "")


def test_a_verb_with_handlers_of_its_own_is_left_to_them() -> None:
    own = "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'own\\n')); time.sleep(2.5); os._exit(5)"
    assert end(signal.SIGTERM, work=own) == (5, "own\n", "")


def test_an_interruption_that_meets_a_callback_is_no_traceback() -> None:
    work = "\n    ".join(
        (
            "class Late:",
            "    def __del__(self):",
            "        time.sleep(600)",
            "late = Late()",
            "del late",
            "time.sleep(600)",
        )
    )
    code, out, err = end(signal.SIGTERM, work=work)
    assert (code, out, err) == (130, "left\n", "")


def test_nothing_spoils_the_end() -> None:
    assert end(signal.SIGTERM, work="ignore_signals(); time.sleep(1); os._exit(0)") == (0, "", "")
