"""A prediction: what a run is expected to take, what it would cost, and why it should not be started, if so."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.data.device_memory import HEADROOM
from trainer.plan.estimate import Limit, Memory, Range, StepSpeed, Supply, in_flight_for, largest_batch_size
from trainer.plan.hardware import Device, StoragePrice
from trainer.plan.probe import Probe
from trainer.plan.workload import Workload


@dataclass(frozen=True)
class Prediction:
    """What a run is expected to take.

    Attributes:
        gpu: the device's name in the table.
        device: its entry.
        storage: prices of the store's kind of bucket; None for local files and where the table has none.
        precision: number format of the training step.
        in_flight: most requests at once, as the recipe has it.
        workload: volumes read, exactly.
        probe: what reading a few rows showed.
        latency_s: mean of one read.
        speed: seconds that a training step takes per volume, and whether that was measured.
        reach: volumes/s that the stream can deliver, station by station.
        limit: the station that sets the pace.
        au: the accelerator's utilisation, 0 to 1.
        volumes_per_s: while training.
        hours: from the command to the finished run.
        memory: bytes that the run holds on the device, and read ahead in the machine's memory.
        memory_limit_bytes: the device's memory.
        cohort_bytes: training and validation volumes as stored, which may stay on the device (`data.resident`).
        may_stay: whether the recipe lets them, and the device has memory of its own.
        assumptions: what the values rest on, one sentence each.
    """

    gpu: str
    device: Device
    storage: StoragePrice | None
    precision: str
    in_flight: int
    workload: Workload
    probe: Probe
    latency_s: Range
    speed: StepSpeed
    reach: Supply
    limit: Limit
    au: Range
    volumes_per_s: Range
    hours: Range
    memory: Memory
    memory_limit_bytes: float
    cohort_bytes: float
    may_stay: bool
    assumptions: tuple[str, ...]

    @property
    def gb_moved(self) -> float:
        """1e9 bytes read from the store."""
        return self.workload.num_requests * self.probe.bytes_per_volume / 1e9

    @property
    def demand(self) -> float:
        """Volumes/s that the device could train."""
        return 1 / self.speed.seconds_per_volume

    @property
    def max_batch_size(self) -> int:
        """Subjects of the largest batch that fits."""
        return largest_batch_size(self.memory, self.memory_limit_bytes, self.workload.scans_per_subject)

    @property
    def fits(self) -> bool:
        """Whether the largest batch fits into the device."""
        return self.memory.device_bytes <= self.memory_limit_bytes

    @property
    def stays_on_device(self) -> bool:
        """Whether the cohort fits on the device beside training, with the reserve that training itself leaves."""
        needed = HEADROOM * self.memory.device_bytes + self.cohort_bytes
        return self.may_stay and needed <= self.memory_limit_bytes

    def compute_usd(self) -> dict[str, Range]:
        """Rent of the device by cloud; empty where the table has no price."""
        return {
            cloud: Range(
                *(hours * price.usd_per_hour for hours in (self.hours.expected, self.hours.low, self.hours.high))
            )
            for cloud, price in self.device.prices.items()
        }

    def requests_usd(self) -> float | None:
        """Price of all reads; None where none is known."""
        return None if self.storage is None else self.workload.num_requests / 1e3 * self.storage.usd_per_thousand_reads

    def egress_usd(self) -> float | None:
        """Price of moving every byte out of the bucket's region; nothing of it is paid within the region."""
        return None if self.storage is None else self.gb_moved * self.storage.usd_per_gb_out

    def refusal(self, hours_limit: float | None) -> str | None:
        """Why the run should not be started, in one line; None when it may be."""
        if not self.fits:
            remedy = (
                f"set data.batch_size to {self.max_batch_size} or less"
                if self.max_batch_size > 1
                else "take a larger --gpu"
            )
            return (
                f"the largest batch of {self.workload.largest_batch} volumes needs "
                f"{self.memory.device_bytes / 1e9:.1f} GB, {self.device.name} has "
                f"{self.memory_limit_bytes / 1e9:.1f}; {remedy}"
            )
        if hours_limit is not None and self.hours.high > hours_limit:
            return (
                f"the run may take {self.hours.high:.3g} hours, --hours-limit is {hours_limit:g}; lower optim.epochs "
                f"or data.subjects_per_epoch, or mend what limits it ({self.limit})"
            )
        return None

    def to_dict(self, hours_limit: float | None) -> dict[str, Any]:
        """Plain values, for JSON; `null` for what is not known."""
        refusal = self.refusal(hours_limit)
        return {
            "gpu": self.gpu,
            "device": self.device.name,
            "precision": self.precision,
            "au": asdict(self.au),
            "hours": asdict(self.hours),
            "volumes_per_s": asdict(self.volumes_per_s),
            "limit": self.limit,
            "network_latency_volumes_per_s": self.reach.latency,
            "network_bandwidth_volumes_per_s": self.reach.bandwidth if np.isfinite(self.reach.bandwidth) else None,
            "client_volumes_per_s": self.reach.client,
            "decode_volumes_per_s": self.reach.decode,
            "compute_volumes_per_s": self.demand,
            "compute_basis": self.speed.basis,
            "latency_ms": 1e3 * self.latency_s.expected,
            "bytes_per_volume": self.probe.bytes_per_volume,
            "volumes_per_epoch": list(self.workload.volumes_per_epoch),
            "training_volumes": self.workload.training_volumes,
            "embedded_volumes": self.workload.embedded_volumes,
            "steps": self.workload.num_steps,
            "requests": self.workload.num_requests,
            "gb_moved": self.gb_moved,
            "compute_usd": {cloud: asdict(usd) for cloud, usd in self.compute_usd().items()},
            "requests_usd": self.requests_usd(),
            "egress_usd_if_out_of_region": self.egress_usd(),
            "device_memory_gb": self.memory.device_bytes / 1e9,
            "device_memory_limit_gb": self.memory_limit_bytes / 1e9,
            "read_ahead_gb": self.memory.read_ahead_bytes / 1e9,
            "cohort_gb": self.cohort_bytes / 1e9,
            "stays_on_device": self.stays_on_device,
            "max_batch_size": self.max_batch_size,
            "probe_rows": len(self.probe.num_bytes),
            "in_flight_needed": in_flight_for(self.demand, self.latency_s.expected) if self.probe.is_async else None,
            "refusal": refusal,
            "assumptions": list(self.assumptions),
        }
