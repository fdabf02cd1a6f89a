"""The model against numbers worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from preprocess.errors import UsageError
from trainer.plan.estimate import (
    Memory,
    Supply,
    in_flight_for,
    largest_batch_size,
    limit_of,
    mean_latency,
    needed_memory,
    run_seconds,
    step_speed,
    supply,
    utilisation,
)
from trainer.plan.hardware import Assumed, Device, Network
from trainer.plan.probe import Probe
from trainer.plan.workload import StepWork, Workload

NETWORK = Network(bandwidth_mb_s=100, source="by hand")
ASSUMED = Assumed(
    flops_fraction=0.1,
    bandwidth_fraction=0.5,
    traffic_factor=5,
    view_passes=8,
    host_us_per_volume=100,
    host_ms_per_step=1,
    forward_share=0.25,
    activation_factor=1.5,
    derived_within=2,
    context_gb=0.5,
    startup_s=10,
    source="by hand",
)
PROBE = Probe(
    latency_s=(0.03, 0.05, 0.04),
    fetch_cpu_s=(0.002, 0.0004, 0.0004),
    num_bytes=(190_000, 210_000, 200_000),
    decode_s=(0.001, 0.0005, 0.0005),
    is_async=True,
    protocol="gs",
)
WORK = StepWork(num_parameters=1_000_000, flop=2e9, saved_bytes=20e6)
WORKLOAD = Workload((400, 600), 100, 2, 20, 50, 150, np.arange(400))
DEVICE = Device(
    name="by hand", basis="derived", source="none", tensor_tflops=100, float32_tflops=10, bandwidth_gb_s=1000
)


def speed(
    device: Device,
    precision: str = "bfloat16",
    *,
    voxels: int = 1_000_000,
    views: bool = True,
    embeds_twice: bool = False,
) -> float:
    return step_speed(
        device,
        ASSUMED,
        WORK,
        encoder="fast",
        precision=precision,
        num_voxels=voxels,
        batch_volumes=16,
        draws_views=views,
        embeds_twice=embeds_twice,
    ).seconds_per_volume


def test_supply_is_that_of_three_stations() -> None:
    reach = supply(PROBE, NETWORK, latency_s=0.04, in_flight=64, num_cores=8)
    assert reach.latency == pytest.approx(1600)  # 64 / 40 ms
    assert reach.bandwidth == pytest.approx(500)  # 100 MB/s / 200 kB
    assert reach.client == pytest.approx(2500)  # one loop of 0.4 ms
    assert reach.decode == pytest.approx(14000)  # 7 threads of 0.5 ms, the loop has the eighth core
    assert reach.slowest == pytest.approx(500)
    lonely = supply(PROBE, NETWORK, latency_s=0.04, in_flight=64, num_cores=1)
    assert lonely.decode == pytest.approx(2000)
    assert lonely.client == pytest.approx(1 / 0.0009)  # the one core does both


def test_local_files_are_read_by_four_threads_without_a_network() -> None:
    local = dataclasses.replace(PROBE, is_async=False, protocol="file")
    reach = supply(local, NETWORK, latency_s=0.04, in_flight=64, num_cores=8)
    assert reach.latency == pytest.approx(100)
    assert math.isinf(reach.bandwidth)
    assert reach.client == pytest.approx(8 / 0.0009)
    assert reach.decode == pytest.approx(8000)
    # A clock that saw nothing is no infinite speed.
    instant = dataclasses.replace(local, fetch_cpu_s=(0.0, 0.0, 0.0))
    assert supply(instant, NETWORK, latency_s=0.04, in_flight=64, num_cores=8).client < 1e5


@pytest.mark.parametrize(
    ("reach", "demand", "limit", "au"),
    [
        (Supply(1600, 500, 9000, 4000), 1000, "network bandwidth", 0.5),
        (Supply(250, 500, 9000, 4000), 1000, "network latency", 0.25),
        (Supply(1600, 1500, 700, 4000), 1000, "client", 0.7),
        (Supply(1600, 1500, 9000, 400), 1000, "decode", 0.4),
        (Supply(1600, 1500, 1300, 1400), 1000, "compute", 1.0),
        (Supply(1000, 1000, 1000, 1000), 1000, "compute", 1.0),
    ],
)
def test_the_slowest_station_is_the_limit(reach: Supply, demand: float, limit: str, au: float) -> None:
    assert limit_of(reach, demand) == limit
    assert utilisation(reach, demand) == pytest.approx(au)


def test_the_latency_interval_is_that_of_scipy() -> None:
    wide = dataclasses.replace(PROBE, latency_s=(0.030, 0.034, 0.038, 0.032, 0.036, 0.034))
    latency = mean_latency(wide, NETWORK)
    seconds = np.array(wide.latency_s)
    low, high = stats.t.interval(0.95, 5, loc=seconds.mean(), scale=stats.sem(seconds))
    assert (latency.expected, latency.low, latency.high) == pytest.approx((seconds.mean(), low, high))
    # A mean cannot lie below the fastest read of all.
    assert mean_latency(PROBE, NETWORK).low == pytest.approx(0.03)


def test_one_row_gives_no_interval_and_a_given_latency_wins() -> None:
    one = dataclasses.replace(PROBE, latency_s=(0.07,))
    assert dataclasses.astuple(mean_latency(one, NETWORK)) == (0.07, 0.07, 0.07)
    given = Network(bandwidth_mb_s=1, latency_ms=5, source="measured in the region")
    assert dataclasses.astuple(mean_latency(PROBE, given)) == (0.005, 0.005, 0.005)


def test_a_derived_step_is_arithmetic_and_memory_or_the_host() -> None:
    # 2 GFLOP / 10 TFLOPS = 0.2 ms; (5 * 20 MB + 8 * 4 MB) / 500 GB/s = 0.264 ms
    assert speed(DEVICE) == pytest.approx(0.464e-3)
    # A tenth of the peak in float32: 2 ms
    assert speed(DEVICE, "float32") == pytest.approx(2.264e-3)
    # The host launches in 0.1 ms a volume and 1 ms / 16
    fast = DEVICE.model_copy(update={"tensor_tflops": 1000.0})
    faster = fast.model_copy(update={"bandwidth_gb_s": 10_000.0})
    assert speed(faster) == pytest.approx(0.1625e-3)


def test_a_measured_step_wins_and_scales_by_voxels() -> None:
    measured = DEVICE.model_copy(update={"step_ms": {"fast": {"bfloat16": 4.0}}, "views_ms": 3.0, "scale_ms": 1.0})
    assert speed(measured, voxels=96**3) == pytest.approx(7e-3)
    assert speed(measured, voxels=96**3, views=False) == pytest.approx(5e-3)
    assert speed(measured, voxels=48**3) == pytest.approx(7e-3 / 8)
    with_overhead = measured.model_copy(update={"step_overhead_ms": 16.0})
    assert speed(with_overhead, voxels=48**3) == pytest.approx(7e-3 / 8 + 1e-3)
    assert speed(measured, "float32") == pytest.approx(2.264e-3)


def test_a_device_without_any_value_is_refused() -> None:
    bare = Device(name="bare", basis="measured", source="none", step_ms={"fast": {"bfloat16": 4.0}})
    with pytest.raises(UsageError, match=r"no training step of fast in float32 on bare; .*step_ms\.fast\.float32"):
        speed(bare, "float32")


def test_seconds_of_a_run_add_up() -> None:
    reach = Supply(500, 1000, 1000, 1000)
    # 10 + 1000 / 200 + 2 * (0.04 + 20 / 500) + (2 * 50 + 150) / min(500, 200 / 0.25)
    assert run_seconds(WORKLOAD, reach, ASSUMED, demand=200, latency_s=0.04) == pytest.approx(10 + 5 + 0.16 + 0.5)
    # Starved: 1000 / 100, and embedding waits as well.
    starved = run_seconds(WORKLOAD, Supply(100, 1000, 1000, 1000), ASSUMED, demand=200, latency_s=0.04)
    assert starved == pytest.approx(10 + 10 + 2 * (0.04 + 0.2) + 2.5)


def test_memory_adds_up() -> None:
    memory = needed_memory(WORK, WORKLOAD, ASSUMED, num_voxels=1_000_000, itemsize=1, in_flight=64)
    assert memory.fixed_bytes == pytest.approx(16e6 + 12e6 + 0.5e9)
    assert memory.batch_volume_bytes == pytest.approx(1e6 + 4e6 + 30e6)
    assert memory.device_bytes == pytest.approx(528e6 + 20 * 35e6)
    assert memory.read_ahead_bytes == pytest.approx(128e6)


def test_gradient_caching_takes_time_for_memory() -> None:
    cached = needed_memory(WORK, WORKLOAD, ASSUMED, num_voxels=1_000_000, itemsize=1, in_flight=64, cache_chunk=4)
    assert cached.device_bytes == pytest.approx(528e6 + 4 * 30e6 + 20 * 5e6)
    whole = needed_memory(WORK, WORKLOAD, ASSUMED, num_voxels=1_000_000, itemsize=1, in_flight=64, cache_chunk=20)
    assert whole.device_bytes == pytest.approx(528e6 + 20 * 35e6)
    assert speed(DEVICE, embeds_twice=True) == pytest.approx(1.25 * 0.464e-3)


def test_the_largest_batch_is_the_one_that_just_fits() -> None:
    memory = Memory(device_bytes=0, fixed_bytes=100, batch_volume_bytes=10, read_ahead_bytes=0)
    assert largest_batch_size(memory, 199, 2) == 4
    assert largest_batch_size(memory, 200, 2) == 5
    assert largest_batch_size(memory, 50, 2) == 0


def test_requests_in_flight_follow_littles_law() -> None:
    assert in_flight_for(1000, 0.1) == 128
    assert in_flight_for(1280, 0.1) == 128
    assert in_flight_for(1290, 0.1) == 160
