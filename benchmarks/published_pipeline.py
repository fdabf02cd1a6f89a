"""The published pipeline, rebuilt from its description, against interscan: volumes a second from bucket to weights.

python benchmarks/published_pipeline.py [--quick] [--scans 16] [--latency-ms 30] [--threads 2] [--out FILE]

Published: one float32 .pt of 176 x 256 x 256 a scan (46 MB) in the bucket, fetched and loaded one at a time, trilinear
to 96^3, reference encoder, eager float32, batches of 8. Ours: the store made of the same scans, read ahead, default
encoder at the trainer's precision. Both train on the same scans, once with loopback bandwidth and once with the bucket
limited to 100 MB/s; they take turns. Ours reads its cohort several times over, as 16 scans are gone in a tenth of a
second; nothing is kept in memory between.
"""

import argparse
import io
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch.nn import functional

from benchmarks.cohort import MODALITY, recipe_of, upload, write_cohort
from benchmarks.peers.training_from_bucket import Trainer
from benchmarks.running import finish, machine
from preprocess.store import Store
from tests.support.slow_bucket.client import SlowBucket, slow_bucket
from trainer.data.stream import StreamOptions, VolumeStream

BUCKET = "published"
_BATCH = 8
_SHAPE = (176, 256, 256)
_PASSES = 16
_LIMITED_BYTES_PER_S = 100e6


def put_full_resolution(
    slow: SlowBucket, store: Store, shape: tuple[int, int, int], *, num_scans: int | None = None
) -> None:
    """The same scans as the published pipeline keeps them: resampled to full resolution, float32, one .pt each."""
    for row in range(store.manifest.num_rows if num_scans is None else num_scans):
        volume_1CDHW = torch.from_numpy(store.read(row, MODALITY))[None].float().div_(255)
        full = functional.interpolate(volume_1CDHW, size=shape, mode="trilinear")[0].clone()
        data = io.BytesIO()
        torch.save(full, data)
        slow.put(BUCKET, f"full/{row:06d}.pt", data.getvalue())


def published_batches(slow: SlowBucket, num_scans: int, edge: int) -> Iterator[torch.Tensor]:
    """Fetched, loaded and resized one at a time."""
    fs = fsspec.filesystem("gs", **slow.options)
    for start in range(0, num_scans, _BATCH):
        loaded = []
        for row in range(start, min(start + _BATCH, num_scans)):
            full = torch.load(io.BytesIO(fs.cat_file(f"{BUCKET}/full/{row:06d}.pt")), weights_only=True)
            loaded.append(functional.interpolate(full[None], size=(edge,) * 3, mode="trilinear")[0])
        # The trainer divides by 255, as ours are stored in whole numbers.
        yield torch.stack(loaded).mul_(255)


def train_ours(store: Store, trainer: Trainer, passes: int, in_flight: int) -> float:
    """Seconds for so many passes, the start of the stream included in each."""
    rows = np.arange(store.manifest.num_rows)
    plan = [rows[start : start + _BATCH] for start in range(0, rows.size, _BATCH)] * passes
    with VolumeStream(store, MODALITY, plan, StreamOptions(in_flight=in_flight, reuse=True)) as stream:
        return trainer.train(stream)


def compare(slow: SlowBucket, store: Store, options: argparse.Namespace) -> dict[str, Any]:
    """Volumes a second of both, medians over rounds, and their ratio."""
    ours, published = Trainer("fast"), Trainer("reference")
    rates: dict[str, list[float]] = {"ours": [], "published": []}
    train_ours(store, ours, 1, options.in_flight)
    published.train(published_batches(slow, min(2, options.scans), options.edge))
    for _ in range(options.rounds):
        seconds = train_ours(store, ours, options.passes, options.in_flight)
        rates["ours"].append(options.scans * options.passes / seconds)
        seconds = published.train(published_batches(slow, options.scans, options.edge))
        rates["published"].append(options.scans / seconds)
    return {
        "volumes_per_s": statistics.median(rates["ours"]),
        "published_volumes_per_s": statistics.median(rates["published"]),
        "ratio": statistics.median(o / p for o, p in zip(rates["ours"], rates["published"], strict=True)),
        "rounds": rates,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 scans of 24^3 made from 44 x 64 x 64, one round")
    parser.add_argument("--scans", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    options.edge, options.passes, shape = 96, _PASSES, _SHAPE
    if options.quick:
        options.edge, options.scans, options.rounds, options.passes, shape = 24, 4, 1, 2, (44, 64, 64)
    torch.set_num_threads(options.threads)
    before = machine(torch.__version__)
    with tempfile.TemporaryDirectory() as temporary, slow_bucket() as slow:
        write_cohort(Path(temporary), options.scans, options.edge)
        slow.create(BUCKET)
        upload(slow, BUCKET, Path(temporary), "store")
        store = Store.open(f"gs://{BUCKET}/store", slow.options)
        store.require_fingerprint(recipe_of(options.edge).fingerprint())
        put_full_resolution(slow, store, shape)
        slow.set_speed(latency_s=options.latency_ms / 1000)
        result: dict[str, Any] = {"loopback": compare(slow, store, options)}
        slow.set_speed(bandwidth_bytes_per_s=_LIMITED_BYTES_PER_S)
        result["limited_to_100_mb_per_s"] = compare(slow, store, options)
    result["settings"] = {
        key: getattr(options, key)
        for key in ("scans", "rounds", "latency_ms", "in_flight", "threads", "edge", "passes")
    } | {"full_shape": shape, "batch": _BATCH}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    lines = [
        f"{name}: {case['volumes_per_s']:.1f} against {case['published_volumes_per_s']:.2f} volumes/s "
        f"({case['ratio']:.1f}x)"
        for name, case in result.items()
        if "ratio" in case
    ]
    finish(result, "\n".join(lines), options.out)


if __name__ == "__main__":
    main()
