"""The model behind `interscan plan`: pure arithmetic from counts, a probe and the table to speed, hours and memory.

A run passes four stations, and the slowest sets its pace (all in volumes/s):

    network  = min(requests at once / mean latency, bandwidth / bytes per volume)
    client   = min(1 / f, cores / (f + d)); f, d: seconds of one core to fetch and to unpack a volume; one loop fetches
    decode   = decoding threads / d
    compute  = 1 / seconds of a training step per volume

    supply = min(network, client, decode);  AU = min(1, supply / compute);  pace = min(supply, compute)
    hours  = start-up + training volumes / pace + epochs * filling the pipeline + embedded volumes / their pace

AU is the accelerator's utilisation, time in step over wall time, as MLPerf Storage defines it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from preprocess.errors import UsageError
from trainer.data.reader import PLAIN_THREADS, decode_threads
from trainer.plan.hardware import EDGE, Assumed, Device, Network
from trainer.plan.probe import Probe
from trainer.plan.workload import Precision, StepWork, Workload

READ_AHEAD = 2
"""The stream holds batches for so many times the requests in flight."""
ADAMW_BYTES = 16
"""Bytes that one float32 parameter takes: the weight, its gradient and two moments."""
CONFIDENCE = 0.95
_CLOCK_S = 1e-6
"""A read that took less processor time than the clock can measure."""

Limit = Literal["compute", "network latency", "network bandwidth", "client", "decode"]


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value between what the probe's spread allows; lower values first."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """Seconds of a training step per volume, and how they are known."""

    seconds_per_volume: float
    basis: Literal["measured", "derived"]


@dataclass(frozen=True, slots=True)
class Supply:
    """Volumes/s that reach the trainer, station by station.

    Attributes:
        latency: in flight over latency.
        bandwidth: bytes/s over bytes; infinite for local files.
        client: what the event loop can fetch, on cores that it shares with decoding.
        decode: what all decoding threads together can unpack.
    """

    latency: float
    bandwidth: float
    client: float
    decode: float

    @property
    def slowest(self) -> float:
        """Volumes/s of the slowest station."""
        return min(self.latency, self.bandwidth, self.client, self.decode)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes a run holds.

    Attributes:
        device_bytes: on the device: weights, optimiser, a batch and what its backward pass needs, the driver.
        fixed_bytes: the part of it that no batch size changes.
        batch_volume_bytes: the part of it that each volume of a batch adds.
        read_ahead_bytes: in the machine's memory, decoded and waiting.
    """

    device_bytes: float
    fixed_bytes: float
    batch_volume_bytes: float
    read_ahead_bytes: float


def step_speed(
    device: Device,
    assumed: Assumed,
    work: StepWork,
    *,
    encoder: str,
    precision: Precision,
    num_voxels: int,
    batch_volumes: float,
    draws_views: bool,
    embeds_twice: bool = False,
) -> StepSpeed:
    """Speed of a training step.

    Measured: (step_ms + views_ms or scale_ms) * voxels / 96^3 + step_overhead_ms / volumes of a batch, with any
    `step_ms` in the device's table.
    Derived: max(device, host), where, with F the flop of a volume and S the bytes saved for its backward pass,

        device = F / (peak * flops_fraction) + (traffic_factor * S + view_passes * 4 * voxels) / (bandwidth * fraction)
        host   = host_us_per_volume + host_ms_per_step / volumes of a batch

    Gradient caching embeds every volume twice: both are multiplied by 1 + forward_share.

    Raises:
        UsageError: the device has neither a measured step nor published values for this encoder and precision.
    """
    repeats = 1 + assumed.forward_share if embeds_twice else 1.0
    measured = device.step_ms.get(encoder, {}).get(precision)
    if measured is not None:
        step_ms = measured + (device.views_ms if draws_views else device.scale_ms)
        volume_ms = step_ms * num_voxels / EDGE**3 + device.step_overhead_ms / batch_volumes
        return StepSpeed(repeats * volume_ms / 1e3, "measured")
    peak = device.float32_tflops if precision == "float32" else device.tensor_tflops
    if peak is None or device.bandwidth_gb_s is None:
        raise UsageError(
            f"the table has no training step of {encoder} in {precision} on {device.name}; measure it with "
            f"benchmarks/encoder_step.py and give step_ms.{encoder}.{precision} in a --price-table file"
        )
    traffic = assumed.traffic_factor * work.saved_bytes + assumed.view_passes * 4 * num_voxels
    device_s = work.flop / (peak * 1e12 * assumed.flops_fraction)
    device_s += traffic / (device.bandwidth_gb_s * 1e9 * assumed.bandwidth_fraction)
    host_s = assumed.host_us_per_volume / 1e6 + assumed.host_ms_per_step / 1e3 / batch_volumes
    return StepSpeed(repeats * max(device_s, host_s), "derived")


