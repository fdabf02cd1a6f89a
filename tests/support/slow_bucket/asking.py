"""Plain HTTP requests to a slow bucket, each on a connection of its own, for its tests."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np

from tests.support.slow_bucket.client import SlowBucket

DATA = np.random.default_rng(0).bytes(50_000)


@contextlib.contextmanager
def connected(slow: SlowBucket) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection(slow.endpoint.removeprefix("http://"), timeout=30)) as line:
        yield line


def ask(
    slow: SlowBucket, target: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request on a connection of its own."""
    with connected(slow) as line:
        line.request(method, target, body=body, headers=headers)
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read()


def media(bucket: str, name: str = "o") -> str:
    return f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"


def raw_socket(slow: SlowBucket) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(slow.endpoint.rpartition(":")[2])), timeout=30)
