"""metrics.json can be written and read back, and holds no number that was not measured."""

import json

import pydantic
import pytest

from trainer.metrics.evaluation import ControlResult, Evaluation, HistorySummary, Metric, SplitCount
from trainer.metrics.intervals import Interval


def test_an_evaluation_survives_json() -> None:
    evaluation = Evaluation(
        run_uri="gs://bucket/run",
        recipe="clinimcl",
        fingerprint="abc",
        splits={"test": SplitCount(subjects=40, scans=120, pairs=80)},
        metrics={"macro_f1": Metric(value=0.5, low=0.4, high=0.6, chance=0.33, num=80, num_subjects=40)},
        controls=(ControlResult(name="scanner", scores={"macro_f1": Metric(value=0.3, num=80)}),),
        history=HistorySummary(num_epochs=3, first_loss=2.7),
    )
    text = evaluation.model_dump_json()
    assert json.loads(text)["metrics"]["macro_f1"]["low"] == 0.4
    assert Evaluation.model_validate_json(text) == evaluation


def test_an_interval_becomes_a_metric_with_its_note() -> None:
    metric = Metric.from_interval(Interval(0.4, None, None, 3, "3 subjects; an interval needs at least 5"), num=7)
    assert (metric.value, metric.low, metric.num, metric.num_subjects) == (0.4, None, 7, 3)
    assert metric.note == "3 subjects; an interval needs at least 5"


@pytest.mark.parametrize(
    "fields", [{"value": float("nan"), "num": 1}, {"value": 1.0, "num": -1}, {"value": 1.0, "num": 1, "lowest": 0.0}]
)
def test_what_is_no_measurement_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Metric(**fields)


def test_results_cannot_be_changed_afterwards() -> None:
    metric = Metric(value=0.4, num=7)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        metric.value = 0.9
