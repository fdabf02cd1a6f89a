"""Buckets and objects in memory: generations, digests, preconditions and listings; no network.

Digests and the head of the whole object's download are made once, when it is put, so that a download costs one write.
"""

import base64
import bisect
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google_crc32c

from tests.support.slow_bucket.messages import Refused, head_bytes

_FIRST_GENERATION = 1_700_000_000_000_000
"""Google's generations are microseconds since 1970; here they count up from a number of that size."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of one object.

    Attributes:
        packet: head and body of its download in one piece.
        head_length: bytes of `packet` before the body.
        media_headers: headers of every download of it, whole or in part.
        metadata: the writer's own key and value pairs.
    """

    bucket: str
    name: str
    generation: int
    content_type: str
    metadata: Mapping[str, str]
    created: str
    md5_base64: str
    crc32c_base64: str
    media_headers: Mapping[str, str]
    packet: bytes
    head_length: int

    @property
    def body(self) -> memoryview:
        """The content."""
        return memoryview(self.packet)[self.head_length :]

    @property
    def num_bytes(self) -> int:
        """Size of the content."""
        return len(self.packet) - self.head_length

    def resource(self, endpoint: str) -> dict[str, Any]:
        """The object's description in the JSON API."""
        path = f"/storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"
        described: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": endpoint + path,
            "mediaLink": f"{endpoint}/download{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(self.num_bytes),
            "md5Hash": self.md5_base64,
            "crc32c": self.crc32c_base64,
            "etag": self.media_headers["ETag"].strip('"'),
            "timeCreated": self.created,
            "updated": self.created,
        }
        return {**described, "metadata": dict(self.metadata)} if self.metadata else described


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: objects, folders (with their delimiter), and where the next page starts."""

    items: list[StoredObject]
    prefixes: list[str]
    next_token: str | None


@dataclass(slots=True)
class _Bucket:
    objects: dict[str, StoredObject] = field(default_factory=dict)
    sorted_names: list[str] | None = None


class Buckets:
    """All buckets of the server."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._generation = _FIRST_GENERATION

    @property
    def names(self) -> list[str]:
        """Sorted names of the buckets."""
        return sorted(self._buckets)

    def create(self, bucket: str) -> None:
        """Make an empty bucket; 409 where it is there."""
        if bucket in self._buckets:
            raise Refused(409, f"the bucket {bucket} is there already")
        self._buckets[bucket] = _Bucket()

    def remove(self, bucket: str) -> None:
        """Drop an empty bucket; 409 where it holds objects."""
        if self._of(bucket).objects:
            raise Refused(409, f"the bucket {bucket} is not empty")
        del self._buckets[bucket]

    def require(self, bucket: str) -> None:
        """Refuse with 404 where there is no such bucket."""
        self._of(bucket)

    def put(
        self,
        bucket: str,
        name: str,
        content: bytes | bytearray | memoryview,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        if_generation: int | None = None,
    ) -> StoredObject:
        """Put a whole object; 412 where the present generation (0: none) is not `if_generation`."""
        self.check(bucket, name, if_generation)
        self._generation += 1
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        crc32c = base64.b64encode(google_crc32c.value(bytes(content)).to_bytes(4, "big")).decode()
        media_headers = {
            "Content-Type": content_type,
            "ETag": f'"{hashlib.md5(str(self._generation).encode(), usedforsecurity=False).hexdigest()}"',
            "Accept-Ranges": "bytes",
            "x-goog-generation": str(self._generation),
            "x-goog-metageneration": "1",
            "x-goog-hash": f"crc32c={crc32c},md5={md5}",
            "x-goog-stored-content-length": str(len(content)),
        }
        head = head_bytes(200, len(content), media_headers)
        stored = StoredObject(
            bucket=bucket,
            name=name,
            generation=self._generation,
            content_type=content_type,
            metadata=dict(metadata or {}),
            created=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            md5_base64=md5,
            crc32c_base64=crc32c,
            media_headers=media_headers,
            packet=b"".join((head, content)),
            head_length=len(head),
        )
        of_bucket = self._of(bucket)
        if name not in of_bucket.objects:
            of_bucket.sorted_names = None
        of_bucket.objects[name] = stored
        return stored

    def get(
        self, bucket: str, name: str, *, generation: int | None = None, if_generation: int | None = None
    ) -> StoredObject:
        """The object; 404 where it is not there in that generation, 412 where `if_generation` is not the present."""
        stored = self._of(bucket).objects.get(name)
        if stored is None or generation not in {None, stored.generation}:
            raise Refused(404, f"No such object: {bucket}/{name}")
        self.check(bucket, name, if_generation)
        return stored

    def delete(
        self, bucket: str, name: str, *, generation: int | None = None, if_generation: int | None = None
    ) -> None:
        """Remove the object; refusals as in `get`."""
        self.get(bucket, name, generation=generation, if_generation=if_generation)
        of_bucket = self._of(bucket)
        del of_bucket.objects[name]
        of_bucket.sorted_names = None

    def check(self, bucket: str, name: str, if_generation: int | None) -> None:
        """Refuse with 412 where the present generation (0: none) is not `if_generation`."""
        stored = self._of(bucket).objects.get(name)
        present = stored.generation if stored is not None else 0
        if if_generation not in {None, present}:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: str = "",
        end: str | None = None,
        token: str | None = None,
        max_results: int = 1000,
    ) -> Page:
        """One page of the objects whose names start with `prefix`, in the order of their names.

        Names that hold `delimiter` after the prefix are one folder each. `start` is the first name listed, `end` the
        first one not listed; `token` is the last page's `next_token`.
        """
        of_bucket = self._of(bucket)
        if of_bucket.sorted_names is None:
            of_bucket.sorted_names = sorted(of_bucket.objects)
        names = of_bucket.sorted_names
        at = bisect.bisect_left(names, max(prefix, start))
        if token is not None:
            at = max(at, bisect.bisect_left(names, token))
        page = Page([], [], None)
        while at < len(names) and names[at].startswith(prefix) and (end is None or names[at] < end):
            if len(page.items) + len(page.prefixes) == max_results:
                return Page(page.items, page.prefixes, names[at])
            folder, is_folder, _ = names[at][len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if is_folder:
                folder = prefix + folder + delimiter
                page.prefixes.append(folder)
                # The next name that does not start with the folder.
                at = bisect.bisect_left(names, folder[:-1] + chr(ord(folder[-1]) + 1), at)
            else:
                page.items.append(of_bucket.objects[names[at]])
                at += 1
        return page

    def _of(self, bucket: str) -> _Bucket:
        found = self._buckets.get(bucket)
        if found is None:
            raise Refused(404, f"The specified bucket does not exist: {bucket}")
        return found
