"""The process that decoding processes are forked from; it imports their readers while this one imports its own."""

import os
import signal
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_PRELOADED = ["app.decoder_process", "app.inputs"]


def start_forking() -> None:
    """Start the process to fork from, if there is none yet; returns at once."""
    forkserver.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()


def stop_forking() -> None:
    """End that process, and remove its socket and the folder.

    Python does so at its own end, which `serve` leaves out. It is killed, since its own end takes a second or two.
    """
    server: Any = forkserver._forkserver
    pid, address = server._forkserver_pid, server._forkserver_address
    if pid is None:
        return
    os.kill(pid, signal.SIGKILL)
    server._stop()
    folder = Path(address).parent
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
