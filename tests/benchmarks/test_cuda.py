"""The benchmark of a GPU runs whole on a CPU, refuses in one line without either, and its money is the table's."""

import json
import sys
from collections import namedtuple
from typing import Any

import pytest
import torch

from benchmarks import cuda
from benchmarks.cuda import ENCODERS, NO_DEVICE, QUICK, Sizes, dollars, name_in_table, time_steps
from benchmarks.device_step import StepCase
from trainer.fit.precision import Compute
from trainer.plan.hardware import load_hardware

EXACT = Compute(torch.device("cpu"), torch.float32)
Properties = namedtuple("Properties", "total_memory")


def test_without_a_gpu_it_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["cuda"])
    with pytest.raises(SystemExit) as left:
        cuda.main()
    said = capsys.readouterr()
    assert (left.value.code, said.out, said.err) == (2, "", f"{NO_DEVICE}\n")


def test_the_whole_benchmark_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda", "--device", "cpu", "--quick"])
    cuda.main()
    done = capsys.readouterr()
    result = json.loads(done.out)
    cases = {(one["encoder"], one["edge"], one["batch"], one["mode"]) for one in result["step"]}
    assert cases == {
        (encoder, edge, batch, mode)
        for encoder in ENCODERS
        for edge in QUICK.edges
        for batch in QUICK.batches
        for mode in ("eager", QUICK.backend)
    }
    for one in result["step"]:
        assert one["ms_per_volume"] >= one["least_ms_per_volume"] > 0
        assert one["predicted_ms_per_volume"] > 0
        assert one["predicted_gb"] > 0
    # What was read is counted, and does not depend on the machine.
    read = {(one["encoder"], one["resident"]): (one["requests"], one["device_hits"]) for one in result["bucket"]}
    assert read == {(encoder, "none"): (QUICK.rows, 0) for encoder in ENCODERS} | {
        (encoder, "auto"): (0, QUICK.rows) for encoder in ENCODERS
    }
    assert all(0 < one["au"] <= 1 for one in (*result["bucket"], result["published"]))
    assert all(one["predicted_au"] > 0 for one in result["bucket"] if one["resident"] == "none")
    assert set(result["ratio_to_published"]) == {"read anew", "on the device"}
    assert "| the published pipeline |" in done.err


def test_a_batch_that_does_not_fit_ends_its_row_and_no_larger_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def time(case: StepCase, compute: Compute, *, steps: int) -> dict[str, Any]:
        reported = {"encoder": case.encoder, "edge": case.edge, "batch": case.batch, "mode": case.backend or "eager"}
        fits = case.batch * case.edge**3 <= 16 * 96**3
        return reported | ({"ms_per_volume": 2.0, "peak_gb": 1.0} if fits else {"out_of_memory": True})

    monkeypatch.setattr(StepCase, "time", time)
    sizes = Sizes(edges=(32, 48), batches=(128, 256, 512), steps=1)
    found = time_steps(EXACT, sizes, load_hardware(None), "a100")
    fast = [one for one in found if one["encoder"] == "fast" and one["mode"] == "eager"]
    assert [(one["edge"], one["batch"], "out_of_memory" in one) for one in fast] == [
        (32, 128, False),
        (32, 256, False),
        (32, 512, True),
        (48, 128, False),
        (48, 256, True),
    ]


def test_a_thousand_volumes_cost_the_seconds_they_take_at_the_price_of_an_hour() -> None:
    hardware = load_hardware(None)
    hourly = hardware.devices["a100"].prices["google"].usd_per_hour
    # 1,000 volumes at 2 a second take 500 s.
    assert dollars(hardware, "a100", 2.0)["google"] == pytest.approx(hourly * 500 / 3600)
    assert dollars(hardware, "cpu", 2.0) == dollars(hardware, "", 2.0) == {}


@pytest.mark.parametrize(
    ("reported", "memory", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", 42.4e9, "a100"),
        ("NVIDIA A100-SXM4-80GB", 85.0e9, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 85.0e9, "h100"),
        ("NVIDIA L4", 24e9, "l4"),
        ("NVIDIA L40S", 48e9, ""),
        ("Tesla T4", 16e9, "t4"),
        ("Tesla V100-SXM2-16GB", 16e9, "v100"),
        ("NVIDIA GeForce RTX 3090", 24e9, ""),
    ],
)
def test_a_driver_s_name_finds_the_device_in_the_table(
    monkeypatch: pytest.MonkeyPatch, reported: str, memory: float, name: str
) -> None:
    monkeypatch.setattr(cuda.torch.cuda, "get_device_name", lambda device: reported)
    monkeypatch.setattr(cuda.torch.cuda, "get_device_properties", lambda device: Properties(memory))
    assert name_in_table(torch.device("cuda"), load_hardware(None)) == name
    assert name_in_table(torch.device("cpu"), load_hardware(None)) == "cpu"
