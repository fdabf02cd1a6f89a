"""CPU time from a file to a volume on one thread, ours and others on the same heads in turns; prints JSON.

python -m benchmarks.preprocess [--quick] [--heads 6] [--rounds 3] [--workers 2] [--out FILE]

TorchIO is measured where it is installed (`pip install --constraint constraints.txt torchio==1.2.1`). No library but
ours looks for the head or smooths before it takes every second voxel, and MONAI's chain is what the ratio is over.
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
from benchmarks.running import finish, machine, median_ratio, medians
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


def cpu_ms(path: Path) -> float:
    """CPU time that a worker takes for one scan."""
    begun = time.process_time()
    prepare(path)
    return 1000 * (time.process_time() - begun)


def run_workers(paths: list[Path], workers: int, num_scans: int) -> dict[str, float]:
    """Scans a second by the clock, of processes that have begun; and CPU time, which other work delays less."""
    work = [paths[number % len(paths)] for number in range(num_scans)]
    with WorkerPool(workers, where="the benchmark") as pool:
        # Twice as many as there are workers: each has imported everything by then.
        list(pool.map(cpu_ms, work[: 2 * workers]))
        begun = time.perf_counter()
        taken_ms = list(pool.map(cpu_ms, work))
        rate = num_scans / (time.perf_counter() - begun)
    return {"scans_per_s": rate, "ms_per_scan": statistics.median(taken_ms)}


def measure_workers(paths: list[Path], workers: int, num_scans: int) -> dict[str, Any]:
    """One worker and several, in turns: medians of three."""
    runs: dict[int, list[dict[str, float]]] = {1: [], workers: []}
    for _ in range(3):
        for number, found in runs.items():
            found.append(run_workers(paths, number, num_scans))
    return {
        "workers": workers,
        "one": medians(runs[1]),
        "several": medians(runs[workers]),
        "speedup": median_ratio(runs[workers], runs[1], keys=("scans_per_s", "scans_per_s")),
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
        each = f"{found['several']['ms_per_scan']:.0f} and {found['one']['ms_per_scan']:.0f} ms of CPU a scan"
        lines.append(f"\n{found['workers']} workers: {found['speedup']:.2f}x of one ({each})")
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
