"""Score statistics see training subjects only, and terms become objectives with them."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import UsageError
from tests.support.cohorts import MODALITY, TinyScan, write_store
from trainer.data.cohort import Cohort, read_cohort
from trainer.fit.context import ScoreStatistics, build_objectives, score_statistics
from trainer.objectives.terms import InfoNce, Learner
from trainer.recipe import TrainRecipe
from trainer.recipe_terms import InfoNceTerm, LearnerTerm

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
        InfoNceTerm(name="info_nce", weight=0.5, temperature=0.1),
        LearnerTerm(name="learner", variant="weighted", weight=2.0, contrast_weight=0.3, margin=0.8),
        LearnerTerm(name="learner", threshold=7.0),
    ]
    first, second, third = build_objectives(terms, statistics, outcome=MMSE)
    assert first == InfoNce(weight=0.5, temperature=0.1)
    assert second == Learner(
        weight=2.0,
        variant="weighted",
        contrast_weight=0.3,
        margin=0.8,
        threshold=2.0,
        score_mean=22.5,
        score_sd=2.5,
        score_range=5.0,
    )
    assert isinstance(third, Learner)
    assert third.threshold == 7.0


def test_learner_without_scores_is_refused_and_info_nce_is_not() -> None:
    with pytest.raises(UsageError, match=r"learner needs scores .* no two different mmse scores; .*clinimcl"):
        build_objectives([LearnerTerm(name="learner")], None, outcome=MMSE)
    assert len(build_objectives([InfoNceTerm(name="info_nce")], None, outcome=MMSE)) == 1
