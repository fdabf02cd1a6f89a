"""The part of Google's JSON API that gcsfs and plain HTTP readers use: request in, answer out; no time, no network.

Written from the reference of the JSON API, version 1 (cloud.google.com/storage/docs/json_api). What is not known is
refused with 400, which clients do not retry; 501 would be retried for half a minute.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.slow_bucket.faults import RequestKind
from tests.support.slow_bucket.messages import (
    Answer,
    Head,
    Refused,
    empty_answer,
    error_answer,
    head_bytes,
    json_answer,
)
from tests.support.slow_bucket.objects import Buckets, StoredObject
from tests.support.slow_bucket.uploads import Uploads, boundary_of, split_multipart

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(rewriteTo|copyTo|moveTo)(?:/b/([^/]+))?/o/([^/]+)")
_LIST = re.compile(r"/storage/v1/b/([^/]+)/o/?")
_UPLOAD = re.compile(r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o/?")
_BUCKET = re.compile(r"/storage/v1/b(?:/([^/]+))?/?")
_PLAIN = re.compile(r"/([^/]+)/(.+)")
_BYTES = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Route:
    """What a method and target ask for.

    Attributes:
        kind: what counters and faults call it.
        bucket: name, empty for the list of buckets.
        object: name of the object asked for, the copy's source, or what is uploaded where the target says it.
        to_bucket: bucket of a copy.
        to_object: name of a copy.
        verb: `rewriteTo`, `copyTo` or `moveTo` for copies.
        query: the target's parameters.
    """

    kind: RequestKind
    bucket: str
    object: str
    query: Mapping[str, str]
    to_bucket: str = ""
    to_object: str = ""
    verb: str = ""

    @property
    def name(self) -> str:
        """Bucket and object, as counters and faults call it."""
        return f"{self.bucket}/{self.object}"

    def number(self, parameter: str) -> int | None:
        """A whole number of the query, None where it is not given; 400 where it is not one."""
        text = self.query.get(parameter)
        if text is not None and not text.isdecimal():
            raise Refused(400, f"{parameter} {text!r} is not a whole number")
        return None if text is None else int(text)


@functools.lru_cache(maxsize=65_536)  # parsing a target took a quarter of the time of a small request
def route_of(method: str, target: str) -> Route:
    """Read a method and a target."""
    url = urlsplit(target)
    path, query = url.path, dict(parse_qsl(url.query, keep_blank_values=True))
    is_read = method in {"GET", "HEAD"}
    if found := _OBJECT.fullmatch(path):
        bucket, name = map(unquote, found.groups())
        if is_read:
            return Route("media" if query.get("alt") == "media" else "metadata", bucket, name, query)
        return Route("delete" if method == "DELETE" else "other", bucket, name, query)
    if (found := _COPY.fullmatch(path)) and method == "POST":
        bucket, name, verb, to_bucket, to_object = (unquote(part or "") for part in found.groups())
        return Route("copy", bucket, name, query, to_bucket or bucket, to_object, verb)
    if found := _LIST.fullmatch(path):
        return Route("list" if is_read else "other", unquote(found[1]), "", query)
    if found := _UPLOAD.fullmatch(path):
        return Route("upload", unquote(found[1]), query.get("name", ""), query)
    if found := _BUCKET.fullmatch(path):
        return Route("bucket", unquote(found[1] or ""), "", query)
    if (found := _PLAIN.fullmatch(path)) and is_read:
        return Route("media", unquote(found[1]), unquote(found[2]), query)
    return Route("other", "", "", query)


class Api:
    """Carries requests out.

    Args:
        buckets: what they work on.
        endpoint: base URL that answers name.
    """

    def __init__(self, buckets: Buckets, endpoint: str) -> None:
        self.buckets = buckets
        self._endpoint = endpoint
        self._uploads = Uploads(buckets, endpoint)

    def carry_out(self, route: Route, head: Head, body: bytes) -> Answer:
        """Do what is asked; refusals become answers."""
        try:
            answer = self._dispatch(route, head, body)
        except Refused as refused:
            answer = error_answer(refused.status, refused.message)
        except (json.JSONDecodeError, KeyError) as error:
            answer = error_answer(400, f"a description without {error}")
        return Answer(answer.status, answer.head) if head.method == "HEAD" else answer

    def _dispatch(self, route: Route, head: Head, body: bytes) -> Answer:
        if route.kind == "media":
            return _media(self._get(route), head.headers.get("range"))
        if route.kind == "metadata":
            return json_answer(self._get(route).resource(self._endpoint))
        if route.kind == "list":
            return self._list(route)
        if route.kind == "upload":
            return self._upload(route, head, body)
        if route.kind == "delete":
            self.buckets.delete(
                route.bucket,
                route.object,
                generation=route.number("generation"),
                if_generation=route.number("ifGenerationMatch"),
            )
            return empty_answer(204)
        if route.kind == "copy":
            return self._copy(route)
        if route.kind == "bucket":
            return self._bucket(route, head.method, body)
        raise Refused(400, f"this server does not know {head.method} {head.target}")

    def _get(self, route: Route) -> StoredObject:
        return self.buckets.get(
            route.bucket,
            route.object,
            generation=route.number("generation"),
            if_generation=route.number("ifGenerationMatch"),
        )

    def _list(self, route: Route) -> Answer:
        max_results = route.number("maxResults")
        page = self.buckets.page(
            route.bucket,
            prefix=route.query.get("prefix", ""),
            delimiter=route.query.get("delimiter", ""),
            start=route.query.get("startOffset", ""),
            end=route.query.get("endOffset") or None,
            token=route.query.get("pageToken") or None,
            max_results=min(1000 if max_results is None else max(max_results, 1), 1000),
        )
        content: dict[str, object] = {"kind": "storage#objects"}
        if page.items:
            content["items"] = [stored.resource(self._endpoint) for stored in page.items]
        if page.prefixes:
            content["prefixes"] = page.prefixes
        if page.next_token is not None:
            content["nextPageToken"] = page.next_token
        return json_answer(content)

    def _upload(self, route: Route, head: Head, body: bytes) -> Answer:
        upload_id = route.query.get("upload_id")
        if upload_id is not None:
            return self._uploads.go_on(upload_id, head, body)
        how = route.query.get("uploadType")
        if_generation = route.number("ifGenerationMatch")
        if how == "resumable":
            described = json.loads(body) if body else {}
            described.setdefault("name", route.object)
            described.setdefault("contentType", head.headers.get("x-upload-content-type", "application/octet-stream"))
            return self._uploads.begin(route.bucket, described, if_generation)
        if how == "multipart":
            described, content_type, content = split_multipart(body, boundary_of(head.headers.get("content-type", "")))
            described.setdefault("contentType", content_type)
        elif how == "media":
            described = {"contentType": head.headers.get("content-type", "application/octet-stream")}
            content = memoryview(body)
        else:
            raise Refused(400, f"uploadType {how!r} is not media, multipart or resumable")
        stored = self.buckets.put(
            route.bucket,
            described.get("name", route.object),
            content,
            content_type=described["contentType"],
            metadata=described.get("metadata"),
            if_generation=if_generation,
        )
        return json_answer(stored.resource(self._endpoint))

    def _copy(self, route: Route) -> Answer:
        source = self.buckets.get(route.bucket, route.object, generation=route.number("sourceGeneration"))
        stored = self.buckets.put(
            route.to_bucket,
            route.to_object,
            source.body,
            content_type=source.content_type,
            metadata=source.metadata,
            if_generation=route.number("ifGenerationMatch"),
        )
        if route.verb == "moveTo" and route.name != f"{route.to_bucket}/{route.to_object}":
            self.buckets.delete(route.bucket, route.object)
        resource = stored.resource(self._endpoint)
        if route.verb != "rewriteTo":
            return json_answer(resource)
        size = str(stored.num_bytes)
        answer = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
        return json_answer({**answer, "resource": resource})

    def _bucket(self, route: Route, method: str, body: bytes) -> Answer:
        if method == "POST" and not route.bucket:
            name = str(json.loads(body)["name"])
            self.buckets.create(name)
            return json_answer(_bucket_resource(name))
        if method == "DELETE" and route.bucket:
            self.buckets.remove(route.bucket)
            return empty_answer(204)
        if method != "GET":
            raise Refused(400, f"this server does not know {method} of a bucket")
        if route.bucket:
            self.buckets.require(route.bucket)
            return json_answer(_bucket_resource(route.bucket))
        return json_answer(
            {"kind": "storage#buckets", "items": [_bucket_resource(name) for name in self.buckets.names]}
        )


def _bucket_resource(name: str) -> dict[str, str]:
    return {"kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD"}


def _media(stored: StoredObject, wanted: str | None) -> Answer:
    """The content or the part of it that a Range header names (RFC 9110, section 14); several parts count as all."""
    found = _BYTES.fullmatch(wanted) if wanted else None
    if found is None or found.groups() == ("", ""):
        return Answer(200, stored.packet[: stored.head_length], stored.body, stored.packet)
    size = stored.num_bytes
    if found[1]:
        start, end = int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
        if found[2] and int(found[2]) < start:
            return Answer(200, stored.packet[: stored.head_length], stored.body, stored.packet)
    else:
        start, end = max(size - int(found[2]), 0), size
    if start >= size or start == end:
        message = "Request range not satisfiable"
        body = json.dumps({"error": {"code": 416, "message": message}}).encode()
        return Answer(416, head_bytes(416, len(body), {"Content-Range": f"bytes */{size}"}), body)
    headers = {**stored.media_headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Answer(206, head_bytes(206, end - start, headers), stored.body[start:end])
