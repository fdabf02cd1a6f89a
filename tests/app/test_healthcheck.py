"""The probe of the image: 0 when the service is ready, 1 when it is not, answers otherwise or is not there."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from app.healthcheck import is_ready
from tests.support.bucket import free_port


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (204, False), (503, False), (500, False)])
def test_the_status_of_readyz_decides(server, monkeypatch, status, ready):
    monkeypatch.setattr(Answers, "status", status)

    assert is_ready(str(server.server_address[1])) is ready


@pytest.mark.parametrize("port", ["", "abc", "0", "free"])
def test_a_port_where_nobody_answers_is_not_ready(port):
    assert is_ready(str(free_port()) if port == "free" else port) is False


def test_the_exit_code_is_what_an_engine_reads_and_the_port_is_that_of_the_service(server):
    port = str(server.server_address[1])
    probe = [sys.executable, "-m", "app.healthcheck"]

    assert subprocess.run(probe, env={"PORT": port}, check=False).returncode == 0
    assert subprocess.run(probe, env={"INTERSCAN_PORT": port}, check=False).returncode == 0
    assert subprocess.run(probe, env={"PORT": str(free_port())}, check=False).returncode == 1
    both = {"INTERSCAN_PORT": port, "PORT": str(free_port())}  # as in an image, whose PORT is set
    assert subprocess.run(probe, env=both, check=False).returncode == 0
