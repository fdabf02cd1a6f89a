"""HEAD answers as GET does without a body, and behind a real proxy every page and redirect stays under its prefix."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn

from app.main import create_app
from app.settings import make_settings
from tests.support.service import running

OPEN = ["/livez", "/readyz", "/metrics", "/v1/models", "/openapi.json", "/docs", "/redoc"]


@pytest.mark.parametrize("path", [*OPEN, "/nothing", "/v1/progression", "/v1/models/"])
def test_head_answers_as_get_does_without_a_body(client, path):
    got = client.get(path, follow_redirects=False)
    head = client.head(path, follow_redirects=False)

    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers.keys() == got.headers.keys()
    if path != "/metrics":  # which counts both
        same = {"content-length", "content-type", "allow", "location"} & got.headers.keys()
        assert [head.headers[name] for name in same] == [got.headers[name] for name in same]
    if path in OPEN:
        assert head.status_code == 200


def test_head_needs_the_key_that_get_needs(artefact):
    with running(artefact, api_keys=("k" * 20,)) as client:
        assert client.head("/v1/models").status_code == 401
        assert client.head("/v1/models", headers={"Authorization": "Bearer " + "k" * 20}).status_code == 200


def test_head_is_counted_as_head_under_its_route(artefact):
    with running(artefact) as client:
        client.head("/livez")
        text = client.get("/metrics").text
    assert 'interscan_requests_total{method="HEAD",route="/livez",status="200"} 1.0' in text


@pytest.mark.parametrize(
    ("path", "allow"), [("/livez", "GET, HEAD"), ("/v1/models", "GET, HEAD"), ("/v1/progression", "POST")]
)
def test_other_methods_are_told_which_ones_there_are(client, path, allow):
    for method in ("OPTIONS", "DELETE"):
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allow)


def test_head_over_a_real_connection_leaves_it_usable(artefact):
    with listening(create_app(make_settings(artefacts=(str(artefact),)))) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(2):
            connection.request("HEAD", "/livez")
            response = connection.getresponse()
            assert (response.status, response.read(), response.headers["content-length"]) == (200, b"", "18")
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b'{"status":"alive"}'
        connection.close()


@pytest.mark.parametrize("passes_prefix_on", [True, False])
@pytest.mark.parametrize("prefix", ["/scan", "/lab/scan-2"])
def test_behind_a_proxy_all_stays_under_the_prefix(artefact, prefix, passes_prefix_on):
    app = create_app(make_settings(artefacts=(str(artefact),), root_path=prefix + "/"))
    with listening(app) as inner, proxy(inner, prefix, passes_prefix_on) as port:
        for path in OPEN:
            assert ask(port, f"{prefix}{path}")[0] in ((200, 503) if path == "/readyz" else (200,)), path
        assert f"url: '{prefix}/openapi.json'" in ask(port, f"{prefix}/docs")[2]
        assert f'"{prefix}/openapi.json"' in ask(port, f"{prefix}/redoc")[2]
        assert json.loads(ask(port, f"{prefix}/openapi.json")[2])["servers"] == [{"url": prefix}]
        status, headers, _ = ask(port, f"{prefix}/v1/models/?page=2")
        assert (status, headers["location"]) == (307, f"{prefix}/v1/models?page=2")
        assert ask(port, headers["location"])[0] == 200
        assert ask(port, f"{prefix}/nothing")[0] == 404
        # Probes of the same machine go past the proxy.
        assert ask(inner, "/livez")[0] == 200


def test_a_header_cannot_set_the_prefix_nor_lead_a_redirect_away(client):
    headers = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Script-Name": "/evil"}

    assert "evil" not in client.get("/docs", headers=headers).text
    assert "servers" not in client.get("/openapi.json", headers=headers).json()
    redirected = client.get("/v1/models/", headers=headers, follow_redirects=False)
    assert (redirected.status_code, redirected.headers["location"]) == (307, "/v1/models")


def test_without_a_prefix_the_contract_names_no_server(client):
    assert "servers" not in client.get("/openapi.json").json()


def ask(port: int, path: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


@contextmanager
def listening(app) -> Iterator[int]:
    """The service on a free port, as `serve` runs it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def proxy(inner: int, prefix: str, passes_prefix_on: bool) -> Iterator[int]:
    """A small reverse proxy that publishes the service under a prefix, as nginx does with or without a final slash."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            status, headers, text = ask(inner, self.path if passes_prefix_on else self.path.removeprefix(prefix))
            self.send_response(status)
            for name in ("content-type", "content-length", "location"):
                if headers[name] is not None:
                    self.send_header(name, headers[name])
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
