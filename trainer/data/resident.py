"""A stream of planned batches that are on the training device already, or come and stay there.

What a run sees is what `VolumeStream` would have handed over, on the device: rows that are there are gathered, the
others are read ahead as ever, only they are asked for. Before it is decided whether the cohort stays
(`trainer.data.device_rows`), everything is read.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType

import torch

from preprocess.store import Store
from trainer.data.cohort import Rows
from trainer.data.device_rows import DeviceCohort
from trainer.data.reader import VolumeReader
from trainer.data.stream import StreamCounts, VolumeStream


class DeviceStream:
    """An iterator over batches on the training device; see `open_stream`, which makes it.

    Args:
        cohort: what is kept, or will be.
        modality: which array.
        batches: rows of each batch, of any shape; the plan, in order.
        asked: of each batch the rows that have to be read; all of them, in the batch's shape, as long as nothing is
            kept.
        arriving: reads those, without batches that need none; None where nothing has to be read.
        is_training: whether a training step follows each batch.
    """

    kept: None = None
    """No sample is ever left out of a batch; see `VolumeStream.kept`."""

    def __init__(
        self,
        cohort: DeviceCohort,
        modality: str,
        batches: Sequence[Rows],
        asked: Sequence[Rows],
        arriving: VolumeStream | None,
        *,
        is_training: bool,
    ) -> None:
        self._cohort = cohort
        self._modality = modality
        self._rows = cohort.rows[modality]
        self._batches = batches
        self._asked = asked
        self._arriving = arriving
        self._is_training = is_training
        self.counts = StreamCounts() if arriving is None else arriving.counts

    def __enter__(self) -> "DeviceStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._arriving is not None:
            self._arriving.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[torch.Tensor]:
        arriving = iter(self._arriving or ())
        largest = max((rows.size for rows in self._batches), default=0)
        for rows, asked in zip(self._batches, self._asked, strict=True):
            arrived = next(arriving, None) if asked.size else self._rows.empty(asked)
            if arrived is None:  # closed
                return
            yield self._hand_over(rows, asked, arrived)
            if self._is_training:
                self._cohort.stepped(self._modality, rows.size, largest)

    def _hand_over(self, rows: Rows, asked: Rows, arrived: torch.Tensor) -> torch.Tensor:
        if self._rows.is_there:
            self._rows.put(asked, arrived)
            num_hits = rows.size - asked.size
            self.counts.volumes += num_hits
            self.counts.reads.add(device_hits=num_hits)
            return self._rows.gather(rows)
        if self._cohort.is_settled:
            return arrived
        # A copy on every device: the memory that the batch arrived in is used again for a later one.
        held = arrived.to(self._cohort.device, non_blocking=True, copy=True)
        self._rows.hold(asked, held.clone())
        return held


Stream = VolumeStream | DeviceStream


def open_stream(
    store: Store,
    modality: str,
    batches: Sequence[Rows],
    *,
    in_flight: int = 64,
    pin_memory: bool = False,
    reader: VolumeReader | None = None,
    budget_bytes: int | None = None,
    reuse: bool = False,
    max_left_out: int = 0,
    is_training: bool = False,
) -> Stream:
    """A stream of batches, on the device where the reader's cohort is kept or may be; arguments as `VolumeStream`.

    Where samples may be left out nothing is ever kept on the device (`trainer.fit.supply`), as a batch's samples are
    then known only when it has been read.

    Args:
        store: where the volumes are.
        modality: which array.
        batches: rows of each batch; the plan, in order.
        in_flight: most requests at once.
        pin_memory: allocate batches in pinned memory.
        reader: knows what is kept, in memory and on the device.
        budget_bytes: most bytes that batches read ahead may hold.
        reuse: a batch is valid only until the next one is asked for.
        max_left_out: samples that may be left out.
        is_training: whether a training step follows each batch; the first ones decide what is kept.
    """

    def read(planned: Sequence[Rows]) -> VolumeStream:
        return VolumeStream(
            store,
            modality,
            planned,
            in_flight=in_flight,
            pin_memory=pin_memory,
            reader=reader,
            budget_bytes=budget_bytes,
            reuse=reuse,
            max_left_out=max_left_out,
        )

    cohort = None if reader is None else reader.on_device
    if cohort is None or not (cohort.is_there or (is_training and not cohort.is_settled)):
        return read(batches)
    rows = cohort.rows[modality]
    asked = rows.missing(batches) if rows.is_there else list(batches)
    if rows.is_there and not rows.has_room_for(asked):
        return read(batches)
    arriving = [one for one in asked if one.size]
    return DeviceStream(cohort, modality, batches, asked, read(arriving) if arriving else None, is_training=is_training)
