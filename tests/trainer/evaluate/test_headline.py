"""The headline takes its numbers from metrics and controls, and is None where nothing was measured."""

from preprocess.manifest import Flagged
from trainer.evaluate.headline import headline
from trainer.metrics.evaluation import ControlResult, Evaluation, Metric, SplitCount


def evaluation(**metrics: Metric) -> Evaluation:
    ridge = ControlResult(name="tissue_ridge", scores={"macro_f1": Metric(value=0.8, num=10)})
    return Evaluation(
        run_uri="run", recipe="change", fingerprint="0", splits={"test": SplitCount(subjects=1, scans=2)},
        metrics=metrics, controls=(ridge,) if metrics else (),
        flagged={"noise": Flagged(share=0.97, num=32)} if metrics else {},
    )  # fmt: skip


def test_numbers_have_the_names_that_programs_ask_for() -> None:
    found = headline(
        evaluation(
            macro_f1=Metric(value=0.9, low=0.8, high=0.95, num=10),
            calibration_error=Metric(value=0.03, num=10),
            told_change_spearman=Metric(value=0.97, num=10),
        )
    )
    assert found["macro_f1"] == 0.9
    assert found["macro_f1_interval"] == [0.8, 0.95]
    assert (found["ece"], found["ece_interval"]) == (0.03, None)
    assert found["atrophy_spearman"] == 0.97
    assert found["tissue_ridge_macro_f1"] == 0.8
    assert found["flagged"] == {"noise": {"share": 0.97, "num": 32}}


def test_what_was_not_measured_is_none() -> None:
    found = headline(evaluation())
    assert found.pop("flagged") == {}
    assert set(found.values()) == {None}
