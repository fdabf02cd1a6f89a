"""Retrieval, distances and visit order agree with loops over every pair; chance agrees with simulation."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, cosine

from trainer.metrics import embedding_space
from trainer.metrics.embedding_space import (
    between_distances,
    consecutive_visits,
    embedding_spread,
    same_subject_hits,
    same_subject_retrieval,
    within_between,
)


def cohort(seed: int, num_subjects: int = 12, spread: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subjects with 1 to 4 visits; every third subject's first visit is scanned twice."""
    generator = np.random.default_rng(seed)
    rows = []
    for subject in range(num_subjects):
        centre = generator.normal(size=8)
        days = np.cumsum(generator.integers(100, 500, 1 + subject % 4)).tolist()
        days += days[:1] if subject % 3 == 0 else []
        rows += [(f"sub-{subject:02}", day, centre + spread * generator.normal(size=8)) for day in days]
    order = generator.permutation(len(rows))
    ids, days, vectors = zip(*(rows[index] for index in order), strict=True)
    return np.array(vectors), np.array(ids), np.array(days, dtype=float)


@pytest.mark.parametrize("seed", range(4))
def test_retrieval_equals_a_loop_over_every_query(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_space, "QUERIES_AT_ONCE", 7)
    vectors, ids, days = cohort(seed)
    hits, chances = [], []
    for query in range(len(ids)):
        gallery = [
            other
            for other in range(len(ids))
            if other != query and not (ids[other] == ids[query] and days[other] == days[query])
        ]
        same = [ids[other] == ids[query] for other in gallery]
        if any(same):
            nearest = int(np.argmin([cosine(vectors[query], vectors[other]) for other in gallery]))
            hits.append(same[nearest])
            chances.append(np.mean(same))
    result = same_subject_retrieval(vectors, ids, days)
    assert (result.value, result.chance, result.num) == (
        pytest.approx(np.mean(hits)),
        pytest.approx(np.mean(chances)),
        len(hits),
    )


def test_chance_is_what_embeddings_without_meaning_reach() -> None:
    _, ids, days = cohort(5)
    generator = np.random.default_rng(0)
    reached = [same_subject_retrieval(generator.normal(size=(len(ids), 6)), ids, days).value for _ in range(800)]
    result = same_subject_retrieval(generator.normal(size=(len(ids), 6)), ids, days)
    assert np.mean(reached) == pytest.approx(result.chance, abs=4 * np.std(reached) / np.sqrt(800))
    assert result.chance != pytest.approx(1 / len(ids), rel=0.2)


def test_a_collapsed_model_scores_exactly_chance_whatever_the_order_of_rows() -> None:
    _, ids, days = cohort(6)
    alike = np.tile([0.3, -1.7, 2.2], (len(ids), 1)) + 1e-12 * np.random.default_rng(0).normal(size=(len(ids), 3))
    result = same_subject_retrieval(alike, np.sort(ids), days)
    assert result.value == pytest.approx(result.chance)


def test_the_twin_of_the_same_day_makes_retrieval_trivial_only_when_it_is_left_in() -> None:
    generator = np.random.default_rng(2)
    scans = np.repeat(generator.normal(size=(20, 16)), 2, axis=0)
    ids, days = np.repeat([f"sub-{n // 2}" for n in range(20)], 2), np.repeat(np.arange(20.0), 2)
    # Without days each scan is a visit of its own, and its twin is in the gallery.
    assert same_subject_retrieval(scans, ids).value == 1
    assert same_subject_retrieval(scans, ids, days).value < 0.5


def test_scans_of_unknown_day_are_nobodys_twin() -> None:
    vectors, ids = np.eye(4)[[0, 0, 1, 1]], np.array(["a", "a", "b", "b"])
    assert same_subject_retrieval(vectors, ids, np.full(4, np.nan)).num == 4


def test_hits_name_the_row_of_each_query() -> None:
    vectors, ids, days = cohort(3)
    hits = same_subject_hits(vectors, ids, days)
    visits = {one: len(np.unique(days[ids == one])) for one in ids}
    assert hits.row_Q.tolist() == [row for row, one in enumerate(ids) if visits[one] > 1]


