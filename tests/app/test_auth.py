"""Who is let in."""

import pytest

from tests.support.artefacts import write_artefact
from tests.support.heads import head_nifti
from tests.support.service import assert_problem, running

KEYS = ("first-key-0123456789", "second-key-é-0123456789")


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with running(write_artefact(tmp_path_factory.mktemp("m") / "tiny"), api_keys=KEYS) as client:
        yield client


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(locked, key):
    headers = {b"authorization": f"bearer {key}".encode()}

    assert locked.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEYS[0]}", KEYS[0], f"Bearer {KEYS[0]}x", "Bearer é"]
)
@pytest.mark.parametrize("route", ["GET /v1/models", "POST /v1/embeddings", "POST /v1/progression"])
def test_anything_else_is_401_on_every_answering_route(locked, header, route):
    response = locked.request(*route.split(), headers={b"authorization": header.encode()})

    assert_problem(response, 401, "unauthorised")
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_key_is_asked_for_before_the_body_is_read(locked):

    assert_problem(locked.post("/v1/embeddings", headers={"content-type": "text/plain"}), 401, "unauthorised")
    too_long = {"content-type": "application/json", "content-length": "999999999"}
    assert_problem(locked.post("/v1/embeddings", headers=too_long, content=b"{}"), 401, "unauthorised")


@pytest.mark.parametrize(
    ("base_url", "host", "status"),
    [
        ("http://127.0.0.1:8000", None, 200),
        ("http://localhost", None, 200),
        ("http://[::1]:8000", None, 200),
        ("http://10.1.2.3:8000", None, 403),
        ("http://10.1.2.3:8000", "localhost", 403),
        ("http://127.0.0.1:8000", "evil.org", 403),
    ],
)
def test_without_keys_only_this_machine_is_served_even_past_the_command_line(artefact, base_url, host, status):
    with running(artefact, base_url=base_url) as client:
        response = client.get("/v1/models", headers={"host": host} if host else {})

    assert response.status_code == status
    if status == 403:
        assert_problem(response, 403, "local_only")


def test_no_auth_opens_to_everyone(artefact):
    with running(artefact, base_url="http://10.1.2.3", host="0.0.0.0", no_auth=True) as client:
        assert client.post("/v1/embeddings", files={"scan": ("x", head_nifti())}).status_code == 200


PAGES = ("/metrics", "/docs", "/redoc", "/docs/oauth2-redirect", "/openapi.json")


def test_pages_are_open_beside_keys_unless_they_are_locked(locked):
    assert {locked.get(page).status_code for page in PAGES} == {200}


@pytest.mark.parametrize("root_path", ["", "/scan"])
def test_locked_pages_need_a_key_and_the_probes_do_not(artefact, root_path):
    key = {"authorization": f"Bearer {KEYS[0]}"}
    with running(artefact, api_keys=(KEYS[0],), lock_pages=True, root_path=root_path) as client:
        for page in (root_path + page for page in PAGES):
            assert_problem(client.get(page), 401, "unauthorised")
            assert_problem(client.get(page, headers={"authorization": "Bearer wrong"}), 401, "unauthorised")
            assert client.head(page).status_code == 401
            assert client.get(page, headers=key).status_code == 200
        assert "/v1/models" in client.get("/openapi.json", headers=key).json()["paths"]
        assert "interscan_requests" in client.get("/metrics", headers=key).text
        for probe in ("/livez", "/readyz"):
            assert client.get(probe).status_code == 200


def test_locked_pages_without_keys_follow_the_rule_of_the_answers(artefact):
    with running(artefact, lock_pages=True) as local:
        assert {local.get(page).status_code for page in PAGES} == {200}
        assert_problem(local.get("/metrics", headers={"host": "evil.org"}), 403, "local_only")
        assert_problem(local.get("/docs", headers={"host": "evil.org"}), 403, "local_only")


def test_every_key_is_compared_in_constant_time(locked, monkeypatch):
    compared = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append((given, key))
        return given == key

    monkeypatch.setattr("app.auth.hmac.compare_digest", compare)

    assert locked.get("/v1/models", headers={"authorization": f"Bearer {KEYS[0]}"}).status_code == 200
    assert compared == [(KEYS[0].encode(), key.encode()) for key in KEYS]
