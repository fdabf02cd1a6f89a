"""The planned batches of an epoch, read ahead of the trainer: bounded in bytes, in the plan's order, in one process.

Nothing is forked: gcsfs raises in forked workers. What arrives first does not matter: order, batches and the index of
each volume in them are the plan's, whatever is cached, repeated or late.
"""

import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from preprocess.console import LOG
from preprocess.errors import StoreError, UsageError
from preprocess.store import Store
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.reading import ReadCounts, Reading

Rows = npt.NDArray[np.int64]


@dataclass(slots=True)
class StreamCounts:
    """What a stream has handed over so far.

    Attributes:
        volumes: handed over.
        wait_seconds: that the consumer waited for batches.
        left_out: samples that were left out for a missing or damaged volume.
        reads: what its reader has counted since this stream began.
    """

    volumes: int = 0
    wait_seconds: float = 0.0
    left_out: int = 0
    reads: ReadCounts = field(default_factory=ReadCounts)

    @property
    def bytes_fetched(self) -> int:
        """Bytes of the objects that arrived."""
        return self.reads.bytes_fetched

    @property
    def device_hits(self) -> int:
        """Volumes that were on the training device already."""
        return self.reads.device_hits


class _Memory:
    """Voxels of a batch, and views made once: making one lets other threads run first, 0.3 ms on two cores."""

    def __init__(self, voxels: torch.Tensor) -> None:
        self.voxels = voxels
        self.slots = list(voxels.numpy())
        self._views: dict[tuple[int, ...], torch.Tensor] = {}

    def view(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The first volumes as (*shape, C, D, H, W)."""
        view = self._views.get(shape)
        if view is None:
            view = self._views[shape] = self.voxels[: math.prod(shape)].view(*shape, *self.voxels.shape[1:])
        return view


class _Batch:
    """A batch under way: its memory, and what to wait for."""

    def __init__(self, rows: Rows, memory: _Memory, reading: Reading) -> None:
        self.rows = rows
        self.memory = memory
        self.voxels = memory.view(rows.shape)
        self.reading = reading


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream reads ahead, and what it may do without.

        VolumeStream(store, "T1w", batches, StreamOptions(in_flight=32, reuse=True))

    Attributes:
        in_flight: most requests at once.
        pin_memory: allocate batches in pinned memory, for copies to a GPU beside computation.
        budget_bytes: most bytes that batches read ahead may hold; a quarter of the available memory when None.
        reuse: hand out the same memory again: a batch is then valid only until the next one is requested.
        max_left_out: samples with a missing or damaged volume that may be left out before the run fails.
    """

    in_flight: int = 64
    pin_memory: bool = False
    budget_bytes: int | None = None
    reuse: bool = False
    max_left_out: int = 0


class Stream(ABC):
    """An iterator over batches of one modality's volumes, in the plan's order.

    Leaving the block gives up what was requested and not yet handed over.

    Attributes:
        counts: what was handed over so far.
        kept: indices of the samples that are in the batch handed over last; None when all are.
    """

    counts: StreamCounts
    kept: Rows | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[torch.Tensor]: ...

    @abstractmethod
    def close(self) -> None:
        """Give up what was requested and not yet handed over."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VolumeStream(Stream):
    """Reads the batches of a plan from the store, ahead of the consumer.

        with VolumeStream(store, "T1w", [np.array([0, 1]), np.array([2, 3])]) as stream:
            for volumes_BCDHW in stream:
                train_step(volumes_BCDHW.float() / 255)

    Args:
        store: where the volumes are.
        modality: which array.
        batches: rows of each batch, shape (B, K) or (B,); the plan, in order.
        options: how it reads ahead.
        reader: keeps its cache and resident volumes from one epoch to the next; made for this stream when not given.

    Iterating gives tensors of the stored dtype, shape (B, K, C, D, H, W) or (B, C, D, H, W).

    Raises:
        UsageError: two batches do not fit into the budget.
        StoreError: a row is missing or damaged, and no more may be left out; the message names it.
        StorageError: the bucket refuses.
    """

    def __init__(
        self,
        store: Store,
        modality: str,
        batches: Sequence[Rows],
        options: StreamOptions = StreamOptions(),
        *,
        reader: VolumeReader | None = None,
    ) -> None:
        self._reader = reader or VolumeReader(store, modality, in_flight=options.in_flight)
        self._owns_reader = reader is None
        self._batches = batches
        self._pin_memory = options.pin_memory and torch.cuda.is_available()
        self._reuse = options.reuse
        self._max_left_out = options.max_left_out
        self._closed = threading.Event()
        self._free: list[tuple[_Memory, torch.cuda.Event | None]] = []
        self._ahead: deque[_Batch] = deque()
        self._largest = max((rows.size for rows in batches), default=1)
        try:
            budget = default_budget_bytes() if options.budget_bytes is None else options.budget_bytes
            self._num_ahead = self._plan_ahead(options.in_flight, budget)
        except UsageError:
            self.close()
            raise
        self.counts = StreamCounts(reads=self._reader.begin_counting())

    def __iter__(self) -> Iterator[torch.Tensor]:
        ahead, upcoming = self._ahead, iter(self._batches)
        handed_over_bytes = 0
        try:
            while True:
                # One batch is in the consumer's hands, so one less is ahead while it works.
                for rows in upcoming:
                    ahead.append(self._start(rows))
                    if len(ahead) >= self._num_ahead:
                        break
                if not ahead or self._closed.is_set():
                    return
                batch = ahead[0]
                started = time.perf_counter()
                batch.reading.wait()
                self.counts.wait_seconds += time.perf_counter() - started
                if self._closed.is_set():
                    return
                ahead.popleft()
                voxels = self._settle(batch)
                self.counts.reads.add(held_bytes=-handed_over_bytes)
                handed_over_bytes = 0 if self._reuse else batch.memory.voxels.nbytes
                yield voxels
                if self._reuse:
                    # Free once the copies to the GPU that were requested up to now are done.
                    self._free.append((batch.memory, self._mark_copies()))
                # The consumer alone decides how long it keeps it.
                del batch, voxels
        finally:
            self._give_up()

    def _plan_ahead(self, in_flight: int, budget_bytes: int) -> int:
        """How many batches are read ahead: enough for twice the requests in flight, as many as the budget holds."""
        volume_bytes = self._reader.layout.num_bytes
        # An object waits as it was stored before it is decoded; it is hardly ever larger than its volume.
        batch_bytes = self._largest * 2 * volume_bytes
        fitting = budget_bytes // batch_bytes - 1
        if fitting < 1:
            raise UsageError(
                f"two batches of {self._largest} volumes take {2 * batch_bytes / 1e6:.0f} MB, the budget is "
                f"{budget_bytes / 1e6:.0f} MB; lower data.batch_size or raise --budget-gb (in a program: budget_bytes)"
            )
        needed = max(2, -(-2 * in_flight // self._largest))
        return int(min(needed, fitting))

    def _start(self, rows: Rows) -> _Batch:
        """Request all volumes of a batch."""
        memory = self._memory(rows.size)
        slots = memory.slots[: rows.size]
        reading = self._reader.read_many(rows.ravel().tolist(), slots, fails_at_once=self._max_left_out == 0)
        return _Batch(rows, memory, reading)

    def _memory(self, num_volumes: int) -> _Memory:
        if self._free:
            memory, copied = self._free.pop(0)
            if copied is not None:
                copied.synchronize()
            return memory
        layout = self._reader.layout
        held = self._largest if self._reuse else num_volumes
        dtype = torch.from_numpy(np.empty(0, dtype=layout.dtype)).dtype
        voxels = torch.empty((held, *layout.shape), dtype=dtype, pin_memory=self._pin_memory)
        self.counts.reads.add(held_bytes=voxels.nbytes)
        return _Memory(voxels)

    def _mark_copies(self) -> "torch.cuda.Event | None":
        """An event after the copies requested so far on the consumer's CUDA stream; None without a GPU."""
        if not self._pin_memory:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _settle(self, batch: _Batch) -> torch.Tensor:
        """The batch's tensor, without samples that may be left out; empty when nothing is left of it.

        Raises:
            StoreError, StorageError: what went wrong with a volume, when no more may be left out.
        """
        rows, faults = batch.rows, batch.reading.faults
        whole = batch.voxels
        self.kept = None
        if not faults:
            self.counts.volumes += rows.size
            return whole
        per_sample = rows.size // len(rows)
        lost = sorted({index // per_sample for index in faults})
        for index, fault in sorted(faults.items()):
            if not isinstance(fault, StoreError) or self.counts.left_out + len(lost) > self._max_left_out:
                raise fault
            LOG.warning("left out: %s (sample %d of its batch)", fault, index // per_sample)
        self.counts.left_out += len(lost)
        self.kept = np.delete(np.arange(len(rows)), lost)
        self.counts.volumes += len(self.kept) * per_sample
        # Moved up within the batch's own memory: a copy would be beside the budget, and not pinned.
        for index, source in enumerate(self.kept.tolist()):
            if index != source:
                whole[index].copy_(whole[source])
        return whole[: len(self.kept)]

    def _give_up(self) -> None:
        with contextlib.suppress(IndexError):  # empty, perhaps because another thread gives up too
            while True:
                self._reader.give_up(self._ahead.popleft().reading)

    def close(self) -> None:
        """Give up what was requested and not yet handed over; a reader that was made for this stream ends too."""
        self._closed.set()
        self._give_up()
        if self._owns_reader:
            self._reader.close()
