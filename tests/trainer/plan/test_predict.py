"""A prediction for a store: slow networks limit it, and nothing but metadata and the probe is read."""

from pathlib import Path

import pytest

from preprocess.errors import StoreError, UsageError
from tests.support.cohorts import tiny_recipe, write_store
from tests.trainer.plan.conftest import SlowStore
from trainer.plan.hardware import load_hardware
from trainer.plan.predict import predict_run
from trainer.plan.probe import PROBE_ROWS


def test_a_slow_network_is_the_limit_and_leaves_the_device_waiting(slow_store: SlowStore) -> None:
    store, fs = slow_store(0.1)
    prediction = predict_run(tiny_recipe(data={"in_flight": 4}), store, load_hardware(), "a100")
    assert len(fs.requested) == PROBE_ROWS
    assert prediction.limit == "network latency"
    assert prediction.reach.latency <= 4 / 0.1
    assert prediction.au.expected < 0.05
    assert prediction.au.low <= prediction.au.expected <= prediction.au.high
    assert prediction.volumes_per_s.expected == pytest.approx(prediction.reach.latency)
    assert prediction.hours.low < prediction.hours.expected < prediction.hours.high
    # Training alone takes at least this long at 40 volumes/s.
    assert prediction.hours.low * 3600 > prediction.workload.training_volumes / 40


def test_more_requests_at_once_raise_the_utilisation_in_proportion(slow_store: SlowStore, tmp_path: Path) -> None:
    store, _ = slow_store(0.1)
    path = tmp_path / "given.toml"
    path.write_text("network.latency_ms = 200\n")
    hardware = load_hardware(str(path))
    few, many = (
        predict_run(tiny_recipe(data={"in_flight": in_flight}), store, hardware, "a100") for in_flight in (4, 8)
    )
    assert few.reach.latency == pytest.approx(20)
    assert many.au.expected == pytest.approx(2 * few.au.expected)


def test_a_fast_store_leaves_the_limit_to_a_slow_device(tmp_path: Path) -> None:
    path = tmp_path / "slow.toml"
    path.write_text("[devices.cpu]\nstep_overhead_ms = 0\nstep_ms = { reference = { float32 = 1e6 } }\n")
    prediction = predict_run(tiny_recipe(), write_store(tmp_path / "store"), load_hardware(str(path)), "cpu")
    assert prediction.limit == "compute"
    assert prediction.au.expected == prediction.au.low == 1.0
    # (1000 s + 3.2 ms of views) * 16^3 / 96^3
    assert prediction.demand == pytest.approx(6**3 / 1000.0032)


def test_the_precision_is_the_devices(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    hardware = load_hardware()
    automatic = tiny_recipe(precision="auto")
    assert predict_run(automatic, store, hardware, "t4").precision == "float16"
    assert predict_run(automatic, store, hardware, "a100").precision == "bfloat16"
    assert predict_run(tiny_recipe(), store, hardware, "a100").precision == "float32"
    assert predict_run(tiny_recipe(), store, hardware, "cpu").precision == "float32"


def test_a_recipe_for_cuda_is_not_planned_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gpu a100"):
        predict_run(tiny_recipe(device="cuda"), write_store(tmp_path), load_hardware(), "cpu")


def test_a_missing_row_is_found_before_money_is_spent(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    for name in store.location.names("volumes.zarr/T1w/c"):
        store.location.delete(name)
    with pytest.raises(StoreError, match="its object is missing"):
        predict_run(tiny_recipe(), store, load_hardware(), "a100")


def test_derived_speeds_widen_the_interval_and_measured_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[devices.a100.step_ms]\nreference = { float32 = 1e5 }\n[assumed]\nstartup_s = 0\n")
    store = write_store(tmp_path / "store")
    measured = predict_run(tiny_recipe(), store, load_hardware(str(path)), "a100")
    assert measured.speed.basis == "measured"
    assert measured.volumes_per_s.low == measured.volumes_per_s.high
    path.write_text("assumed.host_ms_per_step = 1e5\n")
    derived = predict_run(tiny_recipe(), store, load_hardware(str(path)), "a100")
    assert derived.speed.basis == "derived"
    assert derived.volumes_per_s.low == pytest.approx(derived.volumes_per_s.expected / 2)
    assert derived.volumes_per_s.high == pytest.approx(2 * derived.volumes_per_s.expected)
