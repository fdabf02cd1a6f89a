"""Training-step time per volume of the encoders, all cases in one run, turn by turn; prints JSON.

python benchmarks/encoder_step.py [--rounds 8] [--edge 96] [--batch 16] [--threads 2]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from trainer.encoders import Encoder, build_encoder
from trainer.encoders.conv3d import BlockStem, FastEncoder


@dataclass(frozen=True)
class Case:
    """One way to train: the encoder, whether bf16 autocast is on, and whether memory is channels-last."""

    build: Callable[[], Encoder]
    bf16: bool
    channels_last: bool


def reference() -> Encoder:
    return build_encoder("reference", in_channels=1, embedding_width=256)


def fast() -> Encoder:
    return build_encoder("fast", in_channels=1, embedding_width=256)


def with_layer(layer_type: type[nn.Module], replace: Callable[[int], nn.Module]) -> Encoder:
    """A FastEncoder whose layers of one type are exchanged; `replace` is given the width where there is one."""
    encoder = FastEncoder()
    layers = encoder.features
    assert isinstance(layers, nn.Sequential)
    for index, layer in enumerate(layers):
        if isinstance(layer, layer_type):
            layers[index] = replace(getattr(layer, "num_features", 32))
    return encoder


def plain_stem() -> Encoder:
    return with_layer(BlockStem, lambda width: nn.Conv3d(1, width, 4, stride=4, bias=False))


def group_norm() -> Encoder:
    return with_layer(nn.BatchNorm3d, lambda width: nn.GroupNorm(8, width))


def no_norm() -> Encoder:
    return with_layer(nn.BatchNorm3d, lambda _: nn.Identity())


CASES = {
    "reference float32 eager": Case(reference, bf16=False, channels_last=False),
    "reference bf16 channels-last": Case(reference, bf16=True, channels_last=True),
    "fast float32": Case(fast, bf16=False, channels_last=False),
    "fast bf16": Case(fast, bf16=True, channels_last=False),
    "fast bf16 channels-last": Case(fast, bf16=True, channels_last=True),
    "fast bf16 channels-last, plain Conv3d stem": Case(plain_stem, bf16=True, channels_last=True),
    "fast bf16 channels-last, GroupNorm": Case(group_norm, bf16=True, channels_last=True),
    "fast bf16 channels-last, no normalisation": Case(no_norm, bf16=True, channels_last=True),
}


def stepper(case: Case, volumes: torch.Tensor) -> tuple[Callable[[], None], int]:
    """A function that makes one training step, and the number of parameters it trains."""
    torch.manual_seed(0)
    encoder = case.build()
    if case.channels_last:
        encoder = encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
            embeddings = encoder(volumes)
        embeddings.float().square().mean().backward()
        optimiser.step()

    return step, sum(parameter.numel() for parameter in encoder.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    volumes = torch.rand(options.batch, 1, *[options.edge] * 3, generator=torch.Generator().manual_seed(0))
    steppers = {name: stepper(case, volumes) for name, case in CASES.items()}
    elapsed_s: dict[str, list[float]] = {name: [] for name in CASES}
    for round_index in range(options.rounds + 1):  # the first round warms up
        for name, (step, _) in steppers.items():
            start_s = time.perf_counter()
            step()
            if round_index:
                elapsed_s[name].append(time.perf_counter() - start_s)
    report = {
        "machine": {"cpu": platform.machine(), "threads": options.threads, "torch": torch.__version__},
        "edge": options.edge,
        "batch": options.batch,
        "rounds": options.rounds,
        "ms_per_volume": {
            name: {
                "median": round(statistics.median(times) * 1000 / options.batch, 2),
                "least": round(min(times) * 1000 / options.batch, 2),
                "parameters": steppers[name][1],
            }
            for name, times in elapsed_s.items()
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
