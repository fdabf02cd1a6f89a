"""Batches of visits with several modalities: one stream for each modality, of the rows that are there and no others.

All streams follow one plan, so their batches come in the same order; a visit's modality is one object and one request.
A batch travels as the rows that are there; the slots of absent ones are made, as zeros, where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.cohort import Flags, Rows
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.resident import Stream, open_stream


@dataclass(frozen=True, slots=True)
class VisitBatch:
    """What is there of B visits.

    Attributes:
        stored: by modality the rows of the visits that have it, in the order of the visits, in the stored dtype.
        present_BM: which visit has which modality.
        scales: by modality, what a stored value is multiplied by: 1/255 for uint8, 1 for float32.
    """

    stored: Mapping[str, torch.Tensor]
    present_BM: torch.Tensor
    scales: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.present_BM)

    def inputs(
        self, device: torch.device, *, non_blocking: bool = False
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Float tensors (B, *row shape) with zeros where a visit lacks the modality, and present_BM, on the device."""
        present_BM = self.present_BM.to(device, non_blocking=non_blocking)
        inputs = {}
        for present_B, (name, stored) in zip(present_BM.unbind(dim=1), self.stored.items(), strict=True):
            # Scaled on the device, so that bytes travel, not floats.
            there = stored.to(device, non_blocking=non_blocking).float().mul_(self.scales[name])
            inputs[name] = there.new_zeros((len(present_B), *there.shape[1:]))
            inputs[name][present_B] = there
        return inputs, present_BM


@dataclass(slots=True)
class VisitCounts:
    """What the streams of all modalities have done together; as `StreamCounts`."""

    streams: Mapping[str, Stream]

    @property
    def wait_seconds(self) -> float:
        """That the consumer waited for batches."""
        return sum(stream.counts.wait_seconds for stream in self.streams.values())

    @property
    def bytes_fetched(self) -> int:
        """Bytes of the objects that arrived."""
        return sum(stream.counts.bytes_fetched for stream in self.streams.values())

    @property
    def device_hits(self) -> int:
        """Rows that were on the training device already."""
        return sum(stream.counts.device_hits for stream in self.streams.values())

    @property
    def requests(self) -> int:
        """Objects asked of the bucket."""
        return sum(stream.counts.reads.requests for stream in self.streams.values())


class VisitStream:
    """An iterator over batches of visits, reading ahead.

    Args:
        store: where the rows are.
        modalities: in the order of the axis M.
        rows: of each batch, shape (B,), the same for all modalities.
        present: of each batch, shape (B, M).
        in_flight: most requests at once, all modalities together (at least one each).
        pin_memory: allocate batches in pinned memory.
        readers: by modality, for what is kept from one epoch to the next; made for this stream when not given.
        budget_bytes: most bytes that batches read ahead may hold; shared by the modalities by the size of their rows.
        reuse: a batch is valid only until the next one is asked for.
        is_training: whether a training step follows each batch; see `open_stream`.

    Raises:
        UsageError: two batches do not fit into the budget.
        StoreError: a row is missing or damaged.
        StorageError: the bucket refuses.
    """

    kept: None = None
    """No visit is ever left out of a batch; see `VolumeStream.kept`."""

    def __init__(
        self,
        store: Store,
        modalities: Sequence[str],
        rows: Sequence[Rows],
        present: Sequence[Flags],
        *,
        in_flight: int = 64,
        pin_memory: bool = False,
        readers: Mapping[str, VolumeReader] | None = None,
        budget_bytes: int | None = None,
        reuse: bool = False,
        is_training: bool = False,
    ) -> None:
        self._present = present
        layouts = {name: store.layout(name) for name in modalities}
        self._empty = {
            name: torch.from_numpy(np.empty((0, *layout.shape), layout.dtype)) for name, layout in layouts.items()
        }
        self._scales = {name: unit_scale(layout.dtype.name) for name, layout in layouts.items()}
        budget = default_budget_bytes() if budget_bytes is None else budget_bytes
        per_visit = sum(layout.num_bytes for layout in layouts.values())
        self._streams: dict[str, Stream] = {}
        self._stack = ExitStack()
        with ExitStack() as opened:
            for column, (name, layout) in enumerate(layouts.items()):
                there = [batch_B[present_BM[:, column]] for batch_B, present_BM in zip(rows, present, strict=True)]
                if not any(len(batch_P) for batch_P in there):
                    continue
                stream = open_stream(
                    store,
                    name,
                    there,
                    in_flight=max(1, in_flight // len(layouts)),
                    pin_memory=pin_memory,
                    reader=None if readers is None else readers[name],
                    budget_bytes=budget * layout.num_bytes // per_visit,
                    reuse=reuse,
                    is_training=is_training,
                )
                opened.enter_context(stream)
                self._streams[name] = stream
            self._stack = opened.pop_all()
        self.counts = VisitCounts(self._streams)

    def __enter__(self) -> "VisitStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[VisitBatch]:
        batches = {name: iter(stream) for name, stream in self._streams.items()}
        for present_BM in self._present:
            stored = {name: next(batches[name]) if name in batches else none for name, none in self._empty.items()}
            yield VisitBatch(stored, torch.from_numpy(np.ascontiguousarray(present_BM)), self._scales)
        for ended in batches.values():
            next(ended, None)  # streams hear of a step when they are asked again, of the last one here
