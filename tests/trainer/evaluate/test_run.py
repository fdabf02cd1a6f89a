"""What an evaluation states equals what numpy and scikit-learn make of the held-out embeddings, on any small cohort."""

import base64
import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from preprocess.errors import RunError, StorageError, StoreError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, TinyScan, default_scans, tiny_recipe, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import Cohort, read_cohort
from trainer.evaluate.run import FOLDER, METRICS_NAME, REPORT_NAME, evaluate_run
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import Trained, load_trained
from trainer.metrics.evaluation import Evaluation

THRESHOLD = 2.0


class Truth:
    """The held-out scans embedded one by one, and everything computed from them without the product's metrics."""

    def __init__(self, run: Run, store: Store) -> None:
        self.trained: Trained = load_trained(run, store)
        self.cohort: Cohort = read_cohort(store, MODALITY, "mmse").of_subjects(run.split.of("test"))
        stored = np.stack([store.read(int(row), MODALITY) for row in self.cohort.rows_N]).astype(np.float32) / 255
        with torch.no_grad():
            self.embeddings = self.trained.encoder(torch.from_numpy(stored)).double().numpy()
        self.unit = self.embeddings / np.linalg.norm(self.embeddings, axis=1, keepdims=True)
        self.visits: list[tuple[int, int]] = []
        for subject in dict.fromkeys(self.cohort.subject_ids):
            own = [index for index, name in enumerate(self.cohort.subject_ids) if name == subject]
            by_day = {self.cohort.days_N[p]: p for p in reversed(own) if not np.isnan(self.cohort.days_N[p])}
            indices = [by_day[day] for day in sorted(by_day)]
            self.visits += list(pairwise(indices))
        deltas = [self.cohort.scores_N[b] - self.cohort.scores_N[a] for a, b in self.visits]
        self.labelled = [(a, b, d) for (a, b), d in zip(self.visits, deltas, strict=True) if not np.isnan(d)]
        self.labels = np.array([0 if d >= THRESHOLD else 2 if d <= -THRESHOLD else 1 for _, _, d in self.labelled])

    def distance(self, first: int, second: int) -> float:
        return float(1 - self.unit[first] @ self.unit[second])


@pytest.fixture(scope="module")
def evaluation(evaluated: Finished) -> Evaluation:
    return Evaluation.model_validate_json(evaluated.run.location.read(METRICS_NAME))


@pytest.fixture(scope="module")
def truth(evaluated: Finished) -> Truth:
    return Truth(evaluated.run, evaluated.store)


def test_metrics_json_is_plain_json_with_the_documented_keys(evaluated: Finished) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(evaluated.run.location.read(METRICS_NAME), parse_constant=refuse)
    assert found["recipe"] == "tiny"
    assert found["fingerprint"] == evaluated.store.manifest.fingerprint
    assert {"retrieval_at_1", "within_distance", "between_distance", "noise_floor_95", "macro_f1", "mae", "log_loss",
            "change_correlation", "embedding_spread", "calibration_error"} <= found["metrics"].keys()  # fmt: skip
    assert {control["name"] for control in found["controls"]} == {
        "gap_days", "scanner", "majority", "shuffled_labels", "untrained"}  # fmt: skip


def test_the_held_out_subjects_are_all_and_only_those_never_trained_on(
    evaluated: Finished, evaluation: Evaluation, truth: Truth
) -> None:
    split = evaluated.run.split
    assert not (split.of("train") | split.of("validation")) & split.of("test")
    assert evaluation.split == "test"
    counted = evaluation.splits["test"]
    assert (counted.subjects, counted.scans) == (len(split.test), len(truth.cohort))
    assert counted.pairs == len(truth.labelled)
    assert evaluation.metrics["embedding_spread"].num == len(truth.cohort)
    assert evaluation.metrics["macro_f1"].num == len(truth.labelled)


def test_retrieval_is_a_brute_force_nearest_neighbour(evaluation: Evaluation, truth: Truth) -> None:
    cohort, hits, chances = truth.cohort, [], []
    for query in range(len(cohort)):
        same_day = [
            cohort.subject_ids[query] == cohort.subject_ids[one] and cohort.days_N[query] == cohort.days_N[one]
            for one in range(len(cohort))
        ]
        gallery = [one for one in range(len(cohort)) if one != query and not same_day[one]]
        own = [one for one in gallery if cohort.subject_ids[one] == cohort.subject_ids[query]]
        if own:
            nearest = min(gallery, key=lambda one: truth.distance(query, one))
            hits.append(nearest in own)
            chances.append(len(own) / len(gallery))
    metric = evaluation.metrics["retrieval_at_1"]
    assert metric.value == pytest.approx(np.mean(hits))
    assert metric.chance == pytest.approx(np.mean(chances))
    assert metric.num == len(hits)


