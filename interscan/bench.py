"""The verb `bench`: runs a script of benchmarks/ from a checkout, with its defaults, and prints its results.

The scripts need the slow bucket of tests/support and nilearn's template, which no installed package carries; so this
works in a checkout with the extra `test`, and says so elsewhere.
"""

import contextlib
import json as jsonlib
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from preprocess.console import EXIT_DONE, JsonFlag, emit
from preprocess.errors import UsageError

SCRIPTS = {
    "stream": "streaming.py",
    "train": "training_step.py",
    "preprocess": "preprocess.py",
    "serve": "serving.py",
    "methods": "methods.py",
}
SHOWN = {
    "stream": (
        "volumes_per_s",
        "raw_get_volumes_per_s",
        "ratio_to_raw",
        "ratio_to_one_by_one",
        "au_simulated",
        "first_batch_s",
        "peak_rss_mb",
        "requests_per_volume",
    ),
    "train": ("ms_per_volume", "reference_ms_per_volume", "speedup"),
    "preprocess": ("ms_per_scan", "monai_ms_per_scan", "ratio"),
    "serve": (
        "p50_ms",
        "in_process_ms",
        "overhead_ratio",
        "pairs_per_s",
        "ceiling_pairs_per_s",
        "overload_goodput_ratio",
        "livez_p99_ms",
        "peak_rss_mb",
    ),
    "methods": (),
}
"""Keys that are printed without --json; the tables of the methods stand on stderr."""
_END_SECONDS = 1.0
"""For a script to end its own processes when it is interrupted."""


def bench(
    part: Literal["stream", "train", "preprocess", "serve", "methods"],
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    peers_python: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Measure a part on this machine; needs a checkout.

    `stream`: volumes a second from a bucket with 30 ms a request, beside raw reads and other readers: 3 to 8 minutes.
    `train`: the default encoder's training step against the published one, in ms a volume: about a minute.
    `preprocess`: one head from file to volume beside MONAI's chain, in ms of CPU on one thread: about a minute.
    `serve`: pairs of 10 MB heads by upload beside the same work in process, at the peak and beyond it: 3 to 5 minutes.
    `methods`: the published methods and baselines on synthetic cohorts, five seeds each: about three hours.

    Args:
        part: what is measured.
        quick: small sizes that show that it runs; their results mean nothing.
        peers_python: interpreter with the libraries of benchmarks/requirements-peers.txt for stream, or of
            benchmarks/requirements-peers-serving.txt for serve.
        json: print the result as one JSON object on stdout.
    """
    script = find_script(part)
    arguments = ["--quick"] if quick else []
    if peers_python is not None:
        if part not in ("stream", "serve"):
            raise UsageError(f"--peers-python is for bench stream and bench serve, not for bench {part}; leave it out")
        arguments += ["--peers-python", peers_python]
    result = _run(script, arguments)
    emit(result, "\n".join(f"{key}: {result[key]}" for key in SHOWN[part]), as_json=json)
    return EXIT_DONE


def find_script(part: str, root: Path | None = None) -> Path:
    """The script of a part.

    Args:
        part: `stream`, `train`, `preprocess`, `serve` or `methods`.
        root: the checkout's folder; the folder above this package when not given.

    Raises:
        UsageError: this is not a checkout.
    """
    root = Path(__file__).parents[1] if root is None else root
    script = root / "benchmarks" / SCRIPTS[part]
    if not script.is_file() or not (root / "tests" / "support" / "slow_bucket").is_dir():
        raise UsageError(
            f"bench {part} runs benchmarks/{SCRIPTS[part]} and the bucket of tests/support, and this installation has "
            "neither; run it in a checkout of interscan, after make install"
        )
    return script


def _run(script: Path, arguments: list[str]) -> dict[str, Any]:
    """The script's result; its table goes to stderr as it comes.

    Raises:
        UsageError: the script failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{script.stem}", *arguments]
    with subprocess.Popen(command, cwd=script.parents[1], stdout=subprocess.PIPE, text=True) as running:
        try:
            printed, _ = running.communicate()
        except KeyboardInterrupt:
            # It has processes of its own, which it ends when it is interrupted and not when it is killed.
            running.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(_END_SECONDS)
            running.kill()
            raise
    if running.returncode != 0:
        raise UsageError(f"benchmarks/{script.name} ended with {running.returncode}; its own message is above")
    result: dict[str, Any] = jsonlib.loads(printed)
    return result
