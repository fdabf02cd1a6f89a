"""The exported distance from normal is the one that was scored, and the references tell what it was measured from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from app.cli import embed
from app.registry import load_artefact
from preprocess.errors import RunError, UsageError
from preprocess.manifest import MANIFEST_NAME, REFERENCE_ARRAYS, SEVERITY_REFERENCE_ARRAYS, Manifest
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.graded import NORMAL, conpro_recipe, write_graded
from trainer.data.cohort import Cohort, read_cohort
from trainer.evaluate import tasks
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.export.severity import SeverityModel, severity_golden, severity_model
from trainer.fit.run import Run
from trainer.fit.run_files import RunRecord
from trainer.fit.train import train_run
from trainer.metrics.evaluation import Evaluation

FILES = {"model.ts", "embed.pt2", "severity.pt2", "golden.npz", "references.npz"}


@dataclass(frozen=True)
class Exported:
    """A ConPrO run with its artefact, and the distances that its evaluation scored."""

    store: Store
    run: Run
    evaluation: Evaluation
    folder: Path
    scored_distances_N: np.ndarray

    @property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json((self.folder / MANIFEST_NAME).read_bytes())

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / name, allow_pickle=False) as found:
            return dict(found)

    def cohort(self, part: str) -> Cohort:
        whole = read_cohort(self.store, "fundus", "grade")
        return whole.of_subjects(self.run.split.of(part))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("conpro")
    store = write_graded(folder / "store")
    train_run(conpro_recipe(), store, Location(folder / "run"), progress=lambda done, total: None)
    run = Run.open(Location(folder / "run"))
    scored: list[np.ndarray] = []
    original = tasks.distances_from_mean

    def kept(*given: Any) -> np.ndarray:
        scored.append(original(*given))
        return scored[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "distances_from_mean", kept)
        evaluation = evaluate_run(run)
    export_run(run, Location(folder / "artefact"), version="2")
    return Exported(store, run, evaluation, folder / "artefact", scored[0])


def test_the_distances_of_held_out_scans_are_those_that_were_scored(exported: Exported) -> None:
    held = exported.cohort("test").scored()
    scans = np.stack([exported.store.read(int(row), "fundus") for row in held.rows_N])
    found = load_artefact(str(exported.folder)).engine.severity(scans)
    assert found.dtype == np.float32
    assert exported.scored_distances_N.shape == found.shape
    assert np.ptp(found) > 1e-4
    np.testing.assert_allclose(found, exported.scored_distances_N, atol=1e-5)


def test_embed_writes_the_same_distances_beside_the_embeddings(exported: Exported, tmp_path: Path) -> None:
    assert embed(str(exported.folder), exported.store.location.uri, str(tmp_path / "all.parquet")) == 0
    table = pq.read_table(tmp_path / "all.parquet")
    by_row = dict(zip(table["row"].to_pylist(), table["severity"].to_pylist(), strict=True))
    held = exported.cohort("test").scored()
    np.testing.assert_allclose([by_row[row] for row in held.rows_N], exported.scored_distances_N, atol=1e-5)


def test_the_manifest_tells_kind_anchor_and_metrics(exported: Exported) -> None:
    manifest = exported.manifest
    assert {path.name for path in exported.folder.iterdir()} == FILES | {MANIFEST_NAME}
    assert manifest.files == {name: hashlib.sha256((exported.folder / name).read_bytes()).hexdigest() for name in FILES}
    assert (manifest.kind, manifest.calibration, manifest.version) == ("severity", None, "2")
    assert (manifest.inputs.axes, manifest.inputs.channels) == ("CHW", 1)
    assert manifest.inputs.fingerprint == exported.store.manifest.fingerprint
    assert not manifest.outcome.higher_is_better
    training = exported.cohort("train")
    normals = [index for index, score in enumerate(training.scores_N) if score == NORMAL]
    assert manifest.anchor is not None
    assert manifest.anchor.normal == NORMAL
    # Twice as many as the preference took for its anchor: evaluation measures from all of them.
    assert manifest.anchor.num_scans == len(normals) > 2
    assert manifest.anchor.num_subjects == len({training.subject_ids[index] for index in normals})
    tau, stated = exported.evaluation.metrics["severity_tau_b"], manifest.metrics["severity_tau_b"]
    assert (stated.value, stated.low, stated.high, stated.chance) == (tau.value, tau.low, tau.high, tau.chance)
    assert "never which disease" in manifest.limitations[0]


def test_the_references_hold_the_anchor_its_scans_and_the_validation_distances(exported: Exported) -> None:
    found = exported.arrays("references.npz")
    documented = REFERENCE_ARRAYS | SEVERITY_REFERENCE_ARRAYS
    assert found.keys() == documented.keys()
    for name, array in found.items():
        assert documented[name].startswith(str(array.dtype))
        assert array.ndim == len(name.rpartition("_")[2])
    training = exported.cohort("train")
    indices_K = found["normal_places_K"]
    assert (found["scores_N"][indices_K] == NORMAL).all()
    np.testing.assert_array_equal(found["normal_rows_K"], training.rows_N[training.scores_N == NORMAL])
    np.testing.assert_allclose(found["anchor_E"], found["embeddings_NE"][indices_K].mean(axis=0), rtol=1e-5)
    validation = exported.cohort("validation").scored()
    np.testing.assert_array_equal(found["validation_grades_V"], validation.scores_N)
    scans = np.stack([exported.store.read(int(row), "fundus") for row in validation.rows_N])
    distances = load_artefact(str(exported.folder)).engine.severity(scans)
    np.testing.assert_allclose(found["validation_distances_V"], distances, atol=1e-5)


def test_no_subject_or_session_is_named_in_any_file(exported: Exported) -> None:
    for path in exported.folder.iterdir():
        data = path.read_bytes()
        assert b"person-" not in data, path.name
        assert b"seen-" not in data, path.name


def test_a_run_without_a_normal_training_scan_is_refused(exported: Exported, tmp_path: Path) -> None:
    run = Run.open(exported.run.location)
    record = json.loads(run.record.to_json())
    for phase in record["recipe"]["phase"]:
        phase["objective"][0]["normal"] = 9.0
    with pytest.raises(UsageError, match="no training scan has the score 9"):
        export_run(Run(run.location, RunRecord.model_validate(record)), Location(tmp_path / "artefact"))
    assert not (tmp_path / "artefact").exists()


def test_an_anchor_without_a_direction_is_refused() -> None:
    with pytest.raises(RunError, match="mean embedding of 2 normal scans has length 0"):
        severity_model(torch.nn.Identity(), np.array([[1.0, -1.0], [-1.0, 1.0]]), where="run")
    with pytest.raises(RunError, match="has length nan"):
        severity_model(torch.nn.Identity(), np.array([[1.0, np.nan]]), where="run")


def test_severity_is_0_at_the_anchor_1_at_a_right_angle_and_2_opposite() -> None:
    model = SeverityModel(torch.nn.Identity(), torch.tensor([3.0, 0.0]))
    scans = torch.tensor([[7.0, 0.0], [0.0, 2.0], [-0.1, 0.0]])
    assert model.severity(scans).tolist() == [0.0, 1.0, 2.0]
    torch.testing.assert_close(model(scans), scans)


def test_golden_scans_are_stored_rows_with_answers_of_their_own() -> None:
    model = SeverityModel(torch.nn.Flatten(), torch.ones(4) - 2 * torch.eye(4)[0])
    golden = severity_golden(model, (1, 2, 2), "uint8")
    assert golden["scans_B"].dtype == np.uint8
    assert golden["scans_B"].shape == (3, 1, 2, 2)
    np.testing.assert_allclose(golden["embedding_BE"], golden["scans_B"].reshape(3, 4) / 255, atol=1e-6)
    assert len(set(golden["severity_B"].tolist())) == 3
