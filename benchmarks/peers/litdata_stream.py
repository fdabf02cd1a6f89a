"""LitData: `optimize`d chunks of 64 MB from local files, StreamingDataLoader with two workers.

Its gs:// wants credentials that can be renewed and its s3:// refuses plain HTTP, so it cannot read the slow bucket.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import litdata
import numpy as np
import torch

from benchmarks.peers.job import Job, main

_WORKERS = 2


def _load(path: str) -> torch.Tensor:
    return torch.from_numpy(np.load(path))


def write(npy_folder: Path, out: Path) -> None:
    """Chunks of the size that LitData advises."""
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out) + "-work"
    paths = [str(path) for path in sorted(npy_folder.glob("*.npy"))]
    litdata.optimize(fn=_load, inputs=paths, output_dir=str(out), chunk_bytes="64MB", num_workers=1)
    shutil.rmtree(str(out) + "-work", ignore_errors=True)


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches of the loader, from local files: kinder than the bucket."""
    dataset = litdata.StreamingDataset(str(Path(job.local) / "litdata"))
    return _read(litdata.StreamingDataLoader(dataset, batch_size=job.batch, num_workers=_WORKERS))


def _read(loader: litdata.StreamingDataLoader) -> Iterator[torch.Tensor]:
    yield from loader


if __name__ == "__main__":
    main(open_batches, write)
