"""The manifest says of data and evaluation what the store and metrics.json say, and names nobody."""

from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, write_store
from trainer.export.description import describe_controls, describe_data, describe_metric
from trainer.metrics.evaluation import ControlResult, Evaluation, Metric


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store")


def named(store: Store, *cohorts: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, as if its scans were of these cohorts in turn."""
    records = [replace(one, cohort=cohorts[number % len(cohorts)]) for number, one in enumerate(store.records)]
    monkeypatch.setattr(type(store), "records", property(lambda self: records))
    return store


def test_scans_without_the_name_of_a_cohort_are_not_said_to_be_synthetic(store: Store) -> None:
    found = describe_data(store, MODALITY)
    assert (found.cohorts, found.is_synthetic) == ((), None)
    assert found.num_scans == sum(scan.present for scan in default_scans())


@pytest.mark.parametrize(
    ("cohorts", "is_synthetic"),
    [
        (("Synthetic longitudinal brain cohort",), True),
        (("Synthetic longitudinal brain cohort", "IXI"), None),
        (("Synthetic longitudinal brain cohort", ""), None),
        (("Photosynthetic leaves",), None),
    ],
)
def test_a_store_is_synthetic_only_if_every_cohort_says_so(
    store: Store, cohorts: tuple[str, ...], is_synthetic: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = describe_data(named(store, *cohorts, monkeypatch=monkeypatch), MODALITY)
    assert found.is_synthetic is is_synthetic
    assert found.cohorts == tuple(sorted(name for name in cohorts if name))


def test_the_generated_brain_cohort_is_told_by_the_name_it_gives_itself() -> None:
    from interscan.synthetic.brain.bids import text_files
    from interscan.synthetic.brain.plan import describe_brain_cohort

    plan = describe_brain_cohort(num_subjects=1, num_visits=1)
    volumes = {(one.subject_id, session.session_id): 1.0 for one in plan for session in one.sessions}
    assert '"Name": "Synthetic ' in text_files(plan, volumes, num_visits=1)["dataset_description.json"]


def test_controls_keep_their_figures() -> None:
    lead = Metric(value=0.3, low=0.1, high=0.5, num=40)
    evaluation = Evaluation(
        run_uri="run",
        recipe="demo",
        fingerprint="f",
        splits={},
        metrics={},
        controls=(
            ControlResult(name="scanner", scores={"macro_f1": Metric(value=0.4, num=40)}, lead=lead),
            ControlResult(name="shuffled_labels", scores={"macro_f1": Metric(value=None, num=0)}, p_value=0.01),
        ),
    )
    scanner, shuffled = describe_controls(evaluation)
    assert scanner.macro_f1 is not None
    assert scanner.lead is not None
    assert (scanner.macro_f1.value, scanner.lead.low, scanner.lead.high) == (0.4, 0.1, 0.5)
    assert (shuffled.macro_f1, shuffled.p_value) == (None, 0.01)
    assert describe_metric(None) is None
