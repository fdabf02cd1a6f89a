"""The service beside the same work in one process, at its peak and beyond it; prints JSON.

python -m benchmarks.serving [--quick] [--artefact FOLDER] [--pairs 15] [--seconds 20] [--peers-python PEERS/bin/python]
    [--out FILE]

Pairs of 10 MB heads are uploaded over loopback by clients on the same cores, which they take part of. Without
--artefact the model is a tiny one, so that what is measured is all but its forward pass. `ceiling_pairs_per_s` is what
processes, one for each core, reach side by side when they do nothing but decode and answer. Clients give up after 10 s
and, where they are refused, do not ask again.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import synchronize
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from threadpoolctl import threadpool_limits

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import LoadedModel, load_artefact
from benchmarks.preprocess_ways import write_heads
from benchmarks.running import ROOT, finish, machine
from benchmarks.serving_load import Upload, at_peak, one_by_one, overloaded, pss_mb, watching
from benchmarks.serving_peers import PEERS, Peer, serving_peer
from preprocess.machine import num_cores
from tests.support.artefacts import write_artefact

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


def in_process(model: LoadedModel, pairs: list[tuple[bytes, bytes]], threads: int) -> list[float]:
    """Seconds of each pair: decode, resample and forward in this process, one scan after the other."""
    torch.set_num_threads(threads)
    recipe = model.manifest.inputs.volume_recipe
    taken_s = []
    # Those of BLAS too, as in the service's decoding processes.
    with threadpool_limits(limits=threads):
        for earlier, later in pairs:
            begun = time.perf_counter()
            scans = [prepare(data, recipe, name="scan") for data in (earlier, later)]
            answer_progression(model, *scans)
            taken_s.append(time.perf_counter() - begun)
    return taken_s


def ceiling(artefact: Path, pairs: list[tuple[bytes, bytes]], seconds: float) -> float:
    """Pairs a second of processes, one for each core and with one thread, that each do the work in process."""
    context = multiprocessing.get_context("spawn")
    cores = num_cores()
    begun, counted = context.Barrier(cores), context.SimpleQueue()
    arguments = (artefact, pairs, seconds, begun, counted)
    workers = [context.Process(target=_work_for, args=arguments) for _ in range(cores)]
    for worker in workers:
        worker.start()
    found = sum(counted.get() for _ in workers)
    for worker in workers:
        worker.join()
    return found


def _work_for(
    artefact: Path,
    pairs: list[tuple[bytes, bytes]],
    seconds: float,
    begun: "synchronize.Barrier",
    counted: "multiprocessing.SimpleQueue[float]",
) -> None:
    model = load_artefact(str(artefact))
    in_process(model, pairs[:1], 1)
    begun.wait()
    start, num_done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        in_process(model, [pairs[num_done % len(pairs)]], 1)
        num_done += 1
    counted.put(num_done / (time.perf_counter() - start))


def measure(
    artefact: Path, pairs: list[tuple[bytes, bytes]], num_pairs: int, seconds: float, peers_python: str | None
) -> dict[str, Any]:
    """All of it, one after the other on one machine."""
    model = load_artefact(str(artefact))
    work = [pairs[number % len(pairs)] for number in range(num_pairs)]
    in_process(model, work[:1], 1)
    one_thread_s = statistics.median(in_process(model, work, 1))
    default_s = statistics.median(in_process(model, work, num_cores()))
    ceiling_pairs_per_s = ceiling(artefact, pairs, seconds)
    uploads = [Upload.of(pair) for pair in pairs]
    with serving(artefact) as (url, pid):
        asyncio.run(one_by_one(url, uploads))
        idle_mb = pss_mb(pid)
        sent = [uploads[number % len(uploads)] for number in range(num_pairs)]
        served_s = statistics.median(asyncio.run(one_by_one(url, sent)))
        peak = asyncio.run(at_peak(url, uploads, seconds))
        with watching(url, pid) as seen:
            beyond = asyncio.run(overloaded(url, uploads, rate=_OVERLOAD * peak, seconds=3 * seconds))
    peers = {}
    for peer in PEERS if peers_python is not None else ():
        peers[peer.name] = measure_peer(peer, str(peers_python), artefact, sent, seconds)
    return {
        "p50_ms": 1000 * served_s,
        "in_process_ms": 1000 * one_thread_s,
        "in_process_default_threads_ms": 1000 * default_s,
        "overhead_ratio": served_s / one_thread_s,
        "pairs_per_s": peak,
        "ceiling_pairs_per_s": ceiling_pairs_per_s,
        "share_of_ceiling": peak / ceiling_pairs_per_s,
        "overload_goodput_ratio": beyond["goodput_pairs_per_s"] / peak,
        "livez_p99_ms": seen["livez_p99_ms"],
        "idle_memory_mb": idle_mb,
        "peak_rss_mb": seen["peak_memory_mb"],
        "overload": beyond | seen,
        "peers": peers,
    }


def measure_peer(peer: Peer, python: str, artefact: Path, sent: list[Upload], seconds: float) -> dict[str, Any]:
    """The same uploads to another service: seconds of each one after the other, and the peak."""
    with serving_peer(peer, python, artefact, sent[0]) as url:
        asyncio.run(one_by_one(url, sent[:4], peer.route))
        served_s = statistics.median(asyncio.run(one_by_one(url, sent, peer.route)))
        return {"p50_ms": 1000 * served_s, "pairs_per_s": asyncio.run(at_peak(url, sent, seconds, peer.route))}


def table(result: dict[str, Any]) -> str:
    """A line for each figure."""
    shown = [key for key in result if isinstance(result[key], float)]
    lines = ["| figure | value |", "|---|---|", *(f"| {key} | {result[key]:.3g} |" for key in shown)]
    for name, found in result["peers"].items():
        lines += [f"| {name}: {key} | {found[key]:.3g} |" for key in found]
    return "\n".join([*lines, f"| beyond the peak | {json.dumps(result['overload'])} |"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="heads of 4 mm voxels, few pairs, two seconds")
    parser.add_argument("--artefact", type=Path, help="a progression artefact; a tiny model when not given")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--peers-python", help="interpreter that has benchmarks/requirements-peers-serving.txt")
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
        result = measure(artefact, pairs, options.pairs, options.seconds, options.peers_python)
    result["settings"] = {key: getattr(options, key) for key in ("pairs", "seconds", "quick")}
    result["file_mb"] = statistics.mean(map(len, heads)) / 1e6
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


if __name__ == "__main__":
    main()
