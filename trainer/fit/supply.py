"""How a run gets its volumes: one reader for all epochs, so that what it holds on the device or off it serves each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from preprocess.store import Store
from trainer.data.cache import DiskCache
from trainer.data.cohort import Flags, Rows
from trainer.data.device_rows import DeviceCohort, DeviceRows
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.resident import Stream, open_stream
from trainer.data.visits import VisitStream
from trainer.fit.embedding import BATCH
from trainer.recipe import DataRecipe


@dataclass(frozen=True, slots=True)
class SupplyOptions:
    """Settings of the machine, not of the recipe: they change how fast volumes come, never which.

    Attributes:
        cache_folder: folder for stored objects on a local disk; None for none.
        cache_bytes: most that it may hold.
        budget_bytes: most memory for batches read ahead, and as much again for volumes kept in memory; a quarter of
            what is available when None.
        keep_resident: whether volumes stay anywhere after the first epoch when all of them fit; `data.resident` of the
            recipe says where.
        device_bytes: most memory of the training device for volumes; when None, what a GPU has left beside training
            (`trainer.data.device_memory`), and nothing where the device is the CPU, whose memory `budget_bytes` counts.
    """

    cache_folder: Path | None = None
    cache_bytes: int = 20 * 10**9
    budget_bytes: int | None = None
    keep_resident: bool = True
    device_bytes: int | None = None


class Supply:
    """Streams of one run.

    Args:
        store: where the volumes are.
        data: modality or modalities, requests in flight, how many samples may be left out, where volumes stay.
        num_volumes: how many different volumes, or visits, the run reads.
        options: of the machine.
        pin_memory: allocate batches in pinned memory.
        device: that trains.

    Attributes:
        readers: one for each modality.
    """

    def __init__(
        self,
        store: Store,
        data: DataRecipe,
        *,
        num_volumes: int,
        options: SupplyOptions,
        pin_memory: bool,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
    ) -> None:
        self._store = store
        self._data = data
        self._pin_memory = pin_memory
        self._budget = default_budget_bytes() if options.budget_bytes is None else options.budget_bytes
        modalities = data.modalities or (data.modality,)
        needed = {name: num_volumes * store.layout(name).num_bytes for name in modalities}
        # A part of a cohort in memory would not spare the stream: the rest still has to come in time.
        keeps = options.keep_resident and data.resident != "none"
        fits = keeps and sum(needed.values()) <= self._budget
        is_known = device.type == "cuda" or options.device_bytes is not None
        on_device = None
        if keeps and data.resident == "auto" and is_known and data.max_left_out == 0:
            on_device = DeviceCohort(
                device,
                {name: DeviceRows(store.layout(name), num_volumes) for name in modalities},
                budget_bytes=options.device_bytes,
                least_batch=BATCH,
            )
            on_device.when_kept = self._stop_keeping
        folder = options.cache_folder
        cache = DiskCache(folder, options.cache_bytes) if folder is not None else None
        self.readers = {
            name: VolumeReader(
                store,
                name,
                in_flight=max(1, data.in_flight // len(modalities)),
                cache=cache,
                resident_bytes=needed[name] if fits else 0,
                on_device=on_device,
            )
            for name in modalities
        }

    def __enter__(self) -> "Supply":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self.readers.values():
            reader.close()

    @property
    def reader(self) -> VolumeReader:
        """That of the modality; of the first where there are several."""
        return next(iter(self.readers.values()))

    def _stop_keeping(self) -> None:
        """Nothing is kept twice."""
        for reader in self.readers.values():
            reader.stop_keeping()

    def stream(self, batches: Sequence[Rows]) -> Stream:
        """The batches of an epoch of training; each is valid until the next one is asked for."""
        return open_stream(
            self._store,
            self._data.modality,
            batches,
            in_flight=self._data.in_flight,
            pin_memory=self._pin_memory,
            reader=self.reader,
            budget_bytes=self._budget,
            reuse=True,
            max_left_out=self._data.max_left_out,
            is_training=True,
        )

    def visits(self, rows: Sequence[Rows], present: Sequence[Flags]) -> VisitStream:
        """The same of visits: rows (B,) and which modalities are there (B, M), batch by batch."""
        return VisitStream(
            self._store,
            self._data.modalities,
            rows,
            present,
            in_flight=self._data.in_flight,
            pin_memory=self._pin_memory,
            readers=self.readers,
            budget_bytes=self._budget,
            reuse=True,
            is_training=True,
        )
