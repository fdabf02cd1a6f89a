"""A process is distinguished from another of its number and from one that has ended; other machines' are left alone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.holder import Holder


def ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_this_process_lives_and_says_what_it_does() -> None:
    me = Holder.this_process("writes")
    assert not me.is_dead_here()
    assert (me.pid, me.does) == (os.getpid(), "writes")
    assert me.name.endswith(f"pid {os.getpid()}")
    assert me.token != Holder.this_process("writes").token


def test_a_process_that_has_ended_is_dead_here_and_unknown_elsewhere() -> None:
    gone = replace(Holder.this_process("writes"), pid=ended_pid(), process_start=-1)
    assert gone.is_dead_here()
    assert not replace(gone, machine="elsewhere").is_dead_here()


def test_another_process_under_the_same_number_is_not_the_holder() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("only Linux tells when a process started")
    assert replace(Holder.this_process("writes"), process_start=12).is_dead_here()
