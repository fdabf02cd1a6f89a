"""Training step of the default encoder against the published one in eager float32, turn by turn; prints JSON.

python benchmarks/training_step.py [--quick] [--rounds 8] [--edge 96] [--batch 16] [--threads 2] [--out FILE]
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.encoder_step import CASES, stepper
from benchmarks.running import finish, machine
from trainer.fit.model import scan_model
from trainer.fit.precision import choose_compute
from trainer.fit.trial import settle
from trainer.recipe import EncoderRecipe

REFERENCE = "reference float32 eager"


def default_case(edge: int, batch: int) -> str:
    """How the trainer computes the default encoder on this machine: bfloat16 only where it is native, and right."""
    model = scan_model(EncoderRecipe(name="fast"), in_channels=1)
    compute = settle(choose_compute("cpu", "auto"), "auto", model, {"T1w": (1, edge, edge, edge)}, num_scans=batch)
    return "fast bf16 channels-last" if compute.dtype is torch.bfloat16 else "fast float32"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 2 at 32^3, one round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.edge, options.batch = 1, 32, 2
    torch.set_num_threads(options.threads)
    volumes = torch.rand(options.batch, 1, *[options.edge] * 3, generator=torch.Generator().manual_seed(0))
    case = default_case(options.edge, options.batch)
    steps = {name: stepper(CASES[name], volumes)[0] for name in (case, REFERENCE)}
    taken_ms: dict[str, list[float]] = {name: [] for name in steps}
    before = machine(torch.__version__)
    for turn in range(options.rounds + 1):  # the first warms up
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if turn:
                taken_ms[name].append(1000 * (time.perf_counter() - begun) / options.batch)
    ours, reference = taken_ms[case], taken_ms[REFERENCE]
    result = {
        "ms_per_volume": statistics.median(ours),
        "reference_ms_per_volume": statistics.median(reference),
        "speedup": statistics.median(r / o for r, o in zip(reference, ours, strict=True)),
        "least": {
            "ms_per_volume": min(ours),
            "reference_ms_per_volume": min(reference),
            "speedup": min(reference) / min(ours),
        },
        "case": case,
        "settings": {key: getattr(options, key) for key in ("rounds", "edge", "batch", "threads")},
        "machine": before | {"load_1_min_after": machine("")["load_1_min"]},
    }
    table = (
        f"{result['ms_per_volume']:.2f} against {result['reference_ms_per_volume']:.2f} ms a volume "
        f"({result['speedup']:.1f}x, median of {options.rounds})"
    )
    finish(result, table, options.out)


if __name__ == "__main__":
    main()
