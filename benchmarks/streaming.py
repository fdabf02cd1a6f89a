"""Volumes per second from a slow bucket: interscan beside raw reads, zarr, MONAI and streaming libraries, in one run.

python benchmarks/streaming.py [--quick] [--peers-python PEERS/bin/python] [--growth] [--training] [--out FILE]

Each reader is a process of its own, so that CPU seconds and peak memory are its own; they take turns, and results are
medians over rounds. Defaults: 512 real-brain volumes of 96^3 uint8, read 32 times over, 30 ms a request, 64 in flight,
batches of 32, three rounds, about 6 minutes with peers. `--quick`: 24 volumes of 24^3, one round, no peers: shows that
it runs, no more.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cohort import upload, write_cohort
from benchmarks.peers.job import Job
from benchmarks.running import Case, CaseFailedError, finish, machine, median_ratio, medians, run_case, run_module
from tests.support.slow_bucket.client import SlowBucket, slow_bucket

BUCKET = "volumes"
OURS, RAW, ONE_BY_ONE, SIMULATED = "interscan", "raw gcsfs", "zarr one by one", "interscan, 1 ms steps"
LOCAL = "local files"
OURS_LOCAL = f"interscan, {LOCAL}"
CASES = {
    OURS: Case("ours"),
    RAW: Case("raw_gcsfs", reads="bucket, bytes only"),
    SIMULATED: Case("ours", step_s=0.001, share=1 / 2),
    ONE_BY_ONE: Case("zarr_one_by_one", share=1 / 128),
    "zarr blocks of 64": Case("zarr_blocks", share=1 / 16),
    "MONAI DataLoader, 2 workers": Case("monai_loader", share=1 / 32, reads="bucket, .npy"),
    "tensorstore": Case("tensorstore_http", is_peer=True, share=1 / 4, reads="bucket, plain HTTP"),
    "WebDataset": Case("webdataset_stream", is_peer=True, is_format=True, share=1 / 8, reads="bucket, tar, plain HTTP"),
    OURS_LOCAL: Case("ours_local", share=1 / 4, reads=LOCAL),
    "LitData": Case("litdata_stream", is_peer=True, is_format=True, share=1 / 32, reads=f"{LOCAL}, own chunks"),
    "MosaicML Streaming": Case("mosaic_stream", is_peer=True, is_format=True, share=1 / 32, reads=f"{LOCAL}, shards"),
}
"""Peers that hold what they have read, or read their format once, read the cohort once: a 32nd of 16,384."""
_GROWTH_VOLUMES = 20_000


def main() -> None:
    """See the module."""
    options = _options()
    with tempfile.TemporaryDirectory() as temporary, slow_bucket() as slow:
        folder = options.cache or Path(temporary)
        stored_kb = write_cohort(folder, options.rows, options.edge)
        slow.create(BUCKET)
        upload(slow, BUCKET, folder, "store", "npy")
        skipped = _prepare_formats(options.peers_python, folder, slow)
        slow.set_speed(latency_s=options.latency_ms / 1000)
        job = Job(
            slow.endpoint, BUCKET, str(folder), options.rows, options.volumes, options.batch, options.in_flight,
            options.edge,
        )  # fmt: skip
        before = machine(version("torch"))
        rounds = _take_turns(options, job, slow, skipped)
        extra = _extras(options, job, slow)
    result = summarise(rounds, skipped) | extra
    result["settings"] = {
        "rows": options.rows, "edge": options.edge, "stored_kb": stored_kb, "volumes": options.volumes,
        "batch": options.batch, "in_flight": options.in_flight, "latency_ms": options.latency_ms,
        "rounds": options.rounds,
    }  # fmt: skip
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


def summarise(rounds: dict[str, list[dict[str, float]]], skipped: dict[str, str]) -> dict[str, Any]:
    """The measurements that are claimed, and all others below `cases`.

    Against raw and one-by-one reading, ours counts from the first request on. Against peers ours does too, while
    theirs count from their first batch on: starting workers is not held against them. Peers that read local files are
    compared twice: with ours from the bucket, and with ours from local files.
    """
    cases: dict[str, dict[str, Any]] = {name: medians(of) | {"reads": CASES[name].reads} for name, of in rounds.items()}
    whole = ("volumes_per_s", "volumes_per_s")
    ratios = {
        name: median_ratio(rounds[OURS], of, keys=("volumes_per_s", "after_first_per_s"))
        for name, of in rounds.items()
        if name not in (OURS, OURS_LOCAL, RAW, SIMULATED, ONE_BY_ONE) and all(one["after_first_per_s"] for one in of)
    }
    ours = cases[OURS]
    return {
        "volumes_per_s": ours["volumes_per_s"],
        "raw_get_volumes_per_s": cases[RAW]["volumes_per_s"],
        "ratio_to_raw": median_ratio(rounds[OURS], rounds[RAW], keys=whole),
        "ratio_to_one_by_one": median_ratio(rounds[OURS], rounds[ONE_BY_ONE], keys=whole),
        "au_simulated": cases[SIMULATED]["au"],
        "first_batch_s": ours["first_batch_s"],
        "peak_rss_mb": ours["peak_rss_mb"],
        "requests_per_volume": ours["requests_per_volume"],
        "cpu_ms_per_volume": 1000 * ours["cpu_s"] / ours["volumes"],
        "ratios_to_peers": ratios,
        "local_ratios_to_peers": {
            name: median_ratio(rounds[OURS_LOCAL], rounds[name], keys=("volumes_per_s", "after_first_per_s"))
            for name in ratios
            if CASES[name].reads.startswith(LOCAL)
        },
        "cases": cases | {name: {"skipped": reason} for name, reason in skipped.items()},
    }


def table(result: dict[str, Any]) -> str:
    """The cases as a Markdown table."""
    lines = [
        "| reader | reads | volumes/s | after the first batch | first batch, s | CPU ms a volume "
        "| peak MB | ours over it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in result["cases"].items():
        if "skipped" in case:
            lines.append(f"| {name} | skipped: {case['skipped']} | | | | | | |")
            continue
        ratio = result["volumes_per_s"] / (case["after_first_per_s"] or case["volumes_per_s"])
        ratio = {RAW: result["ratio_to_raw"], ONE_BY_ONE: result["ratio_to_one_by_one"]}.get(name, ratio)
        ratio = result["ratios_to_peers"].get(name, ratio)
        shown = "" if name in (OURS, OURS_LOCAL, SIMULATED) else f"{ratio:.2f}x"
        lines.append(
            f"| {name} | {case['reads']} | {case['volumes_per_s']:.0f} | {case['after_first_per_s']:.0f} | "
            f"{case['first_batch_s']:.2f} | {1000 * case['cpu_s'] / case['volumes']:.2f} | {case['peak_rss_mb']:.0f} | "
            f"{shown} |"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="24 volumes of 24^3, one round, no peers")
    parser.add_argument("--rows", type=int, default=512, help="volumes stored")
    parser.add_argument("--volumes", type=int, default=16_384, help="volumes read by the fastest; others read a part")
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--peers-python", help="interpreter that has benchmarks/requirements-peers.txt")
    parser.add_argument("--growth", action="store_true", help="memory growth over 20,000 volumes, about 20 s")
    parser.add_argument("--training", action="store_true", help="CPU training from the bucket over RAM, about 60 s")
    parser.add_argument("--cache", type=Path, help="folder for the cohort, which is then made only once")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.volumes, options.edge, options.rounds, options.batch = 24, 96, 24, 1, 4
    return options


def _prepare_formats(peers_python: str | None, folder: Path, slow: SlowBucket) -> dict[str, str]:
    """Write and upload the peers' formats; reasons for those that are left out."""
    skipped = {}
    for name, case in CASES.items():
        if case.is_peer and peers_python is None:
            skipped[name] = "no --peers-python"
        elif case.is_format and peers_python is not None:
            own = case.module.partition("_")[0]
            try:
                if not (folder / own).exists():
                    run_module(peers_python, case.module, "write", str(folder / "npy"), str(folder / own))
                upload(slow, BUCKET, folder, own)
            except CaseFailedError as error:
                skipped[name] = str(error)
    return skipped


