"""MosaicML Streaming: MDS shards in a local folder, DataLoader with two workers.

Its gs:// client takes no endpoint, and what its s3:// client fetched in ranges from the emulator it could not decode;
so it reads local files, which is kinder.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.peers.job import Job, main

# The package imports torchvision, whose published build is for CUDA and on a CPU build of torch stops at
# these operators. Naming them lets the import pass; volumes need none of torchvision.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from streaming import MDSWriter, StreamingDataset  # noqa: E402 - see above
from streaming.base.util import clean_stale_shared_memory  # noqa: E402

_WORKERS = 2


def write(npy_folder: Path, out: Path) -> None:
    """Shards of the writer's default size, 64 MB."""
    with MDSWriter(out=str(out), columns={"volume": "ndarray"}) as writer:
        for path in sorted(npy_folder.glob("*.npy")):
            writer.write({"volume": np.load(path)})


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches of the loader."""
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(Path(job.local) / "mosaic"), shuffle=False, batch_size=job.batch)
    return _read(DataLoader(dataset, batch_size=job.batch, num_workers=_WORKERS))


def _read(loader: DataLoader[dict[str, torch.Tensor]]) -> Iterator[torch.Tensor]:
    for batch in loader:
        yield batch["volume"]


if __name__ == "__main__":
    main(open_batches, write)