def mean_latency(probe: Probe, network: Network) -> Range:
    """Mean seconds of a read with its 95 % interval by Student's t; the table's own latency, if given, has none.

    Little's law takes the mean, not the median: a slow request is one of those in flight for as long as it takes.
    """
    if network.latency_ms is not None:
        given = network.latency_ms / 1e3
        return Range(given, given, given)
    seconds = np.array(probe.latency_s)
    mean = float(seconds.mean())
    if len(seconds) < 2:
        return Range(mean, mean, mean)
    reach = (
        float(stats.t.ppf((1 + CONFIDENCE) / 2, len(seconds) - 1)) * float(seconds.std(ddof=1)) / len(seconds) ** 0.5
    )
    return Range(mean, max(mean - reach, float(seconds.min())), mean + reach)


def supply(probe: Probe, network: Network, *, latency_s: float, in_flight: int, num_cores: int) -> Supply:
    """What the stream can deliver at a latency; local files are not held against the network's bandwidth."""
    threads = min(decode_threads(num_cores) if probe.is_async else PLAIN_THREADS, num_cores)
    at_once = in_flight if probe.is_async else PLAIN_THREADS
    fetch_s, decode_s = max(probe.typical_fetch_cpu_s, _CLOCK_S), probe.typical_decode_s
    loops = 1 if probe.is_async else threads
    is_near = probe.protocol in ("file", "memory")
    return Supply(
        latency=at_once / latency_s,
        bandwidth=float("inf") if is_near else network.bandwidth_mb_s * 1e6 / probe.bytes_per_volume,
        client=min(loops / fetch_s, num_cores / (fetch_s + decode_s)),
        decode=threads / decode_s,
    )


def limit_of(reach: Supply, demand: float) -> Limit:
    """The station that sets the pace; compute where nothing is slower."""
    if reach.slowest >= demand:
        return "compute"
    stations: dict[Limit, float] = {
        "network latency": reach.latency,
        "network bandwidth": reach.bandwidth,
        "client": reach.client,
        "decode": reach.decode,
    }
    return min(stations, key=lambda station: stations[station])


def utilisation(reach: Supply, demand: float) -> float:
    """AU = min(1, supply / demand)."""
    return min(1.0, reach.slowest / demand)


def run_seconds(workload: Workload, reach: Supply, assumed: Assumed, *, demand: float, latency_s: float) -> float:
    """Wall time of a run: start-up, training, filling the pipeline once an epoch, and embedding.

    Embedding (validation each epoch, training and validation subjects once at the end) costs `forward_share` of a
    training step a volume.
    """
    delivered = reach.slowest
    training_s = workload.training_volumes / min(delivered, demand)
    filling_s = workload.epochs * (latency_s + workload.largest_batch / delivered)
    embedding_s = workload.embedded_volumes / min(delivered, demand / assumed.forward_share)
    return assumed.startup_s + training_s + filling_s + embedding_s


def needed_memory(
    work: StepWork,
    workload: Workload,
    assumed: Assumed,
    *,
    num_voxels: int,
    itemsize: int,
    in_flight: int,
    cache_chunk: int = 0,
) -> Memory:
    """Bytes of a training step.

    fixed  = 16 * parameters + 3 float volumes of noise + context
    volume = stored voxels + float32 view + activation_factor * saved for the backward pass

    With gradient caching only `cache_chunk` volumes have anything saved, and that part of them is fixed.
    """
    fixed = ADAMW_BYTES * work.num_parameters + 3 * 4 * num_voxels + assumed.context_gb * 1e9
    volume, saved = (itemsize + 4.0) * num_voxels, assumed.activation_factor * work.saved_bytes
    if 0 < cache_chunk < workload.largest_batch:
        fixed += cache_chunk * saved
    else:
        volume += saved
    return Memory(
        device_bytes=fixed + workload.largest_batch * volume,
        fixed_bytes=fixed,
        batch_volume_bytes=volume,
        read_ahead_bytes=max(READ_AHEAD * in_flight, 2 * workload.largest_batch) * float(itemsize * num_voxels),
    )


def largest_batch_size(memory: Memory, limit_bytes: float, scans_per_subject: int) -> int:
    """Subjects of the largest batch that the device's memory holds; 0 when not even one fits."""
    return max(0, int((limit_bytes - memory.fixed_bytes) / memory.batch_volume_bytes / scans_per_subject))


def in_flight_for(demand: float, latency_s: float) -> int:
    """Requests at once that keep a demand supplied (Little's law), rounded up to a multiple of 32."""
    return int(-(-demand * latency_s // 32) * 32)
