"""Metrics of answers: against scikit-learn, and prediction sets by thresholds of other people."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs
from trainer.evaluate.answers import answer_metrics
from trainer.evaluate.turns import Answers, Turn
from trainer.fit.run_files import ChangeSummary, HeadSummary
from trainer.metrics.evaluation import Metric


def turn(num_people: int, name: str, seed: int) -> Turn:
    """One pair a person: what is told is the truth and a little noise."""
    draws = np.random.default_rng(seed)
    true_P = draws.choice([-4.0, 0.0, 4.0], size=num_people)
    told_P = true_P + draws.normal(size=num_people)
    labels_P = np.where(true_P > 2, 0, np.where(true_P < -2, 2, 1))
    logits_P3 = -((told_P[:, None] - np.array([4.0, 0.0, -4.0])) ** 2) / 4
    probabilities_P3 = np.exp(logits_P3) / np.exp(logits_P3).sum(axis=1, keepdims=True)
    people = tuple(f"{name}{number}" for number in range(num_people) for _ in range(2))
    cohort = Cohort(
        rows_N=np.arange(2 * num_people),
        subject_ids=people,
        days_N=np.tile([0.0, 365.0], num_people),
        scores_N=np.stack([np.full(num_people, 20.0), 20.0 + true_P], axis=1).ravel(),
        scanners=("A", "A", "A", "B") * (num_people // 2),
        sessions=("1", "2") * num_people,
    )
    earlier_P = np.arange(0, 2 * num_people, 2)
    pairs = Pairs(earlier_P, earlier_P + 1, np.full(num_people, 365.0), true_P, labels_P)
    return Turn(frozenset(), cohort, pairs, probabilities_P3, told_P)


ANSWERS = Answers((turn(60, "train", 0), turn(40, "test", 1)))
HEAD = HeadSummary(
    temperature=1.0, l2=0.0, num_train=0, num_validation=100,
    change=ChangeSummary(
        num_people=100, gain=1.0, error_sd=1.0, least_probability=(0.3, 0.3, 0.3), coverage=0.9, noise_changes=(),
        log_loss=0.3, base_rate_log_loss=1.1,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Metric]:
    return answer_metrics(ANSWERS, HEAD, seed=0, num_resamples=100)


def test_numbers_are_those_of_scikit_learn_over_the_pairs_of_all_turns(found: dict[str, Metric]) -> None:
    labels_P, probabilities_P3 = ANSWERS.labels_P, ANSWERS.probabilities_P3
    assert found["macro_f1"].value == pytest.approx(f1_score(labels_P, probabilities_P3.argmax(1), average="macro"))
    assert found["log_loss"].value == pytest.approx(log_loss(labels_P, probabilities_P3))
    frequency = np.bincount(labels_P) / 100
    assert found["base_rate_log_loss"].value == pytest.approx(log_loss(labels_P, np.tile(frequency, (100, 1))))
    assert found["macro_f1"].num == 100
    assert found["macro_f1"].num_subjects == 100
    assert found["same_scanner_macro_f1"].num == found["changed_scanner_macro_f1"].num == 50


def test_what_is_told_is_compared_with_the_truth_in_points(found: dict[str, Metric]) -> None:
    told_P, true_P = ANSWERS.improvements_P, ANSWERS.delta_P
    assert told_P is not None
    slope = np.linalg.lstsq(true_P[:, None], told_P, rcond=None)[0][0]
    assert found["told_change_slope"].value == pytest.approx(slope)
    assert found["told_change_error"].value == pytest.approx(np.sqrt(np.mean((told_P - true_P) ** 2)))
    low, high = found["told_change_slope"].low, found["told_change_slope"].high
    assert low is not None
    assert high is not None
    assert low < slope < high


def test_sets_hold_the_truth_about_as_often_as_promised(found: dict[str, Metric]) -> None:
    assert found["coverage"].value == pytest.approx(0.9, abs=0.1)
    size, several = found["prediction_set_size"].value, found["several_answers_fraction"].value
    assert size is not None
    assert several is not None
    assert 1 <= size <= 1 + 2 * several


def test_a_head_on_embeddings_has_no_sets_and_tells_no_points() -> None:
    bare = answer_metrics(ANSWERS, HEAD.model_copy(update={"change": None}), seed=0, num_resamples=0)
    assert not {"coverage", "told_change_slope"} & bare.keys()
    assert "macro_f1" in bare


def test_a_change_between_two_scanners_is_decided_only_beyond_the_floor_of_two_scanners() -> None:
    assert HEAD.change is not None

    def undecided(**changes: tuple[float, ...]) -> float:
        change = HEAD.change.model_copy(update=changes)
        metrics = answer_metrics(ANSWERS, HEAD.model_copy(update={"change": change}), seed=0, num_resamples=0)
        value, several = metrics["undecided_fraction"].value, metrics["several_answers_fraction"].value
        assert value is not None
        assert several is not None
        return value - several

    some, huge = (0.001,) * 20, (99.0,) * 20
    is_change_P = ANSWERS.probabilities_P3.argmax(axis=1) != 1
    others_P = ANSWERS.table().scanner_earlier != ANSWERS.table().scanner_later

    assert undecided(noise_changes=some) == undecided(noise_changes=some, other_scanner_errors=huge[:19]) == 0
    # A change on two scanners is undecided whatever the set says; some of them are so by their set already.
    added = undecided(noise_changes=some, other_scanner_errors=huge)
    assert 0 < added <= (is_change_P & others_P).mean()
    # The floor of rescans counts on two scanners too, where it is the larger one.
    assert undecided(noise_changes=huge, other_scanner_errors=some) > added
