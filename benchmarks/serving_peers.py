"""Other servers of models beside ours, with the same artefact and preprocessing, in an environment of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from benchmarks.running import ROOT
from benchmarks.serving_load import Upload

_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with.

    Attributes:
        name: for the table.
        arguments: after the interpreter; PORT and ARTEFACT are put in.
        route: which answers a pair.
    """

    name: str
    arguments: tuple[str, ...]
    route: str


PEERS = (
    Peer("LitServe", ("-m", "benchmarks.peers.litserve_pairs", "ARTEFACT", "PORT"), "/predict"),
    Peer(
        "BentoML",
        ("-m", "bentoml", "serve", "benchmarks.peers.bentoml_pairs:Pairs", "--host", "127.0.0.1", "--port", "PORT"),
        "/progression",
    ),
)


@contextlib.contextmanager
def serving_peer(peer: Peer, python: str, artefact: Path, first: Upload) -> Iterator[str]:
    """A peer in a process group of its own that has answered one pair; its address.

    Raises:
        RuntimeError: it does not answer; its log is on stderr.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"PORT": str(port), "ARTEFACT": str(artefact)}
    command = [python, *(places.get(one, one) for one in peer.arguments)]
    env = os.environ | {"ARTEFACT": str(artefact), "PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "true"}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=2, start_new_session=True) as server:
        try:
            _wait_for(server, url + peer.route, first)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def _wait_for(server: "subprocess.Popen[bytes]", url: str, first: Upload) -> None:
    until = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.post(url, content=first.content, headers=first.headers, timeout=60).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"no answer from {url} within {_START_S:g} s; see its log above")
