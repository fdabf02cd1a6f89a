"""Batches of visits: one stream for each modality, of the rows that are there and no others.

A scan is a visit with one modality. All streams follow one plan, so their batches come in the same order; a visit's
modality is one object and one request. A batch travels as the rows that are there; the slots of absent ones are made,
as zeros, where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
import torch

from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.augment import Draws
from trainer.data.cohort import Flags, Rows
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.resident import open_stream
from trainer.data.stream import Stream, StreamOptions


@dataclass(frozen=True, slots=True)
class VisitBatch:
    """What is there of the N = B * K visits of a batch, those of a sample side by side.

        for batch in stream:
            inputs, present_NM = batch.inputs(torch.device("cpu"))

    Attributes:
        stored: by modality the rows of the visits that have it, in the order of the visits, in the stored dtype.
        present_NM: which visit has which modality.
        scales: by modality, what a stored value is multiplied by: 1/255 for uint8, 1 for float32.
        left_out: indices in the planned batch of the samples that are not here.
    """

    stored: Mapping[str, torch.Tensor]
    present_NM: torch.Tensor
    scales: Mapping[str, float]
    left_out: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of_scans(cls, modality: str, voxels_N: torch.Tensor, scale: float) -> "VisitBatch":
        """Scans of one modality, which all visits have.

        Args:
            modality: its name.
            voxels_N: as stored, one scan each row.
            scale: what a stored value is multiplied by.
        """
        return cls({modality: voxels_N}, torch.ones(len(voxels_N), 1, dtype=torch.bool), {modality: scale})

    def __len__(self) -> int:
        return len(self.present_NM)

    def repeated(self, times: int) -> "VisitBatch":
        """Each visit so many times, side by side."""
        if times == 1:
            return self
        stored = {name: rows.repeat_interleave(times, dim=0) for name, rows in self.stored.items()}
        return replace(self, stored=stored, present_NM=self.present_NM.repeat_interleave(times, dim=0))

    def inputs(
        self,
        device: torch.device,
        *,
        part: slice = slice(None),
        non_blocking: bool = False,
        draws: Mapping[str, Draws] | None = None,
        first: int = 0,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Float tensors (N, *row shape) with zeros where a visit lacks the modality, and present_NM, on the device.

        Args:
            device: that computes.
            part: some neighbouring visits; all when not given.
            non_blocking: whether the copies may run beside computation.
            draws: by modality, what the views of all visits differ by; other modalities are scaled alone.
            first: index among those draws of the first visit of this batch.
        """
        start, stop, _ = part.indices(len(self))
        before_M = self.present_NM[:start].sum(dim=0).tolist()
        here_NM = self.present_NM[start:stop]
        present_NM = here_NM.to(device, non_blocking=non_blocking)
        inputs = {}
        for column, (name, rows) in enumerate(self.stored.items()):
            begin, num = before_M[column], int(here_NM[:, column].sum())
            # Scaled on the device, so that bytes travel, not floats.
            stored = rows[begin : begin + num].to(device, non_blocking=non_blocking)
            if draws and name in draws:
                there = draws[name].views(stored, scale=self.scales[name], first=first + begin)
            else:
                there = stored.float().mul_(self.scales[name])
            inputs[name] = there
            if num < len(here_NM):
                inputs[name] = there.new_zeros((len(here_NM), *there.shape[1:]))
                inputs[name][present_NM[:, column]] = there
        return inputs, present_NM


@dataclass(slots=True)
class VisitCounts:
    """What the streams of all modalities have done together; as `StreamCounts`."""

    streams: Mapping[str, Stream] = field(default_factory=dict)

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
        """Objects requested from the bucket."""
        return sum(stream.counts.reads.requests for stream in self.streams.values())


class VisitStream:
    """An iterator over batches of visits, reading ahead.

        with VisitStream(store, ("T1w",), [rows_BK], [present_NM]) as stream:
            for batch in stream:
                inputs, present_NM = batch.inputs(device)

    Args:
        store: where the rows are.
        modalities: in the order of the axis M.
        rows: store rows of each batch, shape (B,) or (B, K), the same for all modalities.
        present: which visit of each batch has which modality, shape (N, M), N = B * K.
        options: how it reads ahead; requests in flight and bytes are those of all modalities together, the bytes
            shared by the size of their rows, with at least one request each. Samples may be left out where there is
            one modality.
        readers: by modality, for what is kept from one epoch to the next; made for this stream when not given.
        is_training: whether a training step follows each batch; see `open_stream`.

    Raises:
        UsageError: two batches do not fit into the budget.
        StoreError: a row is missing or damaged.
        StorageError: the bucket refuses.
    """

    def __init__(
        self,
        store: Store,
        modalities: Sequence[str],
        rows: Sequence[Rows],
        present: Sequence[Flags],
        options: StreamOptions = StreamOptions(),  # noqa: B008 - immutable
        *,
        readers: Mapping[str, VolumeReader] | None = None,
        is_training: bool = False,
    ) -> None:
        self._rows = rows
        self._present = present
        layouts = {name: store.layout(name) for name in modalities}
        self._empty = {
            name: torch.from_numpy(np.empty((0, *layout.shape), layout.dtype)) for name, layout in layouts.items()
        }
        self._scales = {name: unit_scale(layout.dtype.name) for name, layout in layouts.items()}
        budget = default_budget_bytes() if options.budget_bytes is None else options.budget_bytes
        per_visit = sum(layout.num_bytes for layout in layouts.values())
        self._streams: dict[str, Stream] = {}
        self._stack = ExitStack()
        with ExitStack() as opened:
            for column, (name, layout) in enumerate(layouts.items()):
                there = [_there(batch, has_NM[:, column]) for batch, has_NM in zip(rows, present, strict=True)]
                if not any(batch.size for batch in there):
                    continue
                stream = open_stream(
                    store,
                    name,
                    there,
                    replace(
                        options,
                        in_flight=max(1, options.in_flight // len(layouts)),
                        budget_bytes=budget * layout.num_bytes // per_visit,
                    ),
                    reader=None if readers is None else readers[name],
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
        for rows, has_NM in zip(self._rows, self._present, strict=True):
            batch = self._batch(rows, has_NM, batches)
            if batch is None:  # closed
                return
            yield batch
            del batch  # the consumer alone decides how long it keeps it
        for ended in batches.values():
            next(ended, None)  # a stream counts a step when its next batch is requested: here the last one

    def _batch(self, rows: Rows, has_NM: Flags, batches: Mapping[str, Iterator[torch.Tensor]]) -> VisitBatch | None:
        """The next batch of every stream, as one; None where a stream has ended."""
        stored = {}
        for name, none in self._empty.items():
            read = next(batches[name], None) if name in batches else none
            if read is None:
                return None
            stored[name] = read.reshape(-1, *none.shape[1:])
        batch = VisitBatch(stored, torch.from_numpy(np.ascontiguousarray(has_NM)), self._scales)
        for stream in self._streams.values():
            if stream.kept is not None:  # there is no other stream then
                left_out = np.setdiff1d(np.arange(len(rows)), stream.kept)
                present_BKM = batch.present_NM.view(len(rows), -1, has_NM.shape[1])
                batch = replace(batch, present_NM=present_BKM[stream.kept].flatten(0, 1), left_out=left_out)
        return batch


def _there(rows: Rows, has_N: Flags) -> Rows:
    """The rows of the visits that have a modality: in the batch's shape where all do, so that samples stay whole."""
    return rows if has_N.all() else rows.ravel()[has_N]
