"""The process that decoding processes are forked from; it imports their readers while this one imports its own."""

from multiprocessing import forkserver

_PRELOADED = ["app.decoder_process", "app.inputs"]


def start_forking() -> None:
    """Start the process to fork from, if there is none yet; returns at once."""
    forkserver.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()
