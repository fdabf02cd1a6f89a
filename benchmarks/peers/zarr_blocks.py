"""`array[i:i+64]` through zarr and gcsfs: concurrent within a block, nothing between two blocks."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import zarr

from benchmarks.peers.job import Job, main
from benchmarks.peers.zarr_one_by_one import open_array

_BLOCK = 64


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Blocks of neighbouring rows."""
    zarr.config.set({"async.concurrency": job.in_flight})
    array = open_array(job)
    # A block must not run over the end of the cohort, or its rows would not be neighbours.
    blocks = replace(job, batch=min(_BLOCK, job.num_rows)).batches_of_rows()
    return (torch.from_numpy(array[rows[0] : rows[-1] + 1]) for rows in blocks)


if __name__ == "__main__":
    main(open_batches)
