"""CPU time from a file to a volume on one thread, ours and others on the same heads in turns; prints JSON.

python -m benchmarks.preprocess [--quick] [--heads 6] [--rounds 3] [--workers 2] [--out FILE]

TorchIO is measured where it is installed (`pip install --constraint constraints.txt torchio==1.2.1`). No library but ours looks for the head
or smooths before it takes every second voxel, and MONAI's chain is what the ratio is over.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks.preprocess_ways import MONAI, OURS, PEERS, Way, prepare, write_heads
from benchmarks.running import finish, machine
from preprocess.workers import WorkerPool


def ways() -> tuple[dict[str, Way], dict[str, str]]:
    """Those that can be measured here, and why others cannot."""
    found: dict[str, Way] = {OURS: prepare}
    skipped = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional parts that they lack
        for name, make in PEERS.items():
            try:
                found[name] = make()
            except ImportError as error:
                skipped[name] = f"not installed ({error})"
    return found, skipped


def take_turns(found: dict[str, Way], paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """CPU ms of each way and file; the first file of each is read once more before, to warm up."""
    taken_ms: dict[str, list[float]] = {name: [] for name in found}
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries say of themselves
        torch.set_num_threads(1)
        for way in found.values():
            way(paths[0])
        for number in range(rounds * len(paths)):
            for name, way in found.items():
                begun = time.process_time()
                way(paths[number % len(paths)])
                taken_ms[name].append(1000 * (time.process_time() - begun))
    return taken_ms


def scans_per_s(paths: list[Path], workers: int, num_scans: int) -> float:
    """Scans a second by the clock, of processes that have begun."""
    work = [paths[number % len(paths)] for number in range(num_scans)]
    with WorkerPool(workers, where="the benchmark") as pool:
        # Twice as many as there are workers: each has imported everything by then.
        list(pool.map(prepare, work[: 2 * workers]))
        begun = time.perf_counter()
        for _ in pool.map(prepare, work):
            pass
        return num_scans / (time.perf_counter() - begun)


def measure_workers(paths: list[Path], workers: int, num_scans: int) -> dict[str, Any]:
    """One worker and several, in turns: medians of three."""
    rates: dict[int, list[float]] = {1: [], workers: []}
    for _ in range(3):
        for number, found in rates.items():
            found.append(scans_per_s(paths, number, num_scans))
    speedups = [several / one for one, several in zip(rates[1], rates[workers], strict=True)]
    return {
        "workers": workers,
        "scans_per_s": statistics.median(rates[workers]),
        "scans_per_s_of_one": statistics.median(rates[1]),
        "speedup": statistics.median(speedups),
    }


def summarise(taken_ms: dict[str, list[float]], skipped: dict[str, str]) -> dict[str, Any]:
    """Medians; the ratio is the median over turns, since what else the machine does changes between them."""
    ours, theirs = taken_ms[OURS], taken_ms[MONAI]
    return {
        "ms_per_scan": statistics.median(ours),
        "monai_ms_per_scan": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ways": {
            name: {"ms_per_scan": statistics.median(found), "least": min(found), "most": max(found)}
            for name, found in taken_ms.items()
        },
        "skipped": skipped,
    }


def table(result: dict[str, Any]) -> str:
    """A row for each library."""
    lines = ["| library | CPU ms a scan | least | most | ours over it |", "|---|---|---|---|---|"]
    for name, found in result["ways"].items():
        over = result["ms_per_scan"] / found["ms_per_scan"]
        lines.append(
            f"| {name} | {found['ms_per_scan']:.0f} | {found['least']:.0f} | {found['most']:.0f} | {over:.2f} |"
        )
    lines += [f"| {name} | skipped: {reason} | | | |" for name, reason in result["skipped"].items()]
    if "workers" in result:
        found = result["workers"]
        lines.append(f"\n{found['workers']} workers: {found['speedup']:.2f}x of one")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two heads of 4 mm voxels, one round")
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="measure so many worker processes beside one")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.heads, options.rounds = 2, 1
    # Before a worker is started: its libraries read it when they are imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    before = machine(torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_heads(Path(folder), options.heads, coarser=4 if options.quick else 1)
        file_mb = statistics.mean(path.stat().st_size for path in paths) / 1e6
        result = summarise(take_turns((found := ways())[0], paths, options.rounds), found[1])
        if options.workers > 1:
            result["workers"] = measure_workers(paths, options.workers, 4 if options.quick else 24)
    result["settings"] = {key: getattr(options, key) for key in ("heads", "rounds", "workers", "quick")}
    result["file_mb"] = file_mb
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


if __name__ == "__main__":
    main()
