"""Score statistics see training subjects only, and terms become objectives with them."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import StoreError, UsageError
from tests.support.cohorts import MODALITY, TinyScan, tiny_recipe, write_store
from tests.support.visits import ARRAYS, write_visits
from trainer.data.cohort import Cohort, read_cohort
from trainer.fit import context
from trainer.fit.context import build_objectives, score_statistics, training_cohort, two_classes, with_threshold
from trainer.objectives.base import ScoreStatistics
from trainer.objectives.clinimcl import InfoNce
from trainer.objectives.joint import FittedFusionBce, FusionBce
from trainer.objectives.learner import FittedLearner, Learner
from trainer.recipe import DataRecipe, TrainRecipe

MMSE = TrainRecipe(name="any").outcome


def cohort_of(folder: Path, scores: list[float | None]) -> Cohort:
    scans = [TinyScan(f"s{number}", "a", 0.0, score) for number, score in enumerate(scores)]
    return read_cohort(write_store(folder, scans), MODALITY, "mmse")


def test_statistics_are_numpys_over_the_known_scores(tmp_path: Path) -> None:
    statistics = score_statistics(cohort_of(tmp_path, [20.0, None, 29.0, 11.5]))
    known = np.array([20.0, 29.0, 11.5])
    assert statistics is not None
    assert statistics.to_dict() == pytest.approx({"mean": known.mean(), "sd": known.std(), "range": 17.5})


@pytest.mark.parametrize("scores", [[None, None], [20.0, None], [20.0, 20.0, None]])
def test_without_two_different_scores_there_are_no_statistics(tmp_path: Path, scores: list[float | None]) -> None:
    assert score_statistics(cohort_of(tmp_path, scores)) is None


def test_held_out_scores_change_nothing(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [20.0, 25.0, 1000.0])
    statistics = score_statistics(cohort.of_subjects({"s0", "s1"}))
    assert statistics == ScoreStatistics(22.5, 2.5, 5.0)


def test_terms_become_objectives_with_the_outcomes_threshold_unless_they_have_their_own() -> None:
    statistics = ScoreStatistics(22.5, 2.5, 5.0)
    terms = [
        InfoNce(weight=0.5, temperature=0.1),
        Learner(variant="weighted", weight=2.0, contrast_weight=0.3, margin=0.8),
        Learner(threshold=7.0),
    ]
    first, second, third = build_objectives(terms, statistics, outcome=MMSE)
    assert first == InfoNce(weight=0.5, temperature=0.1)
    assert second == FittedLearner(
        weight=2.0,
        variant="weighted",
        contrast_weight=0.3,
        margin=0.8,
        threshold=2.0,
        score_mean=22.5,
        score_sd=2.5,
        score_range=5.0,
    )
    assert isinstance(third, FittedLearner)
    assert third.threshold == 7.0


def test_learner_without_scores_is_refused_and_info_nce_is_not() -> None:
    with pytest.raises(UsageError, match=r"learner needs scores .* no two different mmse scores; .*clinimcl"):
        build_objectives([Learner()], None, outcome=MMSE)
    assert len(build_objectives([InfoNce()], None, outcome=MMSE)) == 1


def test_a_recipe_reads_the_scans_of_its_modality_or_the_visits_with_its_modalities(tmp_path: Path) -> None:
    assert context.cohort_of(write_store(tmp_path / "scans"), DataRecipe(), "mmse").present_NM is None
    visits = context.cohort_of(write_visits(tmp_path / "visits"), DataRecipe(modalities=tuple(ARRAYS)), "impaired")
    assert visits.present_NM is not None
    assert visits.present_NM.shape == (24, 4)


def test_two_classes_are_the_only_two_scores_the_higher_one_positive() -> None:
    assert two_classes(np.array([3.0, np.nan, 1.0, 3.0])) == (1.0, 3.0)
    assert two_classes(np.array([3.0, np.nan])) is None
    assert two_classes(np.array([1.0, 2.0, 3.0])) is None
    statistics = ScoreStatistics(2.0, 1.0, 2.0)
    (term,) = build_objectives([FusionBce()], statistics, outcome=MMSE, classes=(1.0, 3.0))
    assert term == FittedFusionBce(weight=1.0, positive=3.0)


def visits_of(folder: Path, scores: list[list[float | None]]) -> Cohort:
    scans = [
        TinyScan(f"s{subject}", f"v{visit}", 100.0 * visit, score)
        for subject, visits in enumerate(scores)
        for visit, score in enumerate(visits)
    ]
    return read_cohort(write_store(folder, scans), MODALITY, "mmse")


def test_a_fixed_threshold_stays_and_tertiles_replace_it_with_their_source(tmp_path: Path) -> None:
    # Changes 1, 3 and 6; -4 and 9; none that is known; one visit.
    cohort = visits_of(tmp_path, [[10.0, 11.0, 14.0, 8.0], [20.0, 16.0, 25.0], [5.0, None, 9.0], [30.0]])
    fixed = TrainRecipe(name="any")
    assert with_threshold(fixed, cohort) is fixed
    tertiles = TrainRecipe(name="any", head={"threshold": "tertiles"})
    found = with_threshold(tertiles, cohort)
    # Of 1, 3, 4, 6, 9 the share below 4 is 2 / 5, and below 3 it is 1 / 5, which is farther from 1 / 3.
    assert found.outcome.threshold == 4.0
    assert found.outcome.source == "tertiles of 5 training pairs of 2 subjects"
    assert found.outcome.name == fixed.outcome.name
    assert with_threshold(found, cohort) == found
    assert found.model_copy(update={"outcome": fixed.outcome}) == tertiles


def test_tertiles_of_no_pairs_are_refused_in_one_line(tmp_path: Path) -> None:
    tertiles = TrainRecipe(name="any", head={"threshold": "tertiles"})
    with pytest.raises(UsageError, match="the 2 training subjects have 0 pairs of consecutive visits with mmse"):
        with_threshold(tertiles, visits_of(tmp_path, [[5.0], [6.0, None]]))


def test_a_recipe_that_needs_no_score_is_trained_without_the_one_that_is_not_there(tmp_path: Path) -> None:
    store = write_store(tmp_path)  # has mmse alone
    recipe = tiny_recipe(objective=[{"name": "info_nce"}])
    plain = recipe.model_copy(update={"outcome": recipe.outcome.model_copy(update={"name": "cdr"})})
    plain.model_fields_set.discard("outcome")
    cohort = training_cohort(store, plain)
    assert len(cohort) > 0
    assert np.isnan(cohort.scores_N).all()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"objective": [{"name": "learner", "variant": "regressed"}]}, "objective learner needs it"),
        ({"objective": [{"name": "info_nce"}]}, "the recipe names it"),
    ],
)
def test_a_score_that_is_needed_and_not_there_is_refused_with_those_there_are(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    outcome = {"name": "cdr", "higher_is_better": False, "threshold": 0.5}
    with pytest.raises(StoreError, match=rf"no outcome 'cdr' in the index, and {why}; it has mmse: set outcome\.name"):
        training_cohort(write_store(tmp_path), tiny_recipe(**changes, outcome=outcome))
