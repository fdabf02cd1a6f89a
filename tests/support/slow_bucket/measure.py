"""How fast the slow bucket itself is, so that nobody measures it by mistake.

`python -m tests.support.slow_bucket.measure`:
512 objects of 190 kB, each read six times with 64 in flight, by aiohttp and by `gcsfs._cat_file`; one line of JSON for
each: reads per second, CPU seconds per 1,000 reads of the client and of the server.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import fsspec
import fsspec.asyn
import numpy as np

from tests.support.bucket import create_bucket, find_binary, running_emulator
from tests.support.slow_bucket.client import SlowBucket, slow_bucket

_NUM_OBJECTS = 512
_OBJECT_BYTES = 190_000
_NUM_ROUNDS = 6
_IN_FLIGHT = 64
_BUCKET = "measured"
Read = Callable[[int], Awaitable[bytes]]


async def _timed(read: Read) -> dict[str, float]:
    """Read everything, connections already open."""
    gate = asyncio.Semaphore(_IN_FLIGHT)

    async def one(number: int) -> None:
        async with gate:
            assert len(await read(number % _NUM_OBJECTS)) == _OBJECT_BYTES

    await asyncio.gather(*map(one, range(_IN_FLIGHT)))
    begin, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(one, range(_NUM_OBJECTS * _NUM_ROUNDS)))
    num_reads = _NUM_OBJECTS * _NUM_ROUNDS
    return {
        "reads_per_s": num_reads / (time.perf_counter() - begin),
        "client_cpu_s_per_1000": 1000.0 * (time.process_time() - cpu_s) / num_reads,
    }


async def _by_aiohttp(endpoint: str) -> dict[str, float]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_IN_FLIGHT)) as session:

        async def read(number: int) -> bytes:
            async with session.get(f"{endpoint}/download/storage/v1/b/{_BUCKET}/o/o{number}?alt=media") as answer:
                return await answer.read()

        return await _timed(read)


async def _by_gcsfs(filesystem: Any) -> dict[str, float]:
    async def read(number: int) -> bytes:
        data: bytes = await filesystem._cat_file(f"{_BUCKET}/o{number}")
        return data

    return await _timed(read)


@contextlib.contextmanager
def _filesystem(endpoint: str) -> Iterator[Any]:
    yield fsspec.filesystem("gs", token="anon", project="test", endpoint_url=endpoint)
    fsspec.get_filesystem_class("gs").clear_instance_cache()


def _measure(label: str, endpoint: str, slow: SlowBucket | None) -> None:
    clients: dict[str, Callable[[Any], dict[str, float]]] = {
        "aiohttp": lambda _: asyncio.run(_by_aiohttp(endpoint)),
        "gcsfs": lambda filesystem: fsspec.asyn.sync(fsspec.asyn.get_loop(), _by_gcsfs, filesystem),
    }
    for client, run in clients.items():
        before = slow.stats() if slow is not None else None
        with _filesystem(endpoint) as filesystem:
            result = run(filesystem)
        if slow is not None and before is not None:
            after = slow.stats()
            num_reads = after.by_kind["media"] - before.by_kind.get("media", 0)
            result["server_cpu_s_per_1000"] = 1000.0 * (after.cpu_s - before.cpu_s) / num_reads
        rounded = {name: round(value, 3) for name, value in result.items()}
        sys.stdout.write(json.dumps({"server": label, "client": client, **rounded}) + "\n")


def _main() -> None:
    content = np.random.default_rng(0).bytes(_OBJECT_BYTES)
    with slow_bucket() as slow:
        slow.create(_BUCKET)
        for number in range(_NUM_OBJECTS):
            slow.put(_BUCKET, f"o{number}", content)
        for latency_s in (0.03, 0.0):
            slow.set_speed(latency_s=latency_s)
            _measure(f"slow_bucket {latency_s * 1000:.0f} ms", slow.endpoint, slow)
        slow.set_speed(bandwidth_bytes_per_s=100e6)
        _measure("slow_bucket 100 MB/s", slow.endpoint, slow)
    binary = find_binary()
    if binary is not None:
        with running_emulator(binary) as endpoint:
            create_bucket(endpoint, _BUCKET)
            with _filesystem(endpoint) as filesystem:
                for number in range(_NUM_OBJECTS):
                    filesystem.pipe_file(f"{_BUCKET}/o{number}", content)
            _measure("fake-gcs-server 0 ms", endpoint, None)


if __name__ == "__main__":
    _main()
