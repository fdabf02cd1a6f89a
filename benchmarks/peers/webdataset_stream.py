"""WebDataset: tar shards of .npy members over plain HTTP (`pipe:curl`), two workers, batched in the pipeline."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import webdataset

from benchmarks.peers.job import Job, main

_WORKERS = 2
_PER_SHARD = 64
"""56 MB a shard of 96^3 uint8; WebDataset's documentation advises shards of some tens of MB upwards."""


def write(npy_folder: Path, out: Path) -> None:
    """Tar shards."""
    out.mkdir(parents=True)
    with webdataset.ShardWriter(str(out / "shard-%06d.tar"), maxcount=_PER_SHARD, verbose=0) as writer:
        for path in sorted(npy_folder.glob("*.npy")):
            writer.write({"__key__": path.stem, "npy": path.read_bytes()})


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """Batches of the loader; shards in order, over and over."""
    shards = sorted(path.name for path in (Path(job.local) / "webdataset").glob("*.tar"))
    urls = [f"pipe:curl -s -f {job.endpoint}/{job.bucket}/webdataset/{name}" for name in shards]
    dataset = (
        webdataset.WebDataset(urls * -(-job.volumes // job.num_rows), shardshuffle=False, empty_check=False)
        .decode()
        .to_tuple("npy")
        .batched(job.batch, collation_fn=_stack)
    )
    return _read(webdataset.WebLoader(dataset, batch_size=None, num_workers=_WORKERS, prefetch_factor=4))


def _stack(samples: list[tuple[np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample[0] for sample in samples]))


def _read(loader: webdataset.WebLoader) -> Iterator[torch.Tensor]:
    yield from loader


if __name__ == "__main__":
    main(open_batches, write)
