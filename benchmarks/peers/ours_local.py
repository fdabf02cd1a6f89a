"""interscan's VolumeStream on the same store in a local folder, beside peers that read local files."""

from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.peers.job import Job, main
from benchmarks.peers.ours import read_all
from preprocess.store import Store


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches in the order of the job."""
    return read_all(Store.open(str(Path(job.local) / "store")), job)


if __name__ == "__main__":
    main(open_batches)