def test_distances_within_and_between_equal_those_of_scipy() -> None:
    vectors, ids, days = cohort(7)
    every = cdist(vectors, vectors, "cosine")
    between = [every[i, j] for i in range(len(ids)) for j in range(i) if ids[i] != ids[j]]
    within = []
    for i in range(len(ids)):
        later = [days[j] for j in range(len(ids)) if ids[j] == ids[i] and days[j] > days[i]]
        within += [every[i, j] for j in range(len(ids)) if later and ids[j] == ids[i] and days[j] == min(later)]
    result = within_between(vectors, ids, days)
    assert (result.within, result.between) == (pytest.approx(np.mean(within)), pytest.approx(np.mean(between)))
    assert result.ratio == pytest.approx(np.mean(within) / np.mean(between))
    assert (result.num_within, result.num_between) == (len(within), len(between))


def test_visits_are_ordered_by_day_and_repeats_of_a_day_are_not_change() -> None:
    ids, days = ["b", "a", "a", "a", "b", "a"], [5.0, 90.0, 10.0, 10.0, np.nan, 40.0]
    earlier, later = consecutive_visits(ids, days)
    assert list(zip(earlier.tolist(), later.tolist(), strict=True)) == [(2, 5), (3, 5), (5, 1)]


def test_random_pairs_between_subjects_have_the_mean_of_all_pairs() -> None:
    vectors, ids, days = cohort(8)
    drawn = between_distances(vectors, ids, num=40_000, seed=0)
    error = 4 * drawn.std() / np.sqrt(40_000)
    assert drawn.mean() == pytest.approx(within_between(vectors, ids, days).between, abs=error)
    assert np.array_equal(drawn, between_distances(vectors, ids, num=40_000, seed=0))
    # Nine scans of a, one each of b and c: of 19 pairs only b with c lies at distance 2.
    opposite = between_distances([[1, 0]] * 9 + [[0, 1], [0, -1]], ["a"] * 9 + ["b", "c"], num=40_000, seed=0)
    assert (opposite > 1.5).mean() == pytest.approx(1 / 19, abs=0.005)
    far = between_distances(np.eye(3)[[0, 0, 1, 2, 2, 2]], ["a", "a", "b", "c", "c", "c"], num=500, seed=1)
    assert far == pytest.approx(np.ones(500))


def test_spread_is_near_one_on_the_sphere_and_zero_after_collapse() -> None:
    generator = np.random.default_rng(0)
    assert embedding_spread(generator.normal(size=(2000, 32))) == pytest.approx(1, abs=0.02)
    assert embedding_spread(np.ones((10, 32))) == pytest.approx(0, abs=1e-12)
    one_direction = generator.normal(size=(500, 1)) * np.eye(32)[0] + 1e-3
    assert embedding_spread(one_direction) < 0.3


def test_collapse_leaves_no_ratio() -> None:
    assert within_between(np.ones((4, 3)), ["a", "a", "b", "b"], [0, 1, 0, 1]).ratio is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: same_subject_retrieval(np.eye(3), ["a", "b", "c"]), "two visits"),
        (lambda: same_subject_retrieval(np.eye(2), ["a", "a"], [0, 0]), "two visits"),
        (lambda: same_subject_retrieval(np.eye(3), ["a", "b"]), "one each"),
        (lambda: within_between(np.eye(2), ["a", "b"], [0, 1]), "two visits"),
        (lambda: within_between(np.eye(2), ["a", "a"], [0, 1]), "one subject"),
        (lambda: between_distances(np.eye(2), ["a", "a"], num=1, seed=0), "one subject"),
        (lambda: embedding_spread([[1.0, 0.0], [0.0, 0.0]]), "first at row 1"),
        (lambda: embedding_spread([[1.0, np.nan]]), "not finite"),
        (lambda: embedding_spread([1.0, 2.0]), r"must be \(N, E\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
