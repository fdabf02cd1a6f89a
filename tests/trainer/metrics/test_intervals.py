"""The interval covers the truth as often as it says, follows subjects, not rows, and admits when it knows nothing."""

import numpy as np
import pytest
from scipy import stats

from trainer.metrics.intervals import MIN_SUBJECTS, cluster_bootstrap


def test_interval_covers_the_true_mean_about_as_often_as_asked() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        subjects = np.repeat(np.arange(30), 4)
        values = np.repeat(generator.normal(size=30), 4) + 0.3 * generator.normal(size=120)
        found = cluster_bootstrap(lambda rows, v=values: v[rows].mean(), subjects, seed=trial, num_resamples=300)
        covered += found.low <= 0 <= found.high
    # Binomial(200, 0.95) lies in 180..198 with probability above 0.999; resampling rows would cover near 0.68.
    assert 178 <= covered <= 199


def test_interval_of_independent_rows_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=80)
    ours = cluster_bootstrap(lambda rows: values[rows].mean(), np.arange(80), seed=0, num_resamples=4000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.02), pytest.approx(theirs.high, abs=0.02))
    assert ours.value == pytest.approx(values.mean())
    assert (ours.num_subjects, ours.note) == (80, "")


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(2).normal(size=40)

    def run(seed: int) -> tuple[float, float]:
        found = cluster_bootstrap(lambda rows: values[rows].mean(), np.arange(40) // 2, seed=seed, num_resamples=200)
        return found.low, found.high

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_copies_of_a_subjects_rows_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(3).normal(size=25)
    once = cluster_bootstrap(lambda rows: values[rows].mean(), np.arange(25), seed=0, num_resamples=500)
    many = np.repeat(values, 40)
    often = cluster_bootstrap(lambda rows: many[rows].mean(), np.repeat(np.arange(25), 40), seed=0, num_resamples=500)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_every_resample_holds_whole_subjects() -> None:
    subjects = np.array(["b", "a", "c", "a", "d", "e", "b", "a"])
    sizes = {name: int((subjects == name).sum()) for name in subjects}
    seen = []

    def statistic(rows: np.ndarray) -> float:
        names, counts = np.unique(subjects[rows], return_counts=True)
        assert all(count % sizes[name] == 0 for name, count in zip(names, counts, strict=True))
        seen.append(sum(count // sizes[name] for name, count in zip(names, counts, strict=True)))
        return float(len(rows))

    cluster_bootstrap(statistic, subjects, seed=0, num_resamples=50)
    assert seen == [5] * 51


def test_too_few_subjects_have_a_value_but_no_interval() -> None:
    few = cluster_bootstrap(lambda rows: float(rows.mean()), np.repeat(np.arange(MIN_SUBJECTS - 1), 50), seed=0)
    assert (few.value, few.low, few.high, few.num_subjects) == (pytest.approx(99.5), None, None, 4)
    assert few.note == "4 subjects; an interval needs at least 5"
    enough = cluster_bootstrap(lambda rows: float(rows.mean()), np.arange(MIN_SUBJECTS), seed=0)
    assert enough.low is not None


def test_statistic_undefined_too_often_has_no_interval() -> None:
    def needs_row_zero(rows: np.ndarray) -> float | None:
        return 1.0 if 0 in rows else None

    found = cluster_bootstrap(needs_row_zero, np.arange(20), seed=0, num_resamples=400)
    # A subject is missing from a resample of 20 with probability 0.95**20 = 0.36.
    assert found.value == 1
    assert found.low is None
    assert found.note.startswith("undefined in 3")


def test_undefined_statistic_has_no_value() -> None:
    found = cluster_bootstrap(lambda _: float("nan"), np.arange(9), seed=0)
    assert (found.value, found.low, found.note) == (None, None, "not defined on these rows")


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        cluster_bootstrap(lambda rows: 0.0, [], seed=0)


def test_no_resamples_give_the_value_alone_and_never_ask_for_a_resample() -> None:
    requested = []

    def mean(rows: np.ndarray) -> float:
        requested.append(rows)
        return float(rows.mean())

    interval = cluster_bootstrap(mean, np.arange(8), seed=0, num_resamples=0)
    assert (interval.value, interval.low, interval.high, interval.num_subjects) == (3.5, None, None, 8)
    assert interval.note == "no interval was asked for"
    assert len(requested) == 1
