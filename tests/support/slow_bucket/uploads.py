"""Uploads: the two parts of a multipart body, and resumable sessions that take a body piece by piece.

A session whose last piece has been taken answers every repetition with the object again, as Google's does: the writer
whose answer was lost asks once more and is not refused.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.slow_bucket.messages import Answer, Head, Refused, empty_answer, json_answer
from tests.support.slow_bucket.objects import Buckets, StoredObject

_PIECE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class _Session:
    bucket: str
    described: dict[str, Any]
    if_generation: int | None
    content: bytearray = field(default_factory=bytearray)
    stored: StoredObject | None = None


class Uploads:
    """The resumable sessions.

    Args:
        buckets: where finished ones are put.
        endpoint: base URL of session addresses.
    """

    def __init__(self, buckets: Buckets, endpoint: str) -> None:
        self._buckets = buckets
        self._endpoint = endpoint
        self._sessions: dict[str, _Session] = {}
        self._num_begun = 0

    def begin(self, bucket: str, described: dict[str, Any], if_generation: int | None) -> Answer:
        """Open a session; its address is in the header Location."""
        self._buckets.check(bucket, described["name"], if_generation)
        self._num_begun += 1
        upload_id = f"upload-{self._num_begun}"
        self._sessions[upload_id] = _Session(bucket, described, if_generation)
        query = {"uploadType": "resumable", "name": described["name"], "upload_id": upload_id}
        if if_generation is not None:
            query["ifGenerationMatch"] = str(if_generation)
        address = f"{self._endpoint}/upload/storage/v1/b/{quote(bucket)}/o?{urlencode(query)}"
        return empty_answer(200, {"Location": address, "X-GUploader-UploadID": upload_id})

    def go_on(self, upload_id: str, head: Head, body: bytes) -> Answer:
        """Take a piece, answer how much is there, or drop the session (DELETE)."""
        session = self._sessions.get(upload_id)
        if session is None:
            raise Refused(404, f"no upload {upload_id}")
        if head.method == "DELETE":
            del self._sessions[upload_id]
            return empty_answer(499)
        if session.stored is None:
            self._take(session, head, body)
        if session.stored is None:
            received = {"Range": f"bytes=0-{len(session.content) - 1}"} if session.content else {}
            return empty_answer(308, received)
        return json_answer(session.stored.resource(self._endpoint))

    def _take(self, session: _Session, head: Head, body: bytes) -> None:
        wanted = head.headers.get("content-range", f"bytes 0-{len(body) - 1}/{len(body)}" if body else "bytes */0")
        found = _PIECE.fullmatch(wanted)
        if found is None:
            raise Refused(400, f"Content-Range {wanted!r}")
        num_received = len(session.content)
        if found[1]:
            start = int(found[1])
            if start > num_received or len(body) != int(found[2]) + 1 - start:
                raise Refused(400, f"{wanted}: {num_received} bytes are here, the body has {len(body)}")
            session.content += body[num_received - start :]
        if found[3] != "*" and len(session.content) == int(found[3]):
            session.stored = self._buckets.put(
                session.bucket,
                session.described["name"],
                session.content,
                content_type=session.described["contentType"],
                metadata=session.described.get("metadata"),
                if_generation=session.if_generation,
            )
            session.content = bytearray()


def boundary_of(content_type: str) -> bytes:
    """The boundary that a multipart Content-Type names; 400 without one."""
    found = re.search(r'boundary="?([^";]+)', content_type)
    if found is None:
        raise Refused(400, f"Content-Type {content_type!r} has no boundary")
    return found[1].encode()


def split_multipart(body: bytes, boundary: bytes) -> tuple[dict[str, Any], str, memoryview]:
    """Description, content type and content of a multipart/related body; 400 where it is not two whole parts.

    Line ends may be CR LF (RFC 2046) or bare LF (gcsfs). The content may hold the boundary: only the first two and the
    last are looked at.
    """
    mark = b"--" + boundary
    first = body.find(mark)
    second = body.find(b"\n" + mark, first + len(mark))
    last = body.rfind(b"\n" + mark + b"--")
    description = re.compile(rb"\r?\n\r?\n").search(body, first, max(second, 0))
    blank = re.compile(rb"\r?\n\r?\n").search(body, second + 1)
    if first < 0 or description is None or blank is None or last < blank.end():
        raise Refused(400, f"a multipart body of {len(body)} bytes that is not two parts")
    if body[last - 1 : last] == b"\r" and body[second - 1 : second] == b"\r":
        last -= 1
    found = re.search(rb"(?i)\ncontent-type: *([^\r\n]+)", body[second + 1 : blank.end()])
    content_type = found[1].decode() if found else "application/octet-stream"
    return json.loads(body[description.end() : second]), content_type, memoryview(body)[blank.end() : last]
