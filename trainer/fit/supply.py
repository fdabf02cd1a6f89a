"""How a run gets its volumes: one reader for all epochs, so that what it holds on the device or off it serves each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from preprocess.store import Store
from trainer.data.cache import DiskCache
from trainer.data.cohort import Cohort, Flags, Rows
from trainer.data.device_rows import DeviceCohort, DeviceRows
from trainer.data.memory import default_budget_bytes
from trainer.data.reader import VolumeReader
from trainer.data.stream import StreamOptions
from trainer.data.visits import VisitStream
from trainer.encoders import Embedder
from trainer.fit.embedding import BATCH, embed_cohort
from trainer.fit.precision import Compute


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

        with Supply(store, ("T1w",), num_volumes=len(cohort), options=SupplyOptions(), compute=compute) as supply:
            with supply.stream([rows_BK], [present_NM]) as batches: ...

    Args:
        store: where the volumes are.
        modalities: names of a visit's modalities; one name for scans.
        num_volumes: how many different visits the run reads.
        in_flight: most requests for volumes at once.
        max_left_out: samples that may be left out of an epoch, where there is one modality.
        resident: where volumes stay; as `data.resident` of the recipe.
        options: memory and disk cache that this machine offers.
        compute: the device that trains.

    Attributes:
        readers: one for each modality.
    """

    def __init__(
        self,
        store: Store,
        modalities: Sequence[str],
        *,
        num_volumes: int,
        in_flight: int = 64,
        max_left_out: int = 0,
        resident: Literal["auto", "host", "none"] = "auto",
        options: SupplyOptions,
        compute: Compute,
    ) -> None:
        self._store = store
        self._modalities = tuple(modalities)
        budget = default_budget_bytes() if options.budget_bytes is None else options.budget_bytes
        self._reading = StreamOptions(
            in_flight=in_flight,
            pin_memory=compute.pin_memory,
            budget_bytes=budget,
            reuse=True,
            max_left_out=max_left_out,
        )
        needed = {name: num_volumes * store.layout(name).num_bytes for name in modalities}
        # A part of a cohort in memory would not spare the stream: the rest still has to come in time.
        keeps = options.keep_resident and resident != "none"
        fits = keeps and sum(needed.values()) <= budget
        is_known = compute.device.type == "cuda" or options.device_bytes is not None
        on_device = None
        if keeps and resident == "auto" and is_known and max_left_out == 0:
            on_device = DeviceCohort(
                compute.device,
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
                in_flight=max(1, in_flight // len(modalities)),
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

    def _stop_keeping(self) -> None:
        """Nothing is kept twice."""
        for reader in self.readers.values():
            reader.stop_keeping()

    def stream(self, rows: Sequence[Rows], present: Sequence[Flags]) -> VisitStream:
        """The batches of an epoch of training; each is valid until the next one is requested.

        Args:
            rows: store rows of each batch, shape (B, K) or (B,).
            present: which visit of each batch has which modality, shape (N, M), N = B * K.
        """
        return VisitStream(
            self._store, self._modalities, rows, present, self._reading, readers=self.readers, is_training=True
        )

    def embed(self, encoder: Embedder, cohort: Cohort, compute: Compute) -> np.ndarray:
        """Embeddings (N, E) of a cohort's visits, read by this run's readers; see `embed_cohort`."""
        return embed_cohort(encoder, self._store, self._modalities, cohort, compute, readers=self.readers)
