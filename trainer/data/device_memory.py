"""How many bytes of volumes fit on the training device beside training, by what the first steps took.

The rule, for one CUDA device, all in bytes:

    room    = free + held - reserve
    reserve = HEADROOM * peak * max(1, largest / measured)

`free` is what the driver would still give to anybody (`torch.cuda.mem_get_info`), `held` what this process has taken
from the driver for all its tensors, in use or not (`memory_reserved`), and `peak` the most that its tensors have used
at one time so far (`max_memory_allocated`): weights, moments of the optimiser, activations, and the batch itself.
`measured` scans were in the batches that made the peak, `largest` are in the largest batch that will come.
"""

from dataclasses import dataclass

import torch

HEADROOM = 1.5
"""Reserve over the measured peak: for memory in pieces that fit nothing, workspaces that cuDNN requests at another
batch size, and the losses of a later phase. Chosen, not measured: no GPU was at hand."""
MEASURED_STEPS = 2
"""Steps before the peak is looked at: while the first computes its gradients, the optimiser has no moments yet."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What a device has and a process uses of it, in bytes; see the module.

    Attributes:
        free_bytes: the driver would give to anybody.
        held_bytes: this process has from the driver.
        peak_bytes: most that its tensors used at one time.
    """

    free_bytes: int
    held_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, device: torch.device) -> "DeviceMemory":
        """As it is now on a CUDA device."""
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return cls(free_bytes, torch.cuda.memory_reserved(device), torch.cuda.max_memory_allocated(device))

    def room_bytes(self, *, measured: int, largest: int) -> int:
        """What is left for volumes; 0 where nothing is.

        Args:
            measured: scans in the batches that made the peak.
            largest: scans in the largest batch to come.
        """
        reserve = HEADROOM * self.peak_bytes * max(1.0, largest / measured)
        return max(0, self.free_bytes + self.held_bytes - round(reserve))