def _take_turns(
    options: argparse.Namespace, job: Job, slow: SlowBucket, skipped: dict[str, str]
) -> dict[str, list[dict[str, float]]]:
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for name, case in CASES.items():
            if name in skipped:
                continue
            volumes = max(2 * job.batch, int(job.volumes * case.share))
            own = Job(**asdict(job) | {"volumes": volumes, "step_s": case.step_s})
            try:
                result = run_case(options.peers_python if case.is_peer else sys.executable, case, own, slow)
            except CaseFailedError as error:
                if not case.is_peer:
                    raise
                skipped[name] = str(error)
                rounds.pop(name, None)
                continue
            sys.stderr.write(f"{name}: {result['volumes_per_s']:.0f} volumes/s\n")
            rounds.setdefault(name, []).append(result)
    return rounds


def _extras(options: argparse.Namespace, job: Job, slow: SlowBucket) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if options.growth:
        volumes = 4 * job.volumes if options.quick else _GROWTH_VOLUMES
        long = Job(**asdict(job) | {"volumes": volumes, "keep_growth": True})
        extra["memory_growth_mb"] = run_case(sys.executable, CASES[OURS], long, slow)["growth_mb"]
        extra["memory_growth_volumes"] = volumes
    if options.training:
        once = Job(**asdict(job) | {"volumes": job.num_rows, "batch": min(16, job.batch)})
        extra["training"] = json.loads(run_module(sys.executable, "training_from_bucket", json.dumps(asdict(once))))
    return extra


if __name__ == "__main__":
    main()
