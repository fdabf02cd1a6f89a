"""What is measured at export: exact properties stop a broken model, all others are stated with their limits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from preprocess.errors import ArtefactError
from preprocess.manifest import FEW_NOISE_PAIRS, Guarantee
from preprocess.storage import Location
from preprocess.types import PROGRESSIONS
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.pairs import visit_pairs
from trainer.encoders.change_head import ChangeHead
from trainer.export.guarantees import guarantee_lines, measure_guarantees
from trainer.export.perturbations import PERTURBATIONS
from trainer.fit.change import calibrate
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.train import train_run
from trainer.fit.trained import PairModel, Trained, load_trained

EXACT = {"identity", "identity_answer", "antisymmetry", "additivity"}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run with a head on predicted scores."""
    folder = tmp_path_factory.mktemp("changed")
    store = write_store(folder / "store", default_scans(num_subjects=48, odd=False))
    recipe = tiny_recipe(
        objective=[{"name": "learner", "variant": "mse"}, {"name": "pair_change", "weight": 3.0}],
        head={"on": "score"},
        ensemble={"members": 2},
    )
    train_run(recipe, store, Location(folder / "run"), progress=lambda done, total: None)
    return Finished(store, recipe, folder / "run")


@pytest.fixture(scope="module")
def cohort(changed: Finished) -> Cohort:
    return read_cohort(changed.store, MODALITY, "mmse")


def with_floor(changed: Finished, floor: float) -> Trained:
    """The run's networks, as if their rescans had shown one noise floor."""
    trained = load_trained(changed.run, changed.store)
    head = trained.result.progression_head
    assert head is not None
    assert head.change is not None
    change = head.change.model_copy(update={"noise_changes": (floor,) * FEW_NOISE_PAIRS})
    result = trained.result.model_copy(update={"progression_head": head.model_copy(update={"change": change})})
    return replace(trained, result=result)


@pytest.fixture(scope="module")
def measured(changed: Finished, cohort: Cohort) -> dict[str, Guarantee]:
    found = measure_guarantees(with_floor(changed, 1e6), changed.store, cohort)
    return {one.name: one for one in found}


def test_every_property_is_measured_once(measured: dict[str, Guarantee]) -> None:
    assert measured.keys() == {
        *EXACT, *PERTURBATIONS, "slope", "spearman", "rescan_same_scanner", "rescan_answer", "smallest_change"
    }  # fmt: skip
    assert {name for name, one in measured.items() if one.is_exact} == EXACT
    assert all(measured[name].holds for name in EXACT)
    assert (measured["identity"].value, measured["antisymmetry"].value) == (0.0, 0.0)


def test_slope_and_rank_correlation_are_those_of_held_out_people(
    measured: dict[str, Guarantee], changed: Finished, cohort: Cohort
) -> None:
    trained = load_trained(changed.run, changed.store)
    held = cohort.of_subjects(changed.run.split.of("test"))
    embeddings_NE = embed_cohort(
        trained.encoder, changed.store, (MODALITY,), held, Compute(torch.device("cpu"), torch.float32)
    )
    pairs = visit_pairs(held, changed.recipe.outcome, which="consecutive").labelled()
    told_P = trained.improvements(embeddings_NE[pairs.later_P] - embeddings_NE[pairs.earlier_P])
    assert told_P is not None
    slope = np.linalg.lstsq(pairs.delta_P[:, None], told_P, rcond=None)[0][0]
    assert measured["slope"].value == pytest.approx(slope, rel=1e-6)
    assert measured["spearman"].value == pytest.approx(spearmanr(told_P, pairs.delta_P).statistic)
    assert measured["slope"].num == len(pairs)


def test_everything_lies_within_a_vast_floor_and_nothing_within_none(
    measured: dict[str, Guarantee], changed: Finished, cohort: Cohort
) -> None:
    none = {one.name: one for one in measure_guarantees(with_floor(changed, 0.0), changed.store, cohort)}
    for name in (*PERTURBATIONS, "rescan_same_scanner"):
        assert measured[name].value == 1.0, name
        assert none[name].value == 0.0, name
        assert not none[name].holds
        assert none[name].typical is not None
        assert none[name].typical > 0


