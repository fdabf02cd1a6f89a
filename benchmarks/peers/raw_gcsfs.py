"""Raw concurrent gcsfs reads of the stored objects: no decoding, no batches, connections already open."""

import asyncio
from collections.abc import Iterator

import fsspec
import fsspec.asyn
import torch

from benchmarks.peers.job import Job, main
from benchmarks.peers.ours import MODALITY
from preprocess.store import Store


def open_batches(job: Job) -> Iterator[torch.Tensor]:
    """All objects at once; what is yielded afterwards only has the shape that is counted."""
    store = Store.open(f"gs://{job.bucket}/store", job.gs_options)
    fs = store.location.fs
    paths = [store.location.key(store.layout(MODALITY).key(row)) for rows in job.batches_of_rows() for row in rows]
    fsspec.asyn.sync(fs.loop, _read, fs, paths[: job.in_flight], job.in_flight)
    return _all(job, fs, paths)


def _all(job: Job, fs: fsspec.AbstractFileSystem, paths: list[str]) -> Iterator[torch.Tensor]:
    fsspec.asyn.sync(fs.loop, _read, fs, paths, job.in_flight)
    yield torch.ones(1, dtype=torch.uint8).expand(len(paths), 1, job.edge, job.edge, job.edge)


async def _read(fs: fsspec.AbstractFileSystem, paths: list[str], in_flight: int) -> None:
    gate = asyncio.Semaphore(in_flight)

    async def one(path: str) -> None:
        async with gate:
            assert len(await fs._cat_file(path)) > 0

    await asyncio.gather(*map(one, paths))


if __name__ == "__main__":
    main(open_batches)
