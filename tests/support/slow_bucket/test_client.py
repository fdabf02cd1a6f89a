"""The bucket is as slow as told, counts what it is asked, and its process never outlives its block."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.slow_bucket.asking import DATA, ask, connected, media, raw_socket
from tests.support.slow_bucket.client import SlowBucket, slow_bucket


def test_every_answer_takes_at_least_the_latency(slow: SlowBucket, bucket: str) -> None:
    slow.put(bucket, "o", DATA)
    slow.set_speed(latency_s=0.04, jitter_s=0.02)
    with connected(slow) as line:
        for target in (media(bucket), f"/storage/v1/b/{bucket}/o", f"/storage/v1/b/{bucket}/o/missing"):
            begin = time.monotonic()
            line.request("GET", target)
            line.getresponse().read()
            assert time.monotonic() - begin >= 0.04


@pytest.mark.parametrize("direction", ["down", "up"])
def test_all_connections_together_stay_below_the_bandwidth(slow: SlowBucket, bucket: str, direction: str) -> None:
    slow.put(bucket, "o", DATA)
    slow.set_speed(bandwidth_bytes_per_s=1e6)

    def transfer(number: int) -> bytes:
        if direction == "down":
            return ask(slow, media(bucket))[2]
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=o{number}"
        assert ask(slow, target, "POST", DATA)[0] == 200
        return ask(slow, f"/storage/v1/b/{bucket}/o/o{number}")[2]

    begin = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        received = list(pool.map(transfer, range(6)))
    assert time.monotonic() - begin >= 6 * len(DATA) / 1e6
    assert all(data == DATA if direction == "down" else json.loads(data)["size"] == "50000" for data in received)


def test_counters_say_what_was_asked_and_sent(slow: SlowBucket, bucket: str) -> None:
    upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=o"
    with raw_socket(slow) as line:
        line.sendall(f"POST {upload} HTTP/1.1\r\nContent-Length: {len(DATA)}\r\n\r\n".encode() + DATA)
        for target in (media(bucket), media(bucket), media(bucket, "missing"), f"/storage/v1/b/{bucket}/o/o"):
            line.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
        line.sendall(f"DELETE /storage/v1/b/{bucket}/o/o HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        received = b"".join(iter(lambda: line.recv(65536), b""))
    stats = slow.stats()
    assert stats.by_kind == {"upload": 1, "media": 3, "metadata": 1, "delete": 1}
    assert stats.by_method == {"POST": 1, "GET": 4, "DELETE": 1}
    assert stats.by_status == {200: 4, 404: 1, 204: 1}
    assert stats.media_by_object == {f"{bucket}/o": 2, f"{bucket}/missing": 1}
    assert (stats.num_requests, stats.connections, stats.concurrent) == (6, 1, 0)
    assert (stats.bytes_received, stats.bytes_sent) == (len(DATA), len(received))
    assert 2 * len(DATA) < stats.media_bytes_sent < 2 * len(DATA) + 500  # the rest is the text of the 404
    slow.reset()
    assert slow.stats().num_requests == slow.stats().bytes_sent == 0


def test_the_peak_of_concurrent_requests_is_counted_and_leavers_are_not_kept(slow: SlowBucket, bucket: str) -> None:
    slow.set_speed(latency_s=3600.0)
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            line = stack.enter_context(raw_socket(slow))
            line.sendall(f"GET {media(bucket)} HTTP/1.1\r\n\r\n".encode())
        while slow.stats().concurrent < 9:
            time.sleep(0.005)
    while slow.stats().concurrent:
        time.sleep(0.005)
    assert slow.stats().most_concurrent == 9


def test_the_process_ends_with_its_block_even_while_requests_wait() -> None:
    with slow_bucket(latency_s=3600.0) as running:
        line = raw_socket(running)
        line.sendall(b"GET /b/o HTTP/1.1\r\n\r\n")
        while running.stats().concurrent == 0:
            time.sleep(0.005)
    with line, contextlib.suppress(ConnectionResetError):
        assert line.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(running, "/")


def test_the_process_ends_with_the_one_who_started_it() -> None:
    program = (
        "import os\nfrom tests.support.slow_bucket.client import slow_bucket\n"
        "with slow_bucket() as slow:\n    print(slow.endpoint, flush=True)\n    os._exit(9)\n"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert run.returncode == 9
    port = int(run.stdout.strip().rpartition(":")[2])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=30).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.02)
