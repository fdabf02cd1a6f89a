"""The table names the limit and a remedy that works; the verb refuses with exit code 2 after it has shown the table."""

import dataclasses
import json
from pathlib import Path

import pytest

from interscan.cli import run as interscan
from preprocess.storage import Location
from tests.support.cohorts import recipe_toml, tiny_recipe, write_store
from trainer.plan.estimate import Range, Supply, limit_of, utilisation
from trainer.plan.hardware import load_hardware
from trainer.plan.predict import predict_run
from trainer.plan.prediction import Prediction
from trainer.plan.report import plan_text, remedy


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return predict_run(tiny_recipe(), write_store(tmp_path_factory.mktemp("store")), load_hardware(), "a100")


def limited(prediction: Prediction, reach: Supply, *, is_async: bool = True) -> Prediction:
    """The prediction with other stations before a device of 1,000 volumes/s, at 100 ms a read."""
    return dataclasses.replace(
        prediction,
        probe=dataclasses.replace(prediction.probe, is_async=is_async, num_bytes=(200_000,)),
        speed=dataclasses.replace(prediction.speed, seconds_per_volume=1e-3),
        latency_s=Range(0.1, 0.1, 0.1),
        reach=reach,
        limit=limit_of(reach, 1000),
        au=Range(utilisation(reach, 1000), 0, 1),
    )


@pytest.mark.parametrize(
    ("reach", "is_async", "words"),
    [
        (Supply(640, 5000, 9000, 4000), True, "raise data.in_flight to 128: 1,000 volumes/s would arrive"),
        (
            Supply(640, 750, 9000, 4000),
            True,
            "raise data.in_flight to 96: 750 volumes/s would arrive, utilisation 0.75",
        ),
        (
            Supply(640, 5000, 900, 4000),
            True,
            "raise data.in_flight to 96: 900 volumes/s would arrive, utilisation 0.90",
        ),
        (Supply(640, 650, 9000, 4000), True, "next limit, network bandwidth, at 650 volumes/s: 200 MB/s would keep"),
        (Supply(950, 5000, 9000, 4000), True, "next limit, compute, at 1,000 volumes/s"),
        (Supply(640, 5000, 9000, 4000), False, "a faster disk"),
        (Supply(5000, 500, 9000, 4000), True, "200 MB/s would keep the device busy"),
        (Supply(5000, 5000, 300, 4000), True, "one event loop fetches everything"),
        (Supply(5000, 5000, 9000, 300), True, "decoding takes all cores"),
        (Supply(5000, 5000, 9000, 4000), True, "only a faster --gpu or encoder shortens the run"),
    ],
)
def test_each_limit_has_its_remedy(prediction: Prediction, reach: Supply, is_async: bool, words: str) -> None:
    assert words in remedy(limited(prediction, reach, is_async=is_async))


def test_the_table_shows_what_is_decided_on(prediction: Prediction) -> None:
    shown = plan_text(limited(prediction, Supply(640, 5000, 9000, 4000)), None)
    lines = {line.split("  ")[0]: line for line in shown.split("assumed:")[0].splitlines()}
    assert "0.64" in lines["utilisation (AU)"]
    assert "limited by network latency" in lines["speed"]
    assert (
        "latency 640, bandwidth 5,000, client 9,000, decode 4,000, compute 1,000 volumes/s (derived)"
        in lines["stations"]
    )
    assert f"{prediction.workload.num_requests:,} requests" in lines["reads"]
    assert "fits" in lines["memory"]
    assert "GB stay on the device after the first epoch" in lines["memory"]
    assert "list price of 2025-03-06" in lines["cost, google"]
    assert "raise data.in_flight" in lines["verdict"]
    assert "not measured" in shown.split("assumed:")[1]


def test_long_runs_are_told_in_hours_and_unknown_prices_as_such(prediction: Prediction) -> None:
    assert "3.00 hours (2.00 to 4.00)" in plan_text(dataclasses.replace(prediction, hours=Range(3, 2, 4)), None)
    nameless = dataclasses.replace(prediction, gpu="l4", device=load_hardware().device("l4"))
    assert "no price of this device" in plan_text(nameless, None)
    assert "stay on the device" not in plan_text(dataclasses.replace(prediction, may_stay=False), None)
    on_google = dataclasses.replace(prediction, storage=load_hardware().storage["gs"])
    assert "outside the bucket's region" in plan_text(on_google, None)


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, str]:
    """A store and a recipe file."""
    (tmp_path / "tiny.toml").write_text(recipe_toml(tiny_recipe()))
    return write_store(tmp_path / "store").location.uri, str(tmp_path / "tiny.toml")


def test_the_verb_prints_one_object_or_a_table(written: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, recipe = written
    before = Location(store).names()
    assert interscan(["plan", store, recipe, "--gpu", "h100", "--set", "optim.epochs=4", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["gpu"] == "h100"
    assert len(printed["volumes_per_epoch"]) == 4
    assert interscan(["plan", store, recipe]) == 0
    assert capsys.readouterr().out.startswith("device ")
    assert Location(store).names() == before


def test_a_refused_plan_is_shown_and_then_named_in_one_line(
    written: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, recipe = written
    table = tmp_path / "small.toml"
    table.write_text("[devices.a100]\nmemory_gb = 0.6005\n")
    assert interscan(["plan", store, recipe, "--gpu", "a100", "--price-table", str(table), "--json"]) == 2
    printed = capsys.readouterr()
    assert "GB, NVIDIA A100 40 GB has 0.6" in json.loads(printed.out)["refusal"]
    assert printed.err.startswith("interscan: the largest batch of ")
    assert printed.err.count("\n") == 1
    assert interscan(["plan", store, recipe, "--gpu", "a100", "--hours-limit", "0.001"]) == 2
    assert "--hours-limit is 0.001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--gpu", "a1000"], 2, "did you mean 'a100'"),
        (["--price-table", "none.toml"], 2, "none.toml"),
        (["--set", "sed=1"], 2, "did you mean 'seed'?"),
    ],
)
def test_a_wrong_command_is_one_line(
    written: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert interscan(["plan", *written, *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err
