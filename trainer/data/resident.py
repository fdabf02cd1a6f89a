"""A stream of planned batches that are on the training device already, or come and stay there.

What a run sees is what `VolumeStream` would have handed over, on the device: rows that are there are gathered,
and only the others are requested and read ahead. Before it is decided whether the cohort stays
(`trainer.data.device_rows`), everything is read.
"""

from collections.abc import Iterator, Sequence

import torch

from preprocess.store import Store
from trainer.data.cohort import Rows
from trainer.data.device_rows import DeviceCohort
from trainer.data.reader import VolumeReader
from trainer.data.stream import Stream, StreamCounts, StreamOptions, VolumeStream


class DeviceStream(Stream):
    """Hands over batches on the training device; see `open_stream`, which makes it.

    Args:
        cohort: what is kept, or will be.
        modality: which array.
        batches: rows of each batch, of any shape; the plan, in order.
        requested: the rows of each batch that have to be read; all of them, in the batch's shape, as long as nothing is
            kept.
        arriving: reads those, without batches that need none; None where nothing has to be read.
        is_training: whether a training step follows each batch.
    """

    def __init__(
        self,
        cohort: DeviceCohort,
        modality: str,
        batches: Sequence[Rows],
        requested: Sequence[Rows],
        arriving: VolumeStream | None,
        *,
        is_training: bool,
    ) -> None:
        self._cohort = cohort
        self._modality = modality
        self._rows = cohort.rows[modality]
        self._batches = batches
        self._requested = requested
        self._arriving = arriving
        self._is_training = is_training
        self.counts = StreamCounts() if arriving is None else arriving.counts

    def close(self) -> None:
        """Give up what is still to be read."""
        if self._arriving is not None:
            self._arriving.close()

    def __iter__(self) -> Iterator[torch.Tensor]:
        arriving = iter(self._arriving or ())
        largest = max((rows.size for rows in self._batches), default=0)
        for rows, requested in zip(self._batches, self._requested, strict=True):
            arrived = next(arriving, None) if requested.size else self._rows.empty(requested)
            if arrived is None:  # closed
                return
            yield self._hand_over(rows, requested, arrived)
            if self._is_training:
                self._cohort.stepped(self._modality, rows.size, largest)

    def _hand_over(self, rows: Rows, requested: Rows, arrived: torch.Tensor) -> torch.Tensor:
        if self._rows.is_there:
            self._rows.put(requested, arrived)
            num_hits = rows.size - requested.size
            self.counts.volumes += num_hits
            self.counts.reads.add(device_hits=num_hits)
            return self._rows.gather(rows)
        if self._cohort.is_settled:
            return arrived
        # A copy on every device: the memory that the batch arrived in is used again for a later one.
        held = arrived.to(self._cohort.device, non_blocking=True, copy=True)
        self._rows.hold(requested, held.clone())
        return held


def open_stream(
    store: Store,
    modality: str,
    batches: Sequence[Rows],
    options: StreamOptions = StreamOptions(),  # noqa: B008 - immutable
    *,
    reader: VolumeReader | None = None,
    is_training: bool = False,
) -> Stream:
    """A stream of batches, on the device where the reader's cohort is kept or may be.

    Where samples may be left out nothing is ever kept on the device (`trainer.fit.supply`), as a batch's samples are
    then known only when it has been read.

    Args:
        store: where the volumes are.
        modality: which array.
        batches: rows of each batch; the plan, in order.
        options: how it reads ahead.
        reader: knows what is kept, in memory and on the device.
        is_training: whether a training step follows each batch; the first ones decide what is kept.
    """

    def read(planned: Sequence[Rows]) -> VolumeStream:
        return VolumeStream(store, modality, planned, options, reader=reader)

    cohort = None if reader is None else reader.on_device
    if cohort is None or not (cohort.is_there or (is_training and not cohort.is_settled)):
        return read(batches)
    rows = cohort.rows[modality]
    requested = rows.missing(batches) if rows.is_there else list(batches)
    if rows.is_there and not rows.has_room_for(requested):
        return read(batches)
    arriving = [one for one in requested if one.size]
    return DeviceStream(
        cohort, modality, batches, requested, read(arriving) if arriving else None, is_training=is_training
    )
