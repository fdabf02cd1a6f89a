"""A bucket that is slow and breaks as told: starts its process, steers it while it runs, reads its counters.

with slow_bucket(latency_s=0.03) as slow:
    slow.create("b")
    location = Location(slow.url("b"), slow.options)
    slow.set_faults([Fault("status", status=503, probability=0.3)], seed=1)
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any
from urllib.parse import quote

from tests.support.slow_bucket.faults import Fault

_ROOT = Path(__file__).parents[3]
_HOST = "127.0.0.1"
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What the bucket has been asked since it started or was reset.

    Attributes:
        by_kind: requests by kind (`RequestKind`), faulty ones included.
        by_method: requests by HTTP method.
        by_status: answers by HTTP status, counted when the first byte is sent; cut ones included.
        by_fault: faults by kind. Requests refused in an outage are not seen and not counted.
        media_by_object: downloads by bucket/object.
        bytes_sent: heads and bodies, over all connections.
        media_bytes_sent: bodies of downloads only.
        bytes_received: bodies of uploads and other requests.
        connections: connections accepted.
        most_concurrent: most requests at one time that were received and not yet wholly answered.
        concurrent: those of now.
        open_connections: those of now.
        cpu_s: CPU seconds of the bucket's process since it started, whatever was reset.
    """

    by_kind: dict[str, int]
    by_method: dict[str, int]
    by_status: dict[int, int]
    by_fault: dict[str, int]
    media_by_object: dict[str, int]
    bytes_sent: int
    media_bytes_sent: int
    bytes_received: int
    connections: int
    most_concurrent: int
    concurrent: int
    open_connections: int
    cpu_s: float

    @property
    def num_requests(self) -> int:
        """Requests of every kind."""
        return sum(self.by_kind.values())


class SlowBucket:
    """A running bucket.

    Args:
        port: of the bucket.
        control_port: of its control.

    Attributes:
        endpoint: base URL of the bucket's JSON API; below it, `/BUCKET/OBJECT` is a plain download.
        options: what fsspec and `Location` need to reach it through gs:// URLs.
    """

    def __init__(self, port: int, control_port: int) -> None:
        self.endpoint = f"http://{_HOST}:{port}"
        self.options: dict[str, Any] = {"token": "anon", "project": "test", "endpoint_url": self.endpoint}
        self._control = http.client.HTTPConnection(_HOST, control_port, timeout=_WAIT_S)

    def url(self, bucket: str) -> str:
        """The gs:// URL of a bucket."""
        return f"gs://{bucket}"

    def create(self, bucket: str) -> None:
        """Make an empty bucket, without latency or counting."""
        self._ask("PUT", f"/buckets/{quote(bucket, safe='')}")

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Put an object, without latency, faults or counting."""
        self._ask("PUT", f"/objects/{quote(bucket, safe='')}/{quote(name)}", data)

    def set_faults(self, faults: Sequence[Fault], *, seed: int = 0) -> None:
        """Replace all rules; their counts, and the draws of faults and jitter, begin anew."""
        self._steer({"faults": [fault.to_json() for fault in faults], "seed": seed})

    def set_speed(
        self,
        *,
        latency_s: float | None = None,
        jitter_s: float | None = None,
        bandwidth_bytes_per_s: float | EllipsisType | None = ...,
    ) -> None:
        """Change what is given; a bandwidth of None lifts the limit. Holds for requests that arrive afterwards."""
        given = {"latency_s": latency_s, "jitter_s": jitter_s}
        change: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if bandwidth_bytes_per_s is not ...:
            change["bandwidth_bytes_per_s"] = bandwidth_bytes_per_s
        self._steer(change)

    def go_away(self, seconds: float) -> None:
        """Outage: reset all connections, refuse new ones for so many seconds; 0 ends one that is on."""
        self._steer({"outage_s": seconds})

    def stats(self) -> Stats:
        """The counters."""
        content = json.loads(self._ask("GET", "/stats"))
        by_status = {int(status): number for status, number in content.pop("by_status").items()}
        return Stats(by_status=by_status, **content)

    def reset(self) -> None:
        """Set all counters to zero; objects, speed and faults stay."""
        self._ask("POST", "/reset")

    def close(self) -> None:
        """Close the control connection."""
        self._control.close()

    def _steer(self, change: dict[str, Any]) -> None:
        self._ask("PUT", "/control", json.dumps(change).encode())

    def _ask(self, method: str, target: str, body: bytes | None = None) -> bytes:
        self._control.request(method, target, body=body)
        answer = self._control.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {target}: {answer.status} {content.decode()}")
        return content


@contextlib.contextmanager
def slow_bucket(
    *,
    latency_s: float = 0.0,
    jitter_s: float = 0.0,
    bandwidth_bytes_per_s: float | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
) -> Iterator[SlowBucket]:
    """Start a bucket in a process of its own, stop it at the end.

    Args:
        latency_s: from a request's last byte to its answer's first.
        jitter_s: at most so much more, drawn evenly for each request.
        bandwidth_bytes_per_s: of all connections together, bodies of uploads included; None has no limit.
        faults: rules; see `Fault`.
        seed: of faults and jitter.

    Raises:
        RuntimeError: the process did not start, or did not end by itself.
    """
    # Read by gcsfs when it is imported; without it every call to an emulator blocks for 60 s.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    command = [sys.executable, "-m", "tests.support.slow_bucket.server"]
    # A session of its own: Ctrl-C is for the one who started it, which then ends it.
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            first_line = process.stdout.readline()
            if not first_line:
                raise RuntimeError(f"the bucket's process left with {process.wait(_WAIT_S)}")
            slow = SlowBucket(**json.loads(first_line))
            with contextlib.closing(slow):
                slow.set_speed(latency_s=latency_s, jitter_s=jitter_s, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
                slow.set_faults(faults, seed=seed)
                yield slow
        finally:
            # Not by closing its standard input: a forked child of this process may hold that open too.
            process.terminate()
            try:
                status = process.wait(_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
        if status != 0:
            raise RuntimeError(f"the bucket's process ended with {status}")
