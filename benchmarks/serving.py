"""The service beside the same work in one process, at its peak and beyond it; prints JSON.

python -m benchmarks.serving [--quick] [--artefact FOLDER] [--pairs 15] [--seconds 20] [--out FILE]

Pairs of 10 MB heads are uploaded over loopback by clients on the same cores, which they take part of. Without
--artefact the model is a tiny one, so that what is measured is all but its forward pass. `ceiling_pairs_per_s` is what
the cores could do if nothing but decoding and the forward pass took time: cores over the time of a pair on one thread.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import LoadedModel, load_artefact
from benchmarks.preprocess_ways import write_heads
from benchmarks.running import ROOT, finish, machine
from preprocess.machine import num_cores
from tests.support.artefacts import write_artefact

PATIENCE_S = 10.0
"""After which a client gives up."""
_CLIENTS = 8
_OVERLOAD = 3.0


@contextlib.contextmanager
def serving(artefact: Path) -> Iterator[tuple[str, int]]:
    """A service in a process of its own, ready; its address and process id."""
    command = [sys.executable, "-m", "interscan", "serve", str(artefact), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            found = re.match(r"(http://\S+) ", server.stderr.readline())
            assert found is not None
            # Whoever logs into a pipe that nobody reads stands still when it is full.
            drained = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{found[1]}/readyz").status_code == 200:
                        break
                time.sleep(0.05)
            yield found[1], server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
            drained.wait(30)


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


def in_process(model: LoadedModel, pairs: list[tuple[bytes, bytes]], threads: int) -> list[float]:
    """Seconds of each pair: decode, resample and forward in this process, one scan after the other."""
    torch.set_num_threads(threads)
    recipe = model.manifest.inputs.volume_recipe
    taken_s = []
    for earlier, later in pairs:
        begun = time.perf_counter()
        scans = [prepare(data, recipe, name="scan") for data in (earlier, later)]
        answer_progression(model, *scans)
        taken_s.append(time.perf_counter() - begun)
    return taken_s


def body_of(pair: tuple[bytes, bytes]) -> dict[str, tuple[str, bytes]]:
    """A pair as an upload."""
    return {"earlier": ("a.nii.gz", pair[0]), "later": ("b.nii.gz", pair[1])}


async def one_by_one(url: str, pairs: list[tuple[bytes, bytes]]) -> list[float]:
    """Seconds of each pair, uploaded one after the other."""
    taken_s = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for pair in pairs:
            begun = time.perf_counter()
            (await client.post("/v1/progression", files=body_of(pair))).raise_for_status()
            taken_s.append(time.perf_counter() - begun)
    return taken_s


async def at_peak(url: str, pairs: list[tuple[bytes, bytes]], seconds: float) -> float:
    """Pairs a second of clients that each send the next pair when the last is answered."""
    until = time.perf_counter() + seconds
    num_answered = 0

    async def client(first: int) -> None:
        nonlocal num_answered
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            number = first
            while time.perf_counter() < until:
                answer = await http.post("/v1/progression", files=body_of(pairs[number % len(pairs)]))
                number += 1
                num_answered += answer.status_code == 200 and time.perf_counter() < until

    await asyncio.gather(*map(client, range(_CLIENTS)))
    return num_answered / seconds


async def overloaded(
    url: str, pairs: list[tuple[bytes, bytes]], *, rate: float, seconds: float, memory: Callable[[], float]
) -> dict[str, Any]:
    """Requests at a fixed rate by clients that give up: what was answered, refused and lost; how /livez did."""
    counts = {"answered": 0, "refused": 0, "given_up": 0}
    livez_s: list[float] = []
    memory_mb: list[float] = []
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as http:

        async def ask(number: int) -> None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await http.post("/v1/progression", files=body_of(pairs[number % len(pairs)]))
                counts["answered" if answer.status_code == 200 else "refused"] += 1
            except (TimeoutError, httpx.HTTPError):
                counts["given_up"] += 1

        async def probe() -> None:
            while True:
                begun = time.perf_counter()
                with contextlib.suppress(httpx.HTTPError):
                    await http.get("/livez")
                livez_s.append(time.perf_counter() - begun)
                memory_mb.append(memory())
                await asyncio.sleep(0.1)

        probing = asyncio.create_task(probe())
        begun, asked = time.perf_counter(), []
        while (elapsed := time.perf_counter() - begun) < seconds:
            asked.append(asyncio.create_task(ask(len(asked))))
            await asyncio.sleep(max(0.0, len(asked) / rate - elapsed))
        await asyncio.gather(*asked)
        took_s = time.perf_counter() - begun
        probing.cancel()
    return {
        **counts,
        "asked": len(asked),
        "goodput_pairs_per_s": counts["answered"] / took_s,
        "livez_p99_ms": 1000 * statistics.quantiles(livez_s, n=100)[98],
        "peak_memory_mb": max(memory_mb),
    }


def measure(artefact: Path, pairs: list[tuple[bytes, bytes]], num_pairs: int, seconds: float) -> dict[str, Any]:
    """All of it, one after the other on one machine."""
    model = load_artefact(str(artefact))
    work = [pairs[number % len(pairs)] for number in range(num_pairs)]
    cores = num_cores()
    in_process(model, work[:1], 1)
    one_thread_s = statistics.median(in_process(model, work, 1))
    default_s = statistics.median(in_process(model, work, cores))
    with serving(artefact) as (url, pid):
        asyncio.run(one_by_one(url, work[:2]))
        idle_mb = pss_mb(pid)
        served_s = statistics.median(asyncio.run(one_by_one(url, work)))
        peak = asyncio.run(at_peak(url, pairs, seconds))
        rate = _OVERLOAD * peak
        beyond = asyncio.run(overloaded(url, pairs, rate=rate, seconds=seconds, memory=lambda: pss_mb(pid)))
    return {
        "p50_ms": 1000 * served_s,
        "in_process_ms": 1000 * one_thread_s,
        "in_process_default_threads_ms": 1000 * default_s,
        "overhead_ratio": served_s / one_thread_s,
        "pairs_per_s": peak,
        "ceiling_pairs_per_s": cores / one_thread_s,
        "share_of_ceiling": peak * one_thread_s / cores,
        "overload_goodput_ratio": beyond["goodput_pairs_per_s"] / peak,
        "livez_p99_ms": beyond["livez_p99_ms"],
        "idle_memory_mb": idle_mb,
        "peak_rss_mb": beyond["peak_memory_mb"],
        "overload": beyond,
    }


def table(result: dict[str, Any]) -> str:
    """A line for each figure."""
    shown = [key for key in result if isinstance(result[key], float)]
    lines = ["| figure | value |", "|---|---|", *(f"| {key} | {result[key]:.3g} |" for key in shown)]
    return "\n".join([*lines, f"| beyond the peak | {json.dumps(result['overload'])} |"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="heads of 4 mm voxels, few pairs, two seconds")
    parser.add_argument("--artefact", type=Path, help="a progression artefact; a tiny model when not given")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.seconds = 3, 2.0
    os.environ.pop("OMP_NUM_THREADS", None)
    before = machine(torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        artefact = options.artefact or write_artefact(Path(folder) / "tiny" / "1")
        heads = [path.read_bytes() for path in write_heads(Path(folder), 4, coarser=4 if options.quick else 1)]
        pairs = [(heads[0], heads[1]), (heads[2], heads[3])]
        result = measure(artefact, pairs, options.pairs, options.seconds)
    result["settings"] = {key: getattr(options, key) for key in ("pairs", "seconds", "quick")}
    result["file_mb"] = statistics.mean(map(len, heads)) / 1e6
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


if __name__ == "__main__":
    main()
