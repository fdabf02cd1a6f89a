"""From SIGTERM to the end of a training run whose folder lies in a slow bucket: seconds, requests, bytes.

python -m benchmarks.preemption [--quick] [--rounds 5] [--latency-ms 30] [--bandwidth-mb 50] [--out FILE]

`interscan train clinimcl` (default encoder, so a checkpoint of real size) trains from the bucket and writes a
checkpoint after every epoch. Epochs are short, so that the signal finds an upload under way more often than not. Each
round goes on with the run of the round before. GKE gives a spot machine 15 s; 12 is what is aimed at.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cohort import upload, write_cohort
from benchmarks.running import ROOT, finish, machine
from preprocess.storage import Location
from tests.support.slow_bucket.client import SlowBucket, slow_bucket

BUCKET = "preempted"
LIMIT_S = 12.0
_PATIENCE_S = 300.0
_LATER_S = 0.37
"""Each round sends its signal this much later after the end of an epoch than the round before, so at another step."""


@dataclass(frozen=True)
class Conditions:
    """What the run is given.

    Attributes:
        rows: scans of the cohort, two a subject.
        edge: of a volume, in voxels.
        batch_size: subjects a step.
        latency_s: of a request.
        bandwidth_bytes_per_s: of all of them together, uploads included.
    """

    rows: int = 64
    edge: int = 96
    batch_size: int = 8
    latency_s: float = 0.03
    bandwidth_bytes_per_s: float = 50e6


QUICK = Conditions(rows=24, edge=16, batch_size=4)


def main() -> None:
    """See the module."""
    options = _options()
    given = QUICK if options.quick else Conditions()
    conditions = Conditions(
        given.rows, given.edge, given.batch_size, options.latency_ms / 1000, options.bandwidth_mb * 1e6
    )
    before = machine(version("torch"))
    with tempfile.TemporaryDirectory() as temporary, slow_bucket() as slow:
        rounds = measure(slow, Path(temporary), conditions, num_rounds=options.rounds)
    seconds = [one["seconds"] for one in rounds]
    result: dict[str, Any] = {
        "seconds": statistics.median(seconds),
        "most_seconds": max(seconds),
        "limit_seconds": LIMIT_S,
        "most_requests": max(one["requests"] for one in rounds),
        "checkpoint_mb": rounds[-1]["checkpoint_mb"],
        "rounds": rounds,
        "settings": vars(conditions),
        "machine": before | {"load_1_min_after": machine("")["load_1_min"]},
    }
    said = (
        f"{result['seconds']:.2f} s from SIGTERM to the end (most {result['most_seconds']:.2f} of {len(rounds)}), "
        f"{result['most_requests']} requests at most, checkpoint of {result['checkpoint_mb']:.1f} MB"
    )
    finish(result, said, options.out)


def measure(slow: SlowBucket, folder: Path, conditions: Conditions, *, num_rounds: int) -> list[dict[str, Any]]:
    """Train and stop, so many times; what happened between signal and end, by round.

    Args:
        slow: a running bucket.
        folder: an empty one.
        conditions: what the run is given.
        num_rounds: how often it is stopped.
    """
    write_cohort(folder, conditions.rows, conditions.edge)
    slow.create(BUCKET)
    upload(slow, BUCKET, folder, "store")
    slow.set_speed(latency_s=conditions.latency_s, bandwidth_bytes_per_s=conditions.bandwidth_bytes_per_s)
    run = Location(f"{slow.url(BUCKET)}/run", slow.options)
    return [_stop_once(slow, run, conditions, _LATER_S * number) for number in range(num_rounds)]


def _stop_once(slow: SlowBucket, run: Location, conditions: Conditions, later_s: float) -> dict[str, Any]:
    epochs_before = _epochs(run)
    command = [
        *(sys.executable, "-m", "interscan", "train", "clinimcl"),
        *("--store", f"{slow.url(BUCKET)}/store", "--run", f"{slow.url(BUCKET)}/run"),
        *("--set", "optim.epochs=3000", "--set", f"data.batch_size={conditions.batch_size}"),
    ]
    environment = os.environ | {
        "FSSPEC_GS_ENDPOINT_URL": slow.endpoint,
        "FSSPEC_GS_TOKEN": "anon",
        "FSSPEC_GS_PROJECT": "test",
        # Read by gcsfs when it is imported; without it every call to an emulator blocks for 60 s.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as training:
        until = time.monotonic() + _PATIENCE_S
        while _epochs(run) == epochs_before and training.poll() is None:
            if time.monotonic() > until:
                training.kill()
                raise RuntimeError(f"no epoch was done after {_PATIENCE_S:.0f} s")
            time.sleep(0.1)
        time.sleep(later_s)
        slow.reset()
        signalled = time.perf_counter()
        training.send_signal(signal.SIGTERM)
        _, log = training.communicate(timeout=_PATIENCE_S)
        seconds = time.perf_counter() - signalled
    seen = slow.stats()
    if training.returncode != 130:
        raise RuntimeError(f"training ended with {training.returncode}: {log.strip().splitlines()[-1]}")
    pointer = json.loads(run.read("checkpoints/latest.json"))
    return {
        "seconds": seconds,
        "requests": seen.num_requests,
        "by_kind": seen.by_kind,
        "mb_received": seen.bytes_received / 1e6,
        "checkpoint_mb": len(run.read(pointer["name"])) / 1e6,
        "step": pointer["step"],
        "said": log.strip().splitlines()[-1],
    }


def _epochs(run: Location) -> int:
    """How many the run's log contains."""
    try:
        return len(run.read("log.jsonl").splitlines())
    except FileNotFoundError:
        return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="24 volumes of 16^3; the checkpoint has its real size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--bandwidth-mb", type=float, default=50.0, help="MB/s of the bucket, all requests together")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
