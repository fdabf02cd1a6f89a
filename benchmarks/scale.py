"""A cohort of many scans without a voxel: seconds and memory to plan it, commit it, open it and plan an epoch, as JSON.

    python -m benchmarks.scale [--scans 10000 100000 1000000] [--out FILE]

Each size has a process of its own, so that memory is its own. Four visits a person, one score, in memory://. Memory is
what the process has at its peak beyond what it had after the imports: of `plan` with the listing, of `open` without.
Nothing here reads voxels: throughput with many volumes is in benchmarks/streaming.py.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.running import ROOT, finish, machine
from preprocess.index import IndexRecord
from preprocess.plan import Found, Plan, make_plan
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.types import Scan
from preprocess.writer import commit, prepare_arrays
from trainer.data.cohort import read_cohort
from trainer.data.sampling import Sampler

SIZES = (10_000, 100_000, 1_000_000)
VISITS = 4
_MB = 1024.0
"""ru_maxrss counts KiB on Linux."""

T = TypeVar("T")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=("plan", "open"), help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = measure_plan if options.part == "plan" else measure_open
        print(json.dumps(part(options.scans[0], options.store)))
        return
    before = machine(torch.__version__)
    rows = {str(num_scans): measure(num_scans) for num_scans in options.scans}
    result: dict[str, Any] = {"scans": rows, "machine": before | {"load_1_min_after": machine("")["load_1_min"]}}
    finish(result, table(rows), options.out)


def measure(num_scans: int) -> dict[str, float]:
    """Both parts of one size, each in a process of its own."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, float] = {}
        for part in ("plan", "open"):
            command = [sys.executable, "-m", "benchmarks.scale", "--scans", str(num_scans), "--part", part]
            done = subprocess.run(
                [*command, "--store", f"{folder}/store"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            found |= json.loads(done.stdout.splitlines()[-1])
    return found


def measure_plan(num_scans: int, store_uri: str) -> dict[str, float]:
    """List and plan a cohort, then commit its index as if every row were written."""
    recipe, before = VolumeRecipe(), _peak_mb()
    listing_s, scans = timed(lambda: made_up(num_scans))
    plan_s, plan = timed(lambda: make_plan(scans, (), recipe.fingerprint()))
    plan_mb = _peak_mb() - before
    store = Location(store_uri)
    prepare_arrays(store, recipe, ["T1w"], plan.num_rows)
    records = _records(plan)
    commit_s, _ = timed(lambda: commit(store, recipe, records))
    return {"listing_s": listing_s, "plan_s": plan_s, "plan_mb": plan_mb, "commit_s": commit_s}


def measure_open(num_scans: int, store_uri: str) -> dict[str, float]:
    """Open the store, read its cohort, and plan two epochs."""
    before = _peak_mb()
    open_s, store = timed(lambda: Store.open(store_uri))
    cohort_s, cohort = timed(lambda: read_cohort(store, "T1w", "mmse"))
    assert len(cohort) == num_scans
    sampler = Sampler(cohort, sampling="pairs", batch_size=16, subjects_per_epoch=1.0, seed=0)
    first_s, _ = timed(lambda: sampler.batches(0))
    epoch_s, batches = timed(lambda: sampler.batches(1))
    assert sum(len(batch) for batch in batches) == num_scans // VISITS
    return {
        "open_s": open_s, "cohort_s": cohort_s, "first_epoch_s": first_s, "epoch_s": epoch_s,
        "open_mb": _peak_mb() - before,
    }  # fmt: skip


def made_up(num_scans: int) -> list[Found]:
    """A listing of as many scans."""
    found: list[Found] = []
    for number in range(num_scans):
        person, visit = divmod(number, VISITS)
        subject, session = f"sub-{person:06d}", f"ses-{visit:02d}"
        name = f"{subject}/{session}/anat/{subject}_{session}_T1w.nii.gz"
        score = {"mmse": float((person + visit) % 30)}
        found.append((Scan(subject, session, "T1w", f"gs://bucket/{name}", day=365.0 * visit, outcomes=score), name, 1))
    return found


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what came out."""
    begun = time.perf_counter()
    done = work()
    return time.perf_counter() - begun, done


def table(rows: dict[str, dict[str, float]]) -> str:
    """A line for each size."""
    names = ("plan_s", "plan_mb", "commit_s", "open_s", "cohort_s", "epoch_s", "open_mb")
    lines = [f"| scans | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for num_scans, found in rows.items():
        lines.append(f"| {int(num_scans):,} | {' | '.join(f'{found[name]:,.2f}' for name in names)} |")
    return "\n".join(lines)


def _records(plan: Plan) -> list[IndexRecord]:
    affine = tuple(float(value) for value in (2, 0, 0, -95, 0, 2, 0, -95, 0, 0, 2, -95, 0, 0, 0, 1))
    return [
        IndexRecord(
            row=claim.row, modality="T1w", subject_id=claim.scan.subject_id, session_id=claim.scan.session_id,
            run="", day=claim.scan.day, present=True, site="", scanner="", spacing_mm=(1.0, 1.0, 1.0), affine=affine,
            source_uri=claim.source_name, source_sha256=f"{claim.row:064x}", source_bytes=1,
            content_sha256=f"{claim.row + 2**200:064x}", outcomes=dict(claim.scan.outcomes),
        )
        for task in plan.tasks
        for claim in task
    ]  # fmt: skip


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB


if __name__ == "__main__":
    main()
