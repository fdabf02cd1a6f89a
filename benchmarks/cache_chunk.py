"""Peak memory of one training step on a large in-batch contrast, plain and with cached gradients; prints JSON.

Each case is a process of its own, so that its peak is its own. `step_mb` is the peak less what the process held before
the batch was made; the stored bytes of the batch are in it and stated beside it.

python benchmarks/cache_chunk.py [--edge 96] [--pairs 256] [--small 16] [--chunk 16] [--encoder fast] [--threads 2]
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from trainer.data.augment import Augment
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.model import scan_model
from trainer.fit.optim import build_optimiser, build_schedule
from trainer.fit.precision import choose_compute
from trainer.fit.step import Step, Views
from trainer.objectives.clinimcl import InfoNce
from trainer.recipe import EncoderRecipe


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def step_once(options: argparse.Namespace, pairs: int, chunk: int) -> dict[str, Any]:
    """Build the networks, warm up on two pairs, then take one step and report its memory and time."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    compute = choose_compute("cpu", options.precision)
    recipe = EncoderRecipe(name=options.encoder, norm="group")
    model = scan_model(recipe, in_channels=1).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = build_optimiser(model, learning_rate=1e-4, weight_decay=1e-4)
    step = Step(
        model,
        [InfoNce(weight=1.0, temperature=0.07)],
        optimiser=optimiser,
        schedule=build_schedule(optimiser, phases=[(10, 1.0)], warmup_fraction=0.0),
        compute=compute,
        cache_chunk=chunk,
    )

    def batch(count: int) -> tuple[Views, Labels]:
        voxels = torch.empty((2 * count, 1, *[options.edge] * 3), dtype=torch.uint8).random_(0, 256)
        draws = Augment(0.5, 2, 0.1, 0.0).draw(2 * count, voxels[0].numel(), seed=0, epoch=0, batch=0)
        unknown = torch.full((count, 2), float("nan"))
        return Views(VisitBatch.of_scans("T1w", voxels, 1 / 255), compute, {"T1w": draws}), Labels(
            unknown, torch.arange(count), unknown
        )

    step.gradients(*batch(2))
    step.update()
    before_mb = peak_mb()
    views, labels = batch(pairs)
    began_s = time.perf_counter()
    loss, _ = step.gradients(views, labels)
    step.update()
    return {
        "pairs": pairs,
        "cache_chunk": chunk,
        "peak_rss_mb": round(peak_mb()),
        "step_mb": round(peak_mb() - before_mb),
        "stored_batch_mb": round(views.batch.stored["T1w"].nbytes / 1e6),
        "ms_per_volume": round((time.perf_counter() - began_s) * 1000 / len(views), 2),
        "loss": loss,
    }


def in_child(arguments: list[str], pairs: int, chunk: int) -> dict[str, Any]:
    """One case in a fresh process; its result, or that it ran out of memory."""
    command = [sys.executable, __file__, *arguments, "--case", str(pairs), str(chunk)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        return {"pairs": pairs, "cache_chunk": chunk, "failed": ended.returncode}
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--small", type=int, default=16)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--encoder", choices=["fast", "reference"], default="fast")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(step_once(options, *options.case)))
        return
    arguments = sys.argv[1:]
    cases = {
        "small_plain": in_child(arguments, options.small, 0),
        "large_plain": in_child(arguments, options.pairs, 0),
        "large_cached": in_child(arguments, options.pairs, options.chunk),
    }
    report: dict[str, Any] = {
        "machine": {"cpu": platform.machine(), "threads": options.threads, "torch": torch.__version__},
        "edge": options.edge,
        "encoder": options.encoder,
        "precision": options.precision,
        "cases": cases,
    }
    small, cached = cases["small_plain"], cases["large_cached"]
    if "failed" not in small and "failed" not in cached:
        report["cached_over_small_peak"] = round(cached["peak_rss_mb"] / small["peak_rss_mb"], 2)
        without_batch = [one["step_mb"] - one["stored_batch_mb"] for one in (cached, small)]
        report["cached_over_small_step_without_stored_batch"] = round(without_batch[0] / max(without_batch[1], 1), 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
