"""Embeddings of a store's rows, by one process or by a cluster; batches are the same, and so are the bits."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from app.registry import LoadedModel, load_artefact
from preprocess.cluster import Cluster
from preprocess.storage import Location, Options
from preprocess.store import Store
from preprocess.types import FloatArray

_MAX_READERS = 16
"""A bucket answers in about 50 ms: one reader would wait most of the time."""
_BATCHES_PER_TASK = 32


def embed_rows(
    model: LoadedModel,
    store: Store,
    rows: Sequence[int],
    batch_size: int,
    progress: Callable[[int, int], None],
) -> FloatArray:
    """Embed rows in this process.

    Args:
        model: loaded and checked.
        store: made with the preprocessing of the model.
        rows: those of the model's modality, in the order of the result.
        batch_size: scans in one forward pass.
        progress: called with rows done and rows in all.

    Returns:
        float32, shape (N, E).
    """
    batches: list[FloatArray] = []
    for volumes in _read_ahead(store, rows, model.manifest.inputs.modality, batch_size):
        batches.append(model.engine.embed(volumes))
        progress(sum(map(len, batches)), len(rows))
    return np.concatenate(batches)


def embed_on(
    cluster: Cluster,
    artefact: str,
    store: Store,
    rows: Sequence[int],
    batch_size: int,
    progress: Callable[[int, int], None],
) -> FloatArray:
    """Embed rows on a cluster; arguments and result as in `embed_rows`, with the artefact's URL for each machine."""
    cluster.require_reach(store.location, Location(artefact))
    step = batch_size * _BATCHES_PER_TASK
    pieces = [rows[start : start + step] for start in range(0, len(rows), step)]
    location = (store.location.uri, store.location.options)
    found: dict[int, FloatArray] = {}
    for number, embeddings in cluster.map(_embed_some, [(artefact, *location, piece, batch_size) for piece in pieces]):
        found[number] = embeddings
        progress(sum(map(len, found.values())), len(rows))
    return np.concatenate([found[number] for number in range(len(pieces))])


def _embed_some(artefact: str, uri: str, options: Options, rows: Sequence[int], batch_size: int) -> FloatArray:
    """The rows of one task, on whatever machine."""
    return embed_rows(_loaded(artefact), Store.open(Location(uri, options)), rows, batch_size, lambda *_: None)


@cache
def _loaded(artefact: str) -> LoadedModel:
    """The model, loaded once in each worker."""
    return load_artefact(artefact)


def _read_ahead(store: Store, rows: Sequence[int], modality: str, batch_size: int) -> Iterator[np.ndarray]:
    """Batches (B, ...) of rows in order; the next one is fetched while the caller works on this one."""
    with ThreadPoolExecutor(min(batch_size, _MAX_READERS)) as pool:

        def fetch(start: int) -> Iterator[np.ndarray]:
            return pool.map(lambda row: store.read(row, modality), rows[start : start + batch_size])

        ahead = fetch(0)
        for start in range(0, len(rows), batch_size):
            volumes = np.stack(list(ahead))
            ahead = fetch(start + batch_size)
            yield volumes
