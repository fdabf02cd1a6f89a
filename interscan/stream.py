"""The stream of a store's volumes for a training loop of one's own: batches checked before anything is read."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from preprocess.errors import UsageError
from preprocess.store import Store
from trainer.data import stream

Rows = npt.NDArray[np.int64]
RowNumbers = npt.ArrayLike | torch.Tensor


class VolumeStream(stream.VolumeStream):
    """Iterates over batches of volumes in the order given, reading ahead in one process within a memory budget.

        with VolumeStream(store, "T1w", [[0, 1], [2, 3]]) as batches:
            for volumes_BCDHW in batches:
                train_step(volumes_BCDHW.float() / 255)

    Give one stream the batches of all epochs, and it reads ahead over the end of an epoch too. Leaving the block gives
    up what was not yet handed over.

    Args:
        store: from `open_store`.
        modality: which array of the store, for example `T1w`.
        batches: row numbers of each batch, shape (B,) or (B, K), as `store.records` has them; in the order to be read.
        in_flight: most requests at once.
        pin_memory: allocate batches in pinned memory, for copies to a GPU beside computation.
        budget_bytes: most bytes that batches read ahead may hold; a quarter of the available memory when not given.
        reuse: hand out the same memory again; a batch is then valid only until the next one is requested.
        max_left_out: samples with a missing or damaged volume that may be left out before the stream fails. `kept`
            then tells which samples of the batch are there, or is None when all are.

    Iterating gives tensors in the stored dtype (uint8 holds [0, 1] as 0 to 255), shape (B, C, D, H, W) or
    (B, K, C, D, H, W), axes RAS+.

    Raises:
        UsageError: no store, a batch without row numbers, a row that the store does not hold, a number out of range,
            or a budget too small for two batches.
        StoreError: the store has no such modality; while iterating: a row is missing or damaged, named.
        StorageError: the bucket refuses.
    """

    def __init__(
        self,
        store: Store,
        modality: str,
        batches: Iterable[RowNumbers],
        *,
        in_flight: int = 64,
        pin_memory: bool = False,
        budget_bytes: int | None = None,
        reuse: bool = False,
        max_left_out: int = 0,
    ) -> None:
        if not isinstance(store, Store):
            raise UsageError(f"store is of type {type(store).__name__}; give what open_store returns")
        store.layout(modality)
        for name, value, least in (("in_flight", in_flight, 1), ("max_left_out", max_left_out, 0)):
            if value < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}")
        super().__init__(
            store,
            modality,
            _checked(store, modality, batches),
            stream.StreamOptions(
                in_flight=in_flight,
                pin_memory=pin_memory,
                budget_bytes=budget_bytes,
                reuse=reuse,
                max_left_out=max_left_out,
            ),
        )


def _checked(store: Store, modality: str, batches: Iterable[RowNumbers]) -> Sequence[Rows]:
    """The batches as arrays of rows that the store holds."""
    records = {record.row: record for record in store.records if record.modality == modality}
    held = np.array(sorted(row for row, record in records.items() if record.present), dtype=np.int64)
    arrays = []
    for number, batch in enumerate(batches):
        rows = _whole_numbers(batch, f"batches[{number}]")
        strange = np.setdiff1d(rows, held)
        if strange.size:
            row = int(strange[0])
            findings = records[row].findings if row in records else ()
            why = next((f", it was left out: {one.message}" for one in findings if one.leaves_out), "")
            raise UsageError(
                f"batches[{number}]: no row {row} among the {len(held)} rows of {modality} in {store.location.uri}{why}"
                "; take rows of records in store.records whose present is true"
            )
        arrays.append(rows)
    return arrays


def _whole_numbers(batch: RowNumbers, name: str) -> Rows:
    try:
        rows = np.asarray(batch)
    except ValueError as error:  # lists of different lengths
        raise UsageError(f"{name} is no array of row numbers: {error}; give every sample equally many rows") from error
    if rows.ndim not in (1, 2) or rows.size == 0 or rows.dtype.kind not in "iu":
        raise UsageError(
            f"{name} has shape {rows.shape} and dtype {rows.dtype}; give row numbers (whole numbers) of shape (B,), or "
            "(B, K) for K volumes a sample, at least one"
        )
    return rows.astype(np.int64)
