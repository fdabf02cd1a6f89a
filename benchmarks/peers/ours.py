"""interscan's VolumeStream on a store in the bucket."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.peers.job import Job, main
from preprocess.store import Store
from trainer.data.stream import StreamOptions, VolumeStream

MODALITY = "T1w"


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches in the order of the job."""
    return read_all(Store.open(f"gs://{job.bucket}/store", job.gs_options), job)


def read_all(store: Store, job: Job) -> Iterator[torch.Tensor]:
    """The same from a store that is open."""
    return _read(store, [np.array(rows) for rows in job.batches_of_rows()], job.in_flight)


def _read(store: Store, plan: list[np.ndarray], in_flight: int) -> Iterator[torch.Tensor]:
    with VolumeStream(store, MODALITY, plan, StreamOptions(in_flight=in_flight, reuse=True)) as stream:
        yield from stream


if __name__ == "__main__":
    main(open_batches)
