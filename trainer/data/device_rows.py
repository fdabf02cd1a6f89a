"""Rows of a store that stay on the training device, in the stored type: read once, gathered there by index afterwards.

Whether a cohort stays is decided once, after the first steps of a run and for all modalities together: with all of its
rows, or not at all (`trainer.data.device_memory` has the rule). From then on each row that a stream reads is kept
there, and is never requested from the store again. A batch has the same bytes whether it was read or gathered, and is
scaled and augmented by the same code, so a run ends at the same weights bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from preprocess.chunks import RowLayout
from preprocess.console import LOG
from trainer.data.cohort import Rows
from trainer.data.device_memory import MEASURED_STEPS, DeviceMemory


class DeviceRows:
    """Rows of one modality on the device.

    Args:
        layout: how the modality's rows are stored.
        num_rows: most rows that are kept.

    Attributes:
        num_bytes: that all of them take.
    """

    def __init__(self, layout: RowLayout, num_rows: int) -> None:
        self.num_bytes = num_rows * layout.num_bytes
        self._num_rows = num_rows
        self._shape = layout.shape
        self._dtype = torch.from_numpy(np.empty(0, layout.dtype)).dtype
        # As bytes: torch gathers these of any type, and uint16 not everywhere.
        self._bytes_NR: torch.Tensor | None = None
        self._indices: dict[int, int] = {}
        self._held: list[tuple[Rows, torch.Tensor]] = []

    @property
    def is_there(self) -> bool:
        """Whether rows are kept."""
        return self._bytes_NR is not None

    def hold(self, rows: Rows, voxels: torch.Tensor) -> None:
        """Remember rows on the device until it is decided whether rows are kept; see `put`."""
        self._held.append((rows, voxels))

    def allocate(self, device: torch.device) -> None:
        """Take the memory of all rows at once, and keep those that were held.

        Raises:
            torch.OutOfMemoryError: the device does not have it in one piece.
        """
        row_bytes = self.num_bytes // max(1, self._num_rows)
        self._bytes_NR = torch.empty((self._num_rows, row_bytes), dtype=torch.uint8, device=device)
        for rows, voxels in self._held:
            self.put(rows, voxels)
        self._held.clear()

    def release(self) -> None:
        """Give all memory back."""
        self._bytes_NR = None
        self._indices.clear()
        self._held.clear()

    def missing(self, batches: Sequence[Rows]) -> list[Rows]:
        """The rows of each batch that are neither here nor brought by an earlier batch, in order; shape (P,)."""
        seen = set(self._indices)
        missing = []
        for rows in batches:
            new = [row for row in dict.fromkeys(rows.ravel().tolist()) if row not in seen]
            seen.update(new)
            missing.append(np.array(new, dtype=np.int64))
        return missing

    def has_room_for(self, rows: Sequence[Rows]) -> bool:
        """Whether so many rows, none of which is here, can still come."""
        return len(self._indices) + sum(one.size for one in rows) <= self._num_rows

    def put(self, rows: Rows, voxels: torch.Tensor) -> None:
        """Keep rows; those that are here already stay as they are.

        Args:
            rows: which, of any shape.
            voxels: theirs, in the stored type, shape (*rows.shape, *row shape); on any device.
        """
        assert self._bytes_NR is not None
        flat = rows.ravel().tolist()
        new = {row: index for index, row in reversed(list(enumerate(flat))) if row not in self._indices}
        chosen = sorted(new.values())
        if not chosen:
            return
        bytes_PR = voxels.reshape(len(flat), -1).view(torch.uint8)
        if len(chosen) < len(flat):
            bytes_PR = bytes_PR[torch.tensor(chosen, device=bytes_PR.device)]
        start = len(self._indices)
        self._bytes_NR[start : start + len(chosen)].copy_(bytes_PR, non_blocking=True)
        self._indices.update({flat[index]: start + number for number, index in enumerate(chosen)})

    def empty(self, rows: Rows) -> torch.Tensor:
        """A batch of no rows, shape (*rows.shape, *row shape), in the machine's memory."""
        return torch.empty((*rows.shape, *self._shape), dtype=self._dtype)

    def gather(self, rows: Rows) -> torch.Tensor:
        """Rows that are here, in the stored type, shape (*rows.shape, *row shape), on the device.

        Raises:
            KeyError: one is not.
        """
        assert self._bytes_NR is not None
        indices = [self._indices[row] for row in rows.ravel().tolist()]
        index_P = torch.tensor(indices, dtype=torch.int64, device=self._bytes_NR.device)
        gathered_PR = self._bytes_NR.index_select(0, index_P)
        return gathered_PR.view(self._dtype).view(*rows.shape, *self._shape)


class DeviceCohort:
    """The rows of all modalities of a run, and the one decision about them.

    Args:
        device: that trains.
        rows: by modality.
        budget_bytes: most that they may take; when not given, what `DeviceMemory` finds, which needs a CUDA device.
        least_batch: scans of a batch that comes besides those of training, to embed.

    Attributes:
        device: that trains.
        rows: by modality.
        is_settled: whether it was decided.
        when_kept: called when it was decided that the cohort stays.
    """

    def __init__(
        self, device: torch.device, rows: Mapping[str, DeviceRows], *, budget_bytes: int | None, least_batch: int
    ) -> None:
        self.device = device
        self.rows = rows
        self.is_settled = False
        self.when_kept: Callable[[], None] = lambda: None
        self._counting_modality = ""
        self._budget_bytes = budget_bytes
        self._least_batch = least_batch
        self._steps = 0
        self._measured = 1

    @property
    def num_bytes(self) -> int:
        """That all rows take."""
        return sum(rows.num_bytes for rows in self.rows.values())

    @property
    def is_there(self) -> bool:
        """Whether the cohort stays on the device."""
        return any(rows.is_there for rows in self.rows.values())

    def stepped(self, modality: str, num_scans: int, largest: int) -> None:
        """Count a finished training step, and decide when there have been enough; each modality's stream calls it.

        Args:
            modality: whose stream calls; that of the first one counts, so that a step of several is one.
            num_scans: number of scans in the step's batch.
            largest: scans of the largest batch.
        """
        self._counting_modality = self._counting_modality or modality
        if self.is_settled or modality != self._counting_modality or not num_scans:
            return
        self._steps += 1
        self._measured = max(self._measured, num_scans)
        if self._steps >= MEASURED_STEPS:
            self.is_settled = True
            self._settle(max(largest, self._least_batch))

    def _settle(self, largest: int) -> None:
        """Take the memory of the whole cohort where it fits."""
        room = self._budget_bytes
        if room is None:
            room = DeviceMemory.of(self.device).room_bytes(measured=self._measured, largest=largest)
        taken = f"{self.num_bytes / 1e9:.2g} GB of volumes"
        try:
            if self.num_bytes <= room:
                for rows in self.rows.values():
                    rows.allocate(self.device)
        except torch.OutOfMemoryError:
            LOG.warning("%s: no room for %s in one piece", self.device, taken)
            room = 0
        if self.num_bytes > room:
            for rows in self.rows.values():
                rows.release()
            LOG.info("%s do not stay on %s: beside training it has room for %.2g GB", taken, self.device, room / 1e9)
            return
        self.when_kept()
        LOG.info("%s stay on %s: beside training it has room for %.2g GB", taken, self.device, room / 1e9)