def test_the_smallest_change_is_the_floor_and_nine_tenths_of_the_error(changed: Finished, cohort: Cohort) -> None:
    trained = with_floor(changed, 2.0)
    found = {one.name: one for one in measure_guarantees(trained, changed.store, cohort)}["smallest_change"]
    assert trained.result.progression_head is not None
    change = trained.result.progression_head.change
    assert change is not None
    draws = found.value + change.error_sd * np.random.default_rng(0).normal(size=200_000)
    assert (draws > 2.0).mean() == pytest.approx(0.9, abs=0.005)
    assert found.holds is None


def test_without_a_noise_floor_what_needs_one_is_left_out(changed: Finished, cohort: Cohort) -> None:
    trained = with_floor(changed, 1.0)
    assert trained.result.progression_head is not None
    change = trained.result.progression_head.change
    assert change is not None
    few = change.model_copy(update={"noise_changes": (1.0,) * (FEW_NOISE_PAIRS - 1)})
    head = trained.result.progression_head.model_copy(update={"change": few})
    trained = replace(trained, result=trained.result.model_copy(update={"progression_head": head}))
    found = {one.name for one in measure_guarantees(trained, changed.store, cohort)}
    assert found == {*EXACT, "slope", "spearman"}
    assert few.noise_floor is None


def test_a_head_on_embeddings_is_held_to_identity_and_antisymmetry(finished: Finished) -> None:
    trained = load_trained(finished.run, finished.store)
    cohort = read_cohort(finished.store, MODALITY, "mmse")
    found = {one.name: one for one in measure_guarantees(trained, finished.store, cohort)}
    assert found.keys() == {"identity", "identity_answer", "antisymmetry"}
    assert found["identity"].is_exact
    assert not found["identity_answer"].is_exact


@pytest.fixture
def lopsided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that prefers one order of the two scans by a little."""
    plain = PairModel.judge

    def judge(self: PairModel, differences_BE: torch.Tensor) -> torch.Tensor:
        probabilities_B3 = plain(self, differences_BE)
        return probabilities_B3 + torch.tensor([1e-6, 0.0, 0.0])

    monkeypatch.setattr(PairModel, "judge", judge)


@pytest.mark.usefixtures("lopsided")
def test_a_broken_exact_property_stops_the_export_in_one_line(
    evaluated: Finished, changed: Finished, cohort: Cohort, tmp_path: Path
) -> None:
    from trainer.export.artefact import export_run

    with pytest.raises(ArtefactError, match=r"antisymmetry breaks: .*, wanted at most 0; nothing was exported") as got:
        measure_guarantees(load_trained(changed.run, changed.store), changed.store, cohort)
    assert "\n" not in str(got.value)
    with pytest.raises(ArtefactError, match="antisymmetry breaks"):
        export_run(evaluated.run, Location(tmp_path / "artefact"))
    assert not (tmp_path / "artefact").exists()


def test_a_head_that_answers_changed_without_a_change_is_refused(changed: Finished, cohort: Cohort) -> None:
    trained = load_trained(changed.run, changed.store)
    assert isinstance(trained.head, ChangeHead)
    trained.head.offset.fill_(0.1)
    with pytest.raises(ArtefactError, match="identity_answer breaks"):
        measure_guarantees(trained, changed.store, cohort)


def test_scans_without_a_difference_are_answered_stable_even_where_nobody_was_stable() -> None:
    improvement_P = np.linspace(-1, 1, 24)
    labels_P = np.where(improvement_P > 0, PROGRESSIONS.index("improved"), PROGRESSIONS.index("declined"))
    people = [f"person {number // 2}" for number in range(24)]
    fitted = calibrate(improvement_P, labels_P, 3 * improvement_P, people)
    assert fitted.probabilities([0.0])[0].argmax() == PROGRESSIONS.index("stable")


def test_the_lines_name_what_does_not_hold_and_what_has_no_limit() -> None:
    good = Guarantee(name="identity", is_exact=True, value=0.0, at_most=0.0, num=8, how="change against itself")
    bad = Guarantee(name="slope", value=0.5, at_least=0.85, at_most=1.15, num=40, how="slope")
    free = Guarantee(name="smallest_change", value=4.25, unit="points", num=70, how="told beyond noise")
    assert guarantee_lines([good, bad, free]) == [
        "guarantees: 1 of 2 hold",
        "  does not hold: slope 0.5 (wanted 0.85 to 1.15, 40 cases)",
        "  smallest_change: 4.25 points",
    ]
    assert guarantee_lines([]) == []
    assert [one.wanted for one in (good, bad, free)] == ["at most 0", "0.85 to 1.15", ""]
