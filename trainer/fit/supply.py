"""How a run gets its volumes: one reader for all epochs, so that what it holds in memory or on disk serves each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from preprocess.store import Store
from trainer.data.cache import DiskCache
from trainer.data.cohort import Flags, Rows
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.stream import VolumeStream
from trainer.data.visits import VisitStream
from trainer.recipe import DataRecipe


@dataclass(frozen=True, slots=True)
class SupplyOptions:
    """Settings of the machine, not of the recipe: they change how fast volumes come, never which.

    Attributes:
        cache_folder: folder for stored objects on a local disk; None for none.
        cache_bytes: most that it may hold.
        budget_bytes: most memory for batches read ahead, and as much again for volumes kept in memory; a quarter of
            what is available when None.
        keep_resident: whether volumes stay in memory after the first epoch when all of them fit.
    """

    cache_folder: Path | None = None
    cache_bytes: int = 20 * 10**9
    budget_bytes: int | None = None
    keep_resident: bool = True


class Supply:
    """Streams of one run.

    Args:
        store: where the volumes are.
        data: modality or modalities, requests in flight, how many samples may be left out.
        num_volumes: how many different volumes, or visits, the run reads.
        options: of the machine.
        pin_memory: allocate batches in pinned memory.

    Attributes:
        readers: one for each modality.
    """

    def __init__(
        self, store: Store, data: DataRecipe, *, num_volumes: int, options: SupplyOptions, pin_memory: bool
    ) -> None:
        self._store = store
        self._data = data
        self._pin_memory = pin_memory
        self._budget = default_budget_bytes() if options.budget_bytes is None else options.budget_bytes
        modalities = data.modalities or (data.modality,)
        needed = {name: num_volumes * store.layout(name).num_bytes for name in modalities}
        # A part of a cohort in memory would not spare the stream: the rest still has to come in time.
        fits = options.keep_resident and sum(needed.values()) <= self._budget
        folder = options.cache_folder
        cache = DiskCache(folder, options.cache_bytes) if folder is not None else None
        self.readers = {
            name: VolumeReader(
                store,
                name,
                in_flight=max(1, data.in_flight // len(modalities)),
                cache=cache,
                resident_bytes=needed[name] if fits else 0,
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

    def stream(self, batches: Sequence[Rows]) -> VolumeStream:
        """The batches of an epoch; each is valid until the next one is asked for."""
        return VolumeStream(
            self._store,
            self._data.modality,
            batches,
            in_flight=self._data.in_flight,
            pin_memory=self._pin_memory,
            reader=self.reader,
            budget_bytes=self._budget,
            reuse=True,
            max_left_out=self._data.max_left_out,
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
        )
