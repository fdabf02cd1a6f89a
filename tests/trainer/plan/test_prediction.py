"""Costs, refusals and the JSON of a prediction."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.support.cohorts import tiny_recipe, write_store
from trainer.plan.estimate import Memory, Range
from trainer.plan.hardware import load_hardware
from trainer.plan.predict import predict_run
from trainer.plan.prediction import Prediction

KEYS = {
    "gpu", "device", "precision", "au", "hours", "volumes_per_s", "limit", "network_latency_volumes_per_s",
    "network_bandwidth_volumes_per_s", "client_volumes_per_s",
    "decode_volumes_per_s", "compute_volumes_per_s", "compute_basis", "latency_ms",
    "bytes_per_volume", "volumes_per_epoch", "training_volumes", "embedded_volumes", "steps", "requests", "gb_moved",
    "compute_usd", "requests_usd", "egress_usd_if_out_of_region", "device_memory_gb", "device_memory_limit_gb",
    "read_ahead_gb", "cohort_gb", "stays_on_device", "max_batch_size", "probe_rows", "in_flight_needed", "refusal",
    "assumptions",
}  # fmt: skip


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return predict_run(tiny_recipe(), write_store(tmp_path_factory.mktemp("store")), load_hardware(), "a100")


def test_rent_is_hours_times_the_list_price_of_each_cloud(prediction: Prediction) -> None:
    day = dataclasses.replace(prediction, hours=Range(24, 12, 48))
    rent = day.compute_usd()
    assert set(rent) == {"google", "aws"}
    assert rent["google"].expected == pytest.approx(24 * 3.673385)
    assert rent["google"].high == pytest.approx(48 * 3.673385)
    assert rent["aws"].low == pytest.approx(12 * 2.7447)


def test_requests_and_egress_cost_what_the_bucket_charges(prediction: Prediction) -> None:
    assert prediction.requests_usd() is None
    assert prediction.egress_usd() is None
    on_google = dataclasses.replace(prediction, storage=load_hardware().storage["gs"])
    assert on_google.requests_usd() == pytest.approx(prediction.workload.num_requests * 0.0004 / 1000)
    assert on_google.gb_moved == pytest.approx(
        prediction.workload.num_requests * sum(prediction.probe.num_bytes) / len(prediction.probe.num_bytes) / 1e9
    )
    assert on_google.egress_usd() == pytest.approx(0.12 * on_google.gb_moved)


def test_a_batch_that_does_not_fit_is_refused_with_the_one_that_does(prediction: Prediction) -> None:
    assert prediction.refusal(None) is None
    memory = Memory(device_bytes=50e9, fixed_bytes=1e9, batch_volume_bytes=3e9, read_ahead_bytes=0)
    tight = dataclasses.replace(prediction, memory=memory)
    assert not tight.fits
    assert tight.max_batch_size == 6  # (40 - 1) / 3 volumes, by pairs
    refusal = tight.refusal(None)
    assert refusal is not None
    assert "needs 50.0 GB, NVIDIA A100 40 GB has 40.0; set data.batch_size to 6 or less" in refusal
    none = dataclasses.replace(tight, memory=dataclasses.replace(memory, batch_volume_bytes=30e9))
    assert "take a larger --gpu" in str(none.refusal(None))


def test_hours_beyond_the_limit_are_refused_by_the_upper_end(prediction: Prediction) -> None:
    long = dataclasses.replace(prediction, hours=Range(2, 1, 4))
    assert long.refusal(4) is None
    assert "the run may take 4 hours, --hours-limit is 3" in str(long.refusal(3))


def test_json_holds_every_key_and_no_infinity(prediction: Prediction) -> None:
    values = prediction.to_dict(None)
    assert set(values) == KEYS
    again = json.loads(json.dumps(values, allow_nan=False))
    assert again["hours"].keys() == {"expected", "low", "high"}
    assert again["network_bandwidth_volumes_per_s"] is None
    assert again["training_volumes"] == sum(again["volumes_per_epoch"])


def test_memory_of_a_device_without_its_own_is_this_machines(tmp_path: Path) -> None:
    on_cpu = predict_run(tiny_recipe(), write_store(tmp_path), load_hardware(), "cpu")
    kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
    assert on_cpu.memory_limit_bytes == pytest.approx(kilobytes * 1024, rel=1e-6)
    assert on_cpu.memory.fixed_bytes > on_cpu.memory.read_ahead_bytes


def test_a_cohort_that_fits_beside_training_stays_on_the_device(prediction: Prediction) -> None:
    assert prediction.stays_on_device
    assert prediction.cohort_bytes == prediction.workload.head_volumes * 16**3
    memory = Memory(device_bytes=20e9, fixed_bytes=1e9, batch_volume_bytes=1e9, read_ahead_bytes=0)
    # Of 40 GB a half more than the 20 of training is kept free.
    for cohort_bytes, stays in ((10e9, True), (10.1e9, False)):
        tight = dataclasses.replace(prediction, memory=memory, cohort_bytes=cohort_bytes)
        assert tight.stays_on_device is stays
        assert tight.to_dict(None)["stays_on_device"] is stays


@pytest.mark.parametrize("data", [{"resident": "host"}, {"resident": "none"}, {"max_left_out": 1}])
def test_a_recipe_may_say_that_nothing_stays(tmp_path: Path, data: dict[str, object]) -> None:
    store = write_store(tmp_path)
    assert not predict_run(tiny_recipe(data=data), store, load_hardware(), "a100").stays_on_device
    assert not predict_run(tiny_recipe(), store, load_hardware(), "cpu").stays_on_device
