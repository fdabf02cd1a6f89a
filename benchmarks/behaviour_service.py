"""Sends a served artefact the HTTP requests that a client would send, and records every answer."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.behaviour_files import Normaliser
from benchmarks.behaviour_start import Program

_BOUNDARY = "between-two-parts"
_PATIENCE_S = 120.0
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def form(**parts: bytes | str) -> tuple[bytes, str]:
    """A multipart form: files are bytes, fields are text.

    Returns:
        Body and content type.
    """
    lines = []
    for name, part in parts.items():
        file = f'; filename="{name}.nii.gz"' if isinstance(part, bytes) else ""
        data = part if isinstance(part, bytes) else part.encode()
        lines += [
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode(),
            data,
            b"\r\n",
        ]
    return b"".join([*lines, f"--{_BOUNDARY}--\r\n".encode()]), f"multipart/form-data; boundary={_BOUNDARY}"


def questions(earlier: bytes, later: bytes, picture: bytes) -> Iterator[tuple[str, str, bytes | None, str]]:
    """Name, path, body and content type of each request."""
    for path in ("/", "/docs", "/livez", "/readyz", "/v1/models", "/openapi.json", "/metrics", "/v1/nothing"):
        yield f"GET {path}", path, None, ""
    yield "pair", "/v1/progression", *form(earlier=earlier, later=later, gap_days="365")
    yield "pair exchanged", "/v1/progression", *form(earlier=later, later=earlier)
    yield "pair of one scan", "/v1/progression", *form(earlier=earlier, later=earlier)
    yield "pair without its second", "/v1/progression", *form(earlier=earlier)
    yield "pair with a wrong field", "/v1/progression", *form(earlier=earlier, later=later, gap_days="soon")
    yield "pair of no scans", "/v1/progression", *form(earlier=b"no scan", later=later)
    yield "cut scan", "/v1/progression", *form(earlier=earlier[:2000], later=later)
    yield "pair of no model", "/v1/progression", *form(earlier=earlier, later=later, model="none")
    other = "clinimcl-reference"
    yield "pair of the second model", "/v1/progression", *form(earlier=earlier, later=later, model=other)
    yield "embedding", "/v1/embeddings", *form(scan=earlier)
    yield "embedding of a picture", "/v1/embeddings", *form(scan=picture)
    body = json.dumps({"uri": "gs://elsewhere/scan.nii.gz"}).encode()
    yield "scan of a place not allowed", "/v1/embeddings", body, "application/json"


def _ask(url: str, body: bytes | None, content_type: str) -> tuple[int, str, str]:
    headers = {"Content-Type": content_type} if content_type else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=_PATIENCE_S) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def _answer(name: str, status: int, content_type: str, text: str, normaliser: Normaliser) -> dict[str, Any]:
    if name == "GET /metrics":
        # Counts and sums of seconds vary; which metrics there are does not.
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    return {"status": status, "type": content_type, "body": normaliser.printed(text)}


def converse(program: Program, log: Path, work: Path, normaliser: Normaliser) -> dict[str, Any]:
    """Wait until a service is ready, send it every request, and end it.

    Args:
        program: `interscan serve`.
        log: file of its stderr.
        work: folder of the raw scans.
        normaliser: of the answers.

    Returns:
        Answers by name; where it never became ready, what it said.
    """
    until = time.monotonic() + _PATIENCE_S
    answers: dict[str, Any] = {}
    try:
        while not (address := _ADDRESS.search(log.read_text())) or not _is_ready(address[0]):
            if program.poll() is not None or time.monotonic() > until:
                return {"never ready": normaliser.printed(log.read_text())}
            time.sleep(0.2)
        scans = sorted((work / "raw/brain").rglob("*_T1w.nii.gz"))[:2]
        picture = next(path for path in sorted((work / "raw/severity").rglob("*.png")))
        for name, path, body, content_type in questions(*(path.read_bytes() for path in (*scans, picture))):
            answers[name] = _answer(name, *_ask(address[0] + path, body, content_type), normaliser)
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait(_PATIENCE_S)
    return answers


def _is_ready(address: str) -> bool:
    try:
        return _ask(address + "/readyz", None, "")[0] == 200
    except urllib.error.URLError:
        return False
