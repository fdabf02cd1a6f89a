"""The published way: `array[i]` through zarr and gcsfs, one volume after the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import zarr

from benchmarks.peers.job import Job, main
from benchmarks.peers.ours import MODALITY


def open_array(job: Job) -> zarr.Array[Any]:
    """The volumes as zarr opens them."""
    return zarr.open_array(f"gs://{job.bucket}/store/volumes.zarr/{MODALITY}", mode="r", storage_options=job.gs_options)


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches of single reads."""
    array = open_array(job)
    return (torch.from_numpy(np.stack([array[row] for row in rows])) for rows in job.batches_of_rows())


if __name__ == "__main__":
    main(open_batches)
