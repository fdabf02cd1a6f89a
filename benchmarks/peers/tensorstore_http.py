"""tensorstore's zarr3 driver over plain HTTP: a batch of futures read ahead of the one that is waited for."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import tensorstore
import torch

from benchmarks.peers.job import Job, main

_MODALITY = "T1w"


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches in the order of the job."""
    base_url = f"{job.endpoint}/{job.bucket}/store/volumes.zarr/{_MODALITY}/"
    context = tensorstore.Context({"http_request_concurrency": {"limit": job.in_flight}})
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": base_url}}, read=True, open=True, context=context
    ).result()
    return _read(array, job)


def _read(array: tensorstore.TensorStore, job: Job) -> Iterator[torch.Tensor]:
    upcoming = iter(job.batches_of_rows())
    ahead: deque[list[tensorstore.Future]] = deque()
    num_ahead = max(2, 2 * job.in_flight // job.batch)
    while True:
        for rows in upcoming:
            ahead.append([array[row].read() for row in rows])
            if len(ahead) >= num_ahead:
                break
        if not ahead:
            return
        yield torch.from_numpy(np.stack([future.result() for future in ahead.popleft()]))


if __name__ == "__main__":
    main(open_batches)
