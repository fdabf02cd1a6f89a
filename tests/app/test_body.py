"""What a request's body may be, over HTTP."""

import errno
import os

import pytest

from tests.support.heads import head_nifti
from tests.support.service import assert_problem, post_pair, running

SCAN = head_nifti()
LIMIT = len(SCAN)


@pytest.fixture(scope="module")
def strict(artefact):
    """A service whose limit is exactly the size of `SCAN`."""
    with running(artefact, max_upload_bytes=LIMIT) as client:
        yield client


def test_a_scan_of_exactly_the_limit_passes_and_one_byte_more_is_413(strict):
    assert post_pair(strict, SCAN, SCAN).status_code == 200
    assert "later" in assert_problem(post_pair(strict, SCAN, SCAN + b"\0"), 413, "too_large")["detail"]
    assert_problem(strict.post("/v1/embeddings", files={"scan": ("x", SCAN * 2)}), 413, "too_large")


def test_a_body_without_length_is_cut_off_while_it_is_read(strict):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="scan"; filename="x"\r\n\r\n'
        for _ in range(1000):
            sent += 1
            yield b"\0" * LIMIT

    response = strict.post(
        "/v1/embeddings", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert_problem(response, 413, "too_large")


def test_a_long_json_body_is_413(client):
    assert_problem(client.post("/v1/embeddings", json={"uri": "x" * 70_000}), 413, "too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_415_and_says_what_to_send(client, kind):
    problem = assert_problem(
        client.post("/v1/progression", content=b"abc", headers={"content-type": kind}), 415, "unsupported_media_type"
    )

    assert "earlier, later" in problem["detail"]
    assert "earlier_uri, later_uri" in problem["detail"]


@pytest.mark.parametrize(
    ("kind", "content", "status", "code"),
    [
        ("application/json", b"{not json", 422, "invalid_request"),
        ("application/json", b"", 422, "invalid_request"),
        ("application/json", b"[]", 422, "invalid_request"),
        ("application/json; charset=utf-8", b'{"uri": 3}', 422, "invalid_request"),
        ("multipart/form-data", b"abc", 400, "bad_multipart"),
        ("multipart/form-data; boundary=b", b"no boundary here", 400, "bad_multipart"),
        ("multipart/form-data; boundary=b", b"", 422, "invalid_request"),
    ],
)
def test_a_broken_body_is_a_problem_not_a_crash(client, kind, content, status, code):
    response = client.post("/v1/embeddings", content=content, headers={"content-type": kind})

    assert_problem(response, status, code)


def test_a_missing_a_doubled_and_a_text_part_are_each_named(client):
    missing = client.post("/v1/progression", files={"earlier": ("x", SCAN)})
    doubled = client.post("/v1/embeddings", files={"scan": ("x", SCAN)}, data={"model": ["tiny", "tiny"]})
    text = client.post("/v1/embeddings", files={"scan": (None, "hello")})
    file = client.post("/v1/embeddings", files={"scan": ("x", SCAN)} | {"model": ("x", b"tiny")})

    assert assert_problem(missing, 422, "invalid_request")["detail"] == "later: the file is missing"
    assert assert_problem(doubled, 422, "invalid_request")["detail"] == "model: given twice"
    assert assert_problem(text, 422, "invalid_request")["detail"] == "scan: must be a file"
    assert_problem(file, 400, "bad_multipart")  # one file more than there are parts


CANARY = "Canary^Jane <b>1950"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/progression", "/v1/trajectories"])
@pytest.mark.parametrize("kind", ["text", "text twice", "file", "json", "nested json"])
def test_what_unknown_fields_are_called_is_neither_answered_nor_logged(client, path, kind, caplog):
    sent = {
        "text": {"files": {"scan": ("x", SCAN)}, "data": {CANARY: "1", CANARY + "2": "1"}},
        "text twice": {"files": {"scan": ("x", SCAN)}, "data": {CANARY: ["1", "2"]}},
        "file": {"files": {CANARY: ("x", SCAN)}},
        "json": {"json": {CANARY: 1}},
        "nested json": {"json": {CANARY: {CANARY: [1]}, "uri": {CANARY: 1}, "days": {CANARY: 2}, "model": [CANARY]}},
    }[kind]
    with caplog.at_level("DEBUG", "interscan"):
        response = client.post(path, **sent)

    problem = assert_problem(response, 422, "invalid_request")
    assert ("2 fields are" if kind == "text" and path == "/v1/embeddings" else "not known") in problem["detail"]
    assert "anary" not in response.text + caplog.text
    assert "1950" not in response.text + caplog.text


def test_empty_text_fields_of_a_web_form_count_as_not_given(client):
    assert post_pair(client, SCAN, SCAN, gap_days="", model="").json()["gap_days"] is None


def test_uploads_are_closed_when_the_answer_is_out(client, monkeypatch):
    closed = []
    monkeypatch.setattr("starlette.datastructures.FormData.close", lambda form: _note(closed, form), raising=True)

    post_pair(client, SCAN, SCAN)

    assert closed == [["earlier", "later"]]


async def _note(closed, form):
    closed.append(sorted(form))
    for upload in form.values():
        await upload.close()


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "klingon", "utf-16"])
def test_a_charset_that_is_none_is_400(client, charset):
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    body = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\xfe-\xc3\r\n--x--\r\n'
    response = client.post("/v1/embeddings", content=body, headers={"Content-Type": kind})
    assert response.status_code in (400, 422), response.text


def test_an_upload_that_finds_no_room_is_507_and_the_log_says_why(client, monkeypatch, capfd):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp")

    # Uploads of more than a MiB go to a file.
    monkeypatch.setattr("tempfile._TemporaryFileWrapper", full)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    problem = assert_problem(post_pair(client, b"\0" * 2**21, SCAN), 507, "no_room")
    assert "tell its operator" in problem["detail"]
