"""The table is whole and dated, names the nearest device, and gives way to the user's own."""

import datetime
from pathlib import Path

import pytest

from preprocess.errors import UsageError
from trainer.plan.hardware import load_hardware


def table(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_derived_device_has_the_values_it_is_derived_from() -> None:
    devices = load_hardware().devices
    for name, device in devices.items():
        if device.basis == "derived":
            assert device.memory_gb is not None, name
            assert device.tensor_tflops is not None, name
            assert device.float32_tflops is not None, name
            assert device.bandwidth_gb_s is not None, name
            assert device.tensor_tflops > device.float32_tflops, name
        else:
            assert device.step_ms, name
        assert device.source


def test_every_price_has_a_source_and_a_date_that_has_been() -> None:
    hardware = load_hardware()
    prices = [price for device in hardware.devices.values() for price in device.prices.values()]
    assert len(prices) >= 5
    for price in [*prices, *hardware.storage.values()]:
        assert price.source
        assert datetime.date(2024, 1, 1) < price.date <= hardware.date


@pytest.mark.parametrize(("wrong", "near"), [("a10", "a100"), ("A100", "a100"), ("h1000", "h100"), ("cpuu", "cpu")])
def test_an_unknown_device_is_answered_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"--gpu {wrong}: no such device in the table; did you mean '{near}'"):
        load_hardware().device(wrong)


def test_a_device_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"known: cpu, t4, .*h100 \(--price-table"):
        load_hardware().device("zzz")


def test_a_price_table_replaces_single_values_and_leaves_the_rest(tmp_path: Path) -> None:
    own = load_hardware()
    path = table(
        tmp_path,
        "network.bandwidth_mb_s = 50\n"
        "[devices.a100.step_ms]\nfast = { bfloat16 = 0.25 }\n"
        "[devices.a100.prices.google]\nusd_per_hour = 1.5\n"
        "[devices.a100.prices.ours]\nmachine = 'in the cellar'\nusd_per_hour = 0.2\n"
        "date = 2026-01-02\nsource = 'the bill'\n",
    )
    merged = load_hardware(path)
    assert merged.network.bandwidth_mb_s == 50
    assert merged.network.source == own.network.source
    a100 = merged.device("a100")
    assert a100.step_ms == {"fast": {"bfloat16": 0.25}}
    assert a100.prices["google"].usd_per_hour == 1.5
    assert a100.prices["google"].machine == own.device("a100").prices["google"].machine
    assert a100.prices["ours"].machine == "in the cellar"
    assert a100.prices["aws"] == own.device("a100").prices["aws"]
    assert merged.device("h100") == own.device("h100")


def test_a_price_table_can_add_a_device(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "[devices.b9]\nname = 'B9'\nbasis = 'measured'\nsource = 'ours'\nmemory_gb = 1\n"
        "step_ms = { fast = { bfloat16 = 1 } }",
    )
    assert load_hardware(path).device("b9").memory_gb == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[devices.a100]\nmemry_gb = 3\n", "did you mean 'memory_gb'"),
        ("[devices.a100]\nmemory_gb = -3\n", "memory_gb"),
        ("[devices.a100.prices.google]\nusd_per_hours = 3\n", "did you mean 'usd_per_hour'"),
        ("[storage.gs]\nusd_per_gb = 3\n", "did you mean 'usd_per_gb_out'"),
        ("[devices.new]\nname = 'x'\n", "devices.new: basis"),
        ("devices = 3\n", "devices"),
        ("no toml", "not a TOML file"),
    ],
)
def test_a_price_table_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_hardware(table(tmp_path, text))


def test_a_missing_price_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_hardware(str(tmp_path / "none.toml"))
