"""MONAI's DataLoader with two workers on .npy objects read through fsspec."""

import io
from collections.abc import Iterator

import fsspec
import numpy as np
import torch
from monai.data import DataLoader, Dataset

from benchmarks.peers.job import Job, main

_WORKERS = 2


class Fetch:
    """A transform from object name to tensor; the file system is made in the worker that uses it.

    Args:
        job: where the objects are.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, row: int) -> torch.Tensor:
        fs = fsspec.filesystem("gs", **self._job.gs_options)
        data = fs.cat_file(f"{self._job.bucket}/npy/{row:06d}.npy")
        return torch.from_numpy(np.load(io.BytesIO(data)))


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches of the loader."""
    rows = [row for batch in job.batches_of_rows() for row in batch]
    loader = DataLoader(Dataset(rows, Fetch(job)), batch_size=job.batch, num_workers=_WORKERS, persistent_workers=True)
    return _read(loader)


def _read(loader: DataLoader) -> Iterator[torch.Tensor]:
    for batch in loader:
        yield batch.as_subclass(torch.Tensor)


if __name__ == "__main__":
    main(open_batches)
