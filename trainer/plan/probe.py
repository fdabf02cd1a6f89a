"""Reads a few rows of a store one after another and times them: the only part of a plan that reads volumes."""

import time
from dataclasses import dataclass

import numpy as np

from preprocess.store import Store
from trainer.data.cohort import Rows

PROBE_ROWS = 8
"""Enough for a mean and its spread; on a bucket less than a second, and a hundredth of a cent."""


@dataclass(frozen=True)
class Probe:
    """What reading a few rows showed.

    Attributes:
        latency_s: seconds that each read took, from the request to its last byte.
        fetch_cpu_s: processor time of this process in each read, decoding not included.
        num_bytes: stored size of each.
        decode_s: checking and unpacking each, on one thread.
        is_async: whether the file system takes many requests at once, rather than one a thread.
        protocol: protocol of the store's URL, for example `gs`; `file` for local paths.
    """

    latency_s: tuple[float, ...]
    fetch_cpu_s: tuple[float, ...]
    num_bytes: tuple[int, ...]
    decode_s: tuple[float, ...]
    is_async: bool
    protocol: str

    @property
    def bytes_per_volume(self) -> float:
        """Mean stored size."""
        return float(np.mean(self.num_bytes))

    @property
    def typical_decode_s(self) -> float:
        """Median time to unpack one: the first is slowed by loading the codec."""
        return float(np.median(self.decode_s))

    @property
    def typical_fetch_cpu_s(self) -> float:
        """Median processor time to fetch one: the first is slowed by opening a connection."""
        return float(np.median(self.fetch_cpu_s))


def probe_rows(store: Store, modality: str, rows_N: Rows, *, most: int = PROBE_ROWS) -> Probe:
    """Read rows spread evenly over those given.

    Args:
        store: where they are.
        modality: which array.
        rows_N: rows that training will read; at least one.
        most: most rows to read.

    Raises:
        StoreError: a row is missing or damaged; the message names it.
        StorageError: the bucket refuses.
    """
    layout = store.layout(modality)
    indices = np.unique(np.linspace(0, len(rows_N) - 1, min(most, len(rows_N))).round().astype(np.int64))
    latency_s, fetch_cpu_s, num_bytes, decode_s = [], [], [], []
    for row in rows_N[indices].tolist():
        with store.naming(row, modality):
            began, busy = time.perf_counter(), time.process_time()
            data = store.location.read(layout.key(row))
            arrived = time.perf_counter()
            fetch_cpu_s.append(time.process_time() - busy)
            layout.decode(data)
            decode_s.append(time.perf_counter() - arrived)
        latency_s.append(arrived - began)
        num_bytes.append(len(data))
    protocol, separator, _ = store.location.uri.partition("://")
    return Probe(
        latency_s=tuple(latency_s),
        fetch_cpu_s=tuple(fetch_cpu_s),
        num_bytes=tuple(num_bytes),
        decode_s=tuple(decode_s),
        is_async=bool(store.location.fs.async_impl),
        protocol=protocol if separator else "file",
    )
