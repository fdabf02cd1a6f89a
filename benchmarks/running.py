"""Runs readers as processes of their own and puts their measurements together; what machine and load it was."""

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.job import Job
from tests.support.slow_bucket.client import SlowBucket

ROOT = Path(__file__).parents[1]
_PATIENCE_S = 300.0


class CaseFailedError(RuntimeError):
    """A reader's process failed; the message is its last error."""


@dataclass(frozen=True)
class Case:
    """One reader of the comparison.

    Attributes:
        module: in benchmarks/peers.
        share: part of the volumes it reads; slow ones read fewer.
        is_peer: runs in the peers' environment, and is skipped where that lacks it.
        is_format: has a format of its own, which is written before.
        step_s: simulated accelerator, seconds a volume.
        reads: where it reads from, and how, for the table.
    """

    module: str
    share: float = 1.0
    is_peer: bool = False
    is_format: bool = False
    step_s: float = 0.0
    reads: str = "bucket"


def run_module(python: str, module: str, *arguments: str) -> str:
    """Run a module of benchmarks/peers; its last line of output.

    Raises:
        CaseFailedError: it failed or took too long.
    """
    command = [python, "-m", f"benchmarks.peers.{module}", *arguments]
    # Read by gcsfs when it is imported; without it every call to an emulator blocks for 60 s.
    env = os.environ | {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CaseFailedError(f"not finished after {_PATIENCE_S:.0f} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if "Error: " in line and not line.startswith(" ")]
        raise CaseFailedError((errors or said or [""])[-1] or f"ended with {done.returncode}")
    lines = done.stdout.splitlines()
    return lines[-1] if lines else ""


def run_case(python: str, case: Case, job: Job, slow: SlowBucket) -> dict[str, float]:
    """One reader once: its own measurements, and what the bucket saw.

    Raises:
        CaseFailedError: see `run_module`.
    """
    slow.reset()
    before_s = slow.stats().cpu_s
    result: dict[str, float] = json.loads(run_module(python, case.module, json.dumps(asdict(job))))
    seen = slow.stats()
    # Chunks are the objects below `c/`; the few others are read once, when the store is opened.
    chunks = sum(number for name, number in seen.media_by_object.items() if "/c/" in name)
    result["requests_per_volume"] = chunks / result["volumes"]
    result["mb_sent"] = seen.bytes_sent / 1e6
    result["bucket_cpu_s"] = seen.cpu_s - before_s
    return result


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each measurement."""
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def median_ratio(over: list[dict[str, float]], under: list[dict[str, float]], *, keys: tuple[str, str]) -> float:
    """The median over rounds of the ratio within a round: what else the machine does changes between rounds."""
    return statistics.median(a[keys[0]] / b[keys[1]] for a, b in zip(over, under, strict=True))


def machine(torch_version: str) -> dict[str, Any]:
    """What it was measured on, without names."""
    return {
        "cores": os.cpu_count(),
        "cpu": platform.machine(),
        "python": platform.python_version(),
        "torch": torch_version,
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def rounded(value: Any) -> Any:
    """The same with four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def finish(result: dict[str, Any], table: str, out: Path | None) -> None:
    """The result as JSON on stdout and, when requested, in a file; a table on stderr."""
    sys.stderr.write(table + "\n")
    text = json.dumps(rounded(result), indent=2)
    if out is not None:
        out.write_text(text + "\n")
    print(text)
