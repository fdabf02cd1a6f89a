"""Clients of a service of pairs: one after the other, as many as keep it busy, and more than it can answer."""

import asyncio
import contextlib
import multiprocessing
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import synchronize
from pathlib import Path
from typing import Any

import httpx2 as httpx

PATIENCE_S = 10.0
"""After which a client gives up."""
_CLIENTS = 8
ROUTE = "/v1/progression"


@dataclass(frozen=True, slots=True)
class Upload:
    """A pair as a request has it, made once: what clients do with it takes no part of the cores.

    Attributes:
        content: the body.
        headers: its type.
    """

    content: bytes
    headers: dict[str, str]

    @classmethod
    def of(cls, pair: tuple[bytes, bytes]) -> "Upload":
        """The upload of a pair."""
        files = {"earlier": ("a.nii.gz", pair[0]), "later": ("b.nii.gz", pair[1])}
        request = httpx.Request("POST", "http://any", files=files)
        return cls(request.read(), {"Content-Type": request.headers["Content-Type"]})

    async def send(self, client: httpx.AsyncClient, route: str) -> httpx.Response:
        """Ask for the answer."""
        return await client.post(route, content=self.content, headers=self.headers)


async def one_by_one(url: str, pairs: list[Upload], route: str = ROUTE) -> list[float]:
    """Seconds of each pair, uploaded one after the other."""
    taken_s = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for pair in pairs:
            begun = time.perf_counter()
            (await pair.send(client, route)).raise_for_status()
            taken_s.append(time.perf_counter() - begun)
    return taken_s


async def at_peak(url: str, pairs: list[Upload], seconds: float, route: str = ROUTE) -> float:
    """Pairs a second of clients that each send the next pair when the last is answered."""
    until = time.perf_counter() + seconds
    num_answered = 0

    async def client(first: int) -> None:
        nonlocal num_answered
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            number = first
            while time.perf_counter() < until:
                answer = await pairs[number % len(pairs)].send(http, route)
                number += 1
                num_answered += answer.status_code == 200 and time.perf_counter() < until

    await asyncio.gather(*map(client, range(_CLIENTS)))
    return num_answered / seconds


async def overloaded(url: str, pairs: list[Upload], *, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a fixed rate by clients that give up: what was answered, refused and lost."""
    counts = {"answered": 0, "refused": 0, "given_up": 0}
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as http:

        async def ask(number: int) -> None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await pairs[number % len(pairs)].send(http, ROUTE)
                counts["answered" if answer.status_code == 200 else "refused"] += 1
            except (TimeoutError, httpx.HTTPError):
                counts["given_up"] += 1

        begun, asked = time.perf_counter(), []
        while (elapsed := time.perf_counter() - begun) < seconds:
            asked.append(asyncio.create_task(ask(len(asked))))
            await asyncio.sleep(max(0.0, len(asked) / rate - elapsed))
        await asyncio.gather(*asked)
        took_s = time.perf_counter() - begun
    return {**counts, "asked": len(asked), "goodput_pairs_per_s": counts["answered"] / took_s}


@contextlib.contextmanager
def watching(url: str, pid: int) -> Iterator[dict[str, float]]:
    """In a process of its own: how long /livez takes and what the service holds, filled in at the end."""
    context = multiprocessing.get_context("spawn")
    ended, found = context.Event(), context.SimpleQueue()
    watcher = context.Process(target=_watch, args=(url, pid, ended, found))
    watcher.start()
    assert found.get() == {}  # it has begun
    seen: dict[str, float] = {}
    try:
        yield seen
    finally:
        ended.set()
        seen |= found.get()
        watcher.join()


def _watch(url: str, pid: int, ended: "synchronize.Event", found: "multiprocessing.SimpleQueue[Any]") -> None:
    livez_s: list[float] = []
    memory_mb: list[float] = []
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        http.get("/livez")
        found.put({})
        while not ended.wait(0.1) or len(livez_s) < 2:
            begun = time.perf_counter()
            with contextlib.suppress(httpx.HTTPError):
                http.get("/livez")
            livez_s.append(time.perf_counter() - begun)
            # The kernel holds up a process whose pages it counts.
            if len(livez_s) % 10 == 1:
                memory_mb.append(pss_mb(pid))
    p99_s = statistics.quantiles(livez_s, n=100)[98]
    found.put({"livez_p99_ms": 1000 * p99_s, "peak_memory_mb": max(memory_mb), "last_memory_mb": memory_mb[-1]})


def pss_mb(pid: int) -> float:
    """Memory of a process and all that it began, each shared page counted once among those who share it."""
    total = 0.0
    for one in _family(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{one}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) / 1000 if found else 0.0
    return total


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found