def test_distances_and_noise_floor_are_those_of_the_listed_pairs(evaluation: Evaluation, truth: Truth) -> None:
    cohort = truth.cohort
    everyone = range(len(cohort))
    between = [
        truth.distance(a, b) for a in everyone for b in everyone if cohort.subject_ids[a] < cohort.subject_ids[b]
    ]
    rescans = [
        truth.distance(a, b)
        for a in everyone
        for b in everyone
        if a < b and cohort.subject_ids[a] == cohort.subject_ids[b] and cohort.days_N[a] == cohort.days_N[b]
    ]
    assert rescans
    found = evaluation.metrics
    assert found["between_distance"].value == pytest.approx(np.mean(between), rel=1e-3)
    assert found["noise_floor_95"].value == pytest.approx(np.quantile(rescans, 0.95), rel=0.05, abs=1e-7)
    assert found["noise_floor_median"].num == len(rescans)


def test_progression_metrics_are_scikit_learns(evaluation: Evaluation, truth: Truth) -> None:
    first, second, _ = map(list, zip(*truth.labelled, strict=True))
    probabilities = truth.trained.probabilities(truth.embeddings[second] - truth.embeddings[first])
    exact = probabilities.astype(np.float64)
    predicted, present = probabilities.argmax(axis=1), np.unique(truth.labels)
    found = evaluation.metrics
    assert found["macro_f1"].value == pytest.approx(
        f1_score(truth.labels, predicted, labels=present, average="macro", zero_division=0)
    )
    assert found["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth.labels, predicted))
    assert found["balanced_accuracy"].chance == pytest.approx(1 / len(present))
    assert found["log_loss"].value == pytest.approx(
        log_loss(truth.labels, exact / exact.sum(axis=1, keepdims=True), labels=[0, 1, 2]), rel=1e-3, abs=1e-5
    )


def test_score_metrics_are_numpys_and_scipys(evaluation: Evaluation, truth: Truth) -> None:
    predicted = truth.trained.predicted_scores(truth.embeddings)
    known = ~np.isnan(truth.cohort.scores_N)
    true = truth.cohort.scores_N[known]
    assert predicted is not None
    found = evaluation.metrics
    assert found["mae"].value == pytest.approx(np.abs(predicted[known] - true).mean(), rel=1e-4)
    mean = truth.trained.result.score_statistics.mean
    assert found["mae"].chance == pytest.approx(np.abs(true - mean).mean())
    assert found["spearman"].value == pytest.approx(spearmanr(predicted[known], true).statistic, abs=0.02)


def test_the_report_is_written_before_the_numbers(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    plain_write = run.location.write

    def write(name: str, data: bytes) -> None:
        if name == METRICS_NAME:
            assert run.location.exists(REPORT_NAME)
            raise StorageError(f"{name}: connection lost")
        plain_write(name, data)

    run.location.write = write
    with pytest.raises(StorageError):
        evaluate_run(run)
    assert run.location.exists(REPORT_NAME)
    assert not run.location.exists(METRICS_NAME)


def test_evaluating_again_gives_the_same_numbers(evaluated: Finished, evaluation: Evaluation) -> None:
    assert evaluate_run(evaluated.run) == evaluation


def test_an_unfinished_run_and_another_store_are_refused(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    other = write_store(tmp_path / "other", spacing_mm=9.0)
    with pytest.raises(StoreError, match=f"fingerprint {other.manifest.fingerprint}, expected"):
        evaluate_run(run, store_uri=other.location.uri)
    strangers = write_store(tmp_path / "strangers", [TinyScan("stranger", "a", 0.0, 20.0)])
    with pytest.raises(StoreError, match="no scan of the run's held-out subjects"):
        evaluate_run(run, store_uri=strangers.location.uri)
    run.location.delete("result.json")
    with pytest.raises(RunError, match="the run is not finished"):
        evaluate_run(run)


def evaluate_cohort(
    folder: Path, silent: Callable[[int, int], None], scans: list[TinyScan], **changes: Any
) -> Evaluation:
    store = write_store(folder / "store", scans)
    recipe = tiny_recipe(optim={"epochs": 1}, **changes)
    train_run(recipe, store, Location(folder / "run"), progress=silent)
    run = Run.open(Location(folder / "run"))
    evaluation = evaluate_run(run)
    assert b"</html>" in run.location.read(REPORT_NAME)
    return evaluation


def test_a_cohort_without_scores_is_evaluated_on_similarity_alone(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    scans = default_scans(with_scores=False)
    found = evaluate_cohort(tmp_path, silent, scans, objective=[{"name": "info_nce"}])
    assert "retrieval_at_1" in found.metrics
    assert not {"macro_f1", "mae", "change_correlation"} & found.metrics.keys()
    assert [control.name for control in found.controls] == ["untrained"]
    assert "macro_f1" not in found.controls[0].scores
    assert any("no progression head" in caveat for caveat in found.caveats)


def test_a_cohort_without_rescans_has_no_noise_floor_and_says_so(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    found = evaluate_cohort(tmp_path, silent, default_scans(rescans=False, odd=False))
    assert "noise_floor_95" not in found.metrics
    assert "macro_f1" in found.metrics
    assert any("no noise floor" in caveat for caveat in found.caveats)


def test_one_held_out_subject_gives_numbers_without_intervals(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    scans = default_scans(num_subjects=9, odd=False)
    found = evaluate_cohort(tmp_path, silent, scans, split={"validation": 0.3, "test": 0.05})
    assert found.splits["test"].subjects == 1
    assert "retrieval_at_1" not in found.metrics
    assert found.metrics["macro_f1"].low is None
    assert "1 subjects; an interval needs at least 5" in found.metrics["macro_f1"].note
    assert any("One subject is held out" in caveat for caveat in found.caveats)


def test_held_out_subjects_with_one_visit_each_are_evaluated(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    scans = default_scans(num_subjects=9, num_visits=1, rescans=False, odd=False)
    found = evaluate_cohort(tmp_path, silent, scans, data={"sampling": "scans"}, objective=[{"name": "learner"}])
    assert {"mae", "embedding_spread"} <= found.metrics.keys()
    assert not {"macro_f1", "retrieval_at_1", "within_distance"} & found.metrics.keys()
    assert any("no distances between visits" in caveat for caveat in found.caveats)


def test_the_paths_by_epoch_are_drawn_of_two_kept_checkpoints_or_more_and_for_progression_only(
    evaluated: Finished, tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    location = evaluated.run.location
    png = location.read(f"{FOLDER}/epochs.png")
    assert base64.b64encode(png) in location.read(REPORT_NAME)
    with Image.open(io.BytesIO(png)) as image:
        num_scans = len(read_cohort(evaluated.store, MODALITY, "mmse").of_subjects(evaluated.run.split.of("test")))
        assert f"of {num_scans} scans of {len(evaluated.run.split.test)} held-out people" in image.info["Description"]
    scans = default_scans(odd=False)
    for name, changes in {"one": {"checkpoint": {"keep": 1}}, "score": {"task": "regression"}}.items():
        store = write_store(tmp_path / name / "store", scans)
        train_run(tiny_recipe(**changes), store, Location(tmp_path / name / "run"), progress=silent)
        evaluate_run(Run.open(Location(tmp_path / name / "run")))
        assert (tmp_path / name / "run" / FOLDER / "trajectories.png").exists()
        assert not (tmp_path / name / "run" / FOLDER / "epochs.png").exists()


@pytest.mark.bucket
def test_a_run_in_a_bucket_is_evaluated_there(
    evaluated: Finished, evaluation: Evaluation, bucket: str, tmp_path: Path
) -> None:
    location = Location(f"{bucket}/run")
    for path in evaluated.folder.rglob("*"):
        if path.is_file() and "evaluation" not in path.parts:
            location.write(str(path.relative_to(evaluated.folder)), path.read_bytes())
    store = write_store(Location(f"{bucket}/store"))
    found = evaluate_run(Run.open(location), store_uri=store.location.uri)
    assert found.metrics == evaluation.metrics
    assert location.exists(REPORT_NAME)
