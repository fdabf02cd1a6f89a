"""HTTP/1.1 messages: requests taken from a buffer, answers as one head and one body.

Only what clients of an object store send is understood: a request line, headers, a body with Content-Length. A chunked
body is refused, since none of the clients in use sends one.
"""

import http
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX_HEAD_BYTES = 65_536


class BadRequestError(ValueError):
    """Bytes that are not a request this server understands; the connection cannot go on."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault of this program
    """The request is understood and answered with an error status.

    Args:
        status: HTTP status, 304 or at least 400.
        message: what the error's JSON says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers.

    Attributes:
        method: upper case.
        target: path and query as sent.
        headers: by lower-case name.
        body_bytes: Content-Length, 0 without one.
        keeps_alive: whether the connection stays open after the answer.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body_bytes: int
    keeps_alive: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back.

    Attributes:
        status: HTTP status.
        head: status line and headers with the empty line.
        body: empty for HEAD.
        packet: head and body in one piece, where such a piece is kept; sent without a copy.
    """

    status: int
    head: bytes
    body: bytes | memoryview = b""
    packet: bytes | None = None

    def whole(self) -> bytes:
        """Head and body in one piece: one write, so that a client wakes once."""
        return self.packet if self.packet is not None else self.head + self.body


def take_head(buffer: bytearray) -> Head | None:
    """Take one head from the front of `buffer`; None while it is not complete.

    Raises:
        BadRequestError: not HTTP/1.x, too long, or with a body of unknown length.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > _MAX_HEAD_BYTES:
            raise BadRequestError(f"a head of over {_MAX_HEAD_BYTES} bytes")
        return None
    lines = buffer[:end].decode("latin-1").split("\r\n")
    del buffer[: end + 4]
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequestError(f"{lines[0][:80]!r} is not a request line")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequestError("a body without Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequestError(f"Content-Length {length!r}")
    keeps_alive = words[2] != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    return Head(words[0].upper(), words[1], headers, int(length), keeps_alive)


def head_bytes(status: int, num_body_bytes: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers; `num_body_bytes` is what Content-Length says."""
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:  # 499, which Google uses and the standard does not know
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    if status not in {204, 304}:
        lines.append(f"Content-Length: {num_body_bytes}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    body = json.dumps(content).encode()
    return Answer(status, head_bytes(status, len(body), {"Content-Type": "application/json", **(headers or {})}), body)


def empty_answer(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer without a body."""
    return Answer(status, head_bytes(status, 0, headers or {}))


def error_answer(status: int, message: str) -> Answer:
    """An error as the JSON API words it."""
    return json_answer({"error": {"code": status, "message": message, "errors": [{"message": message}]}}, status)
