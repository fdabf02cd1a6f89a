"""Tasks are scored on held-out subjects by probes that see training subjects only; oracles are scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from trainer.data.cohort import Cohort
from trainer.evaluate.tasks import Embedded, normal_score, stranger_correlation, task_metrics
from trainer.recipe import load_recipe


def embedded(scores: np.ndarray, *, signal: float, seed: int, first: int = 0) -> Embedded:
    """Two scans a subject; the score lies along one axis of the embedding."""
    draws = np.random.default_rng(seed)
    count = len(scores)
    embeddings = draws.normal(size=(count, 6))
    embeddings[:, 0] += signal * np.nan_to_num(scores)
    cohort = Cohort(
        np.arange(count),
        tuple(f"s{first + index // 2}" for index in range(count)),
        np.zeros(count),
        scores.astype(float),
        ("",) * count,
        tuple(map(str, range(count))),
    )
    return Embedded(cohort, embeddings.astype(np.float32))


def parts(kind: str, *, signal: float) -> list[Embedded]:
    draws = np.random.default_rng(4)
    sizes = (160, 60, 80)
    scores = [draws.integers(0, 4, size) if kind == "severity" else draws.normal(70, 8, size) for size in sizes]
    return [embedded(one, signal=signal, seed=at, first=1000 * at) for at, one in enumerate(scores)]


def test_a_score_in_the_embedding_is_read_within_its_noise_and_chance_is_the_median() -> None:
    training, validation, held = parts("regression", signal=1.0)
    found = task_metrics("regression", training, validation, held, normal=0.0, seed=0)
    true, median = held.cohort.scores_N, np.median(training.cohort.scores_N)
    assert found["probe_mae"].value == pytest.approx(0.8, abs=0.2)  # E|N(0, 1)|: the noise of that axis
    assert found["probe_mae"].chance == pytest.approx(np.abs(true - median).mean())
    assert found["probe_spearman"].value is not None
    assert found["probe_spearman"].value > 0.95
    assert found["probe_mse"].num == 80


def test_scans_without_a_score_are_left_out_of_probe_and_metrics() -> None:
    training, validation, held = parts("regression", signal=1.0)
    held.cohort.scores_N[:10] = np.nan
    training.cohort.scores_N[::7] = np.nan
    found = task_metrics("regression", training, validation, held, normal=0.0, seed=0)
    assert found["probe_mae"].num == 70


def test_severity_is_told_by_a_head_and_ordered_by_the_distance_from_normal() -> None:
    training, validation, held = parts("severity", signal=6.0)
    found = task_metrics("severity", training, validation, held, normal=0.0, seed=0)
    assert found["severity_macro_f1"].value is not None
    assert found["severity_macro_f1"].value > 0.85
    assert found["severity_maee"].value is not None
    assert 1 <= found["severity_maee"].value < 1.4
    normals = training.embeddings_NE[training.cohort.scores_N == 0].mean(axis=0)
    cosine = held.embeddings_NE @ normals / np.linalg.norm(held.embeddings_NE, axis=1) / np.linalg.norm(normals)
    grade = held.cohort.scores_N
    assert found["severity_tau_b"].value == pytest.approx(stats.kendalltau(1 - cosine, grade).statistic, abs=1e-6)
    assert found["severity_auc_abnormal"].value == pytest.approx(roc_auc_score(grade > 0, 1 - cosine), abs=1e-6)


def test_without_signal_a_head_for_grades_is_at_chance() -> None:
    found = task_metrics("severity", *parts("severity", signal=0.0), normal=0.0, seed=0)
    metric = found["severity_macro_f1"]
    assert metric.low is not None
    assert metric.chance is not None
    assert metric.low < metric.chance + 0.1


def test_grades_need_not_begin_at_zero_nor_be_whole_steps() -> None:
    first, second = (parts("severity", signal=6.0) for _ in range(2))
    for one in second:
        one.cohort.scores_N[:] = one.cohort.scores_N * 2.5 + 10
    plain = task_metrics("severity", *first, normal=0.0, seed=0)
    moved = task_metrics("severity", *second, normal=10.0, seed=0)
    assert {name: metric.value for name, metric in plain.items()} == {name: m.value for name, m in moved.items()}


def test_distance_follows_the_difference_between_people_only_where_the_embedding_holds_the_score() -> None:
    _, _, held = parts("regression", signal=1.0)
    shifted = Embedded(held.cohort, held.embeddings_NE - np.float32(70) * np.eye(6, dtype=np.float32)[0] + 40)
    followed = stranger_correlation(shifted, seed=0).value
    _, _, blind = parts("regression", signal=0.0)
    unrelated = stranger_correlation(blind, seed=0).value
    assert followed is not None
    assert unrelated is not None
    assert followed > 0.5 > abs(unrelated)


@pytest.mark.parametrize(
    ("recipe", "settings", "normal"),
    [
        ("conpro", (), 0.0),
        ("conpro", ("phase.0.objective.0.normal=1", "phase.1.objective.0.normal=1"), 1.0),
        ("supcon", (), 0.0),
        ("supcon", ("objective.0.normal=2",), 2.0),
        ("simclr", (), 0.0),
    ],
)
def test_normal_is_what_the_objectives_call_so_and_0_where_none_does(
    recipe: str, settings: tuple[str, ...], normal: float
) -> None:
    assert normal_score(load_recipe(recipe, settings)) == normal
