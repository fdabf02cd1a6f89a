"""An artefact is complete, self-consistent, free of names, and accepted by the service; the unfit is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app.registry import load_artefact
from preprocess.errors import ArtefactError, RunError, StorageError
from preprocess.lease import LEASE_NAME
from preprocess.manifest import MANIFEST_NAME, PROGRAM_NAME, Manifest
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans
from tests.trainer.conftest import Finished
from trainer.evaluate.run import METRICS_NAME
from trainer.export import artefact as exporting
from trainer.export import programs
from trainer.export.artefact import export_run
from trainer.fit.trained import load_trained
from trainer.metrics.evaluation import Evaluation

FILES = {"model.ts", "embed.pt2", "compare.pt2", "golden.npz", "references.npz"}


@pytest.fixture
def manifest(artefact: Path) -> Manifest:
    return Manifest.model_validate_json((artefact / MANIFEST_NAME).read_bytes())


def test_the_manifest_names_every_file_with_its_digest(artefact: Path, manifest: Manifest) -> None:
    assert {path.name for path in artefact.iterdir()} == FILES | {MANIFEST_NAME}
    assert manifest.files == {name: hashlib.sha256((artefact / name).read_bytes()).hexdigest() for name in FILES}


def test_the_manifest_says_what_was_trained_on_what_and_how_well(evaluated: Finished, manifest: Manifest) -> None:
    run = evaluated.run
    assert (manifest.name, manifest.version, manifest.method) == ("tiny", "3", "learner + info_nce")
    assert manifest.inputs.fingerprint == evaluated.store.manifest.fingerprint
    assert manifest.inputs.volume_recipe == evaluated.store.manifest.recipe
    assert manifest.outcome == evaluated.recipe.outcome
    assert manifest.training.store_index_sha256 == evaluated.store.manifest.index_sha256
    assert manifest.training.checkpoint == hashlib.sha256((evaluated.folder / "model.pt").read_bytes()).hexdigest()
    assert manifest.training.num_subjects == {part: len(run.split.of(part)) for part in ("train", "validation", "test")}
    evaluation = Evaluation.model_validate_json(run.location.read(METRICS_NAME))
    measured = {name: metric for name, metric in evaluation.metrics.items() if metric.value is not None}
    assert manifest.metrics.keys() == measured.keys()
    for name, metric in measured.items():
        stated = manifest.metrics[name]
        assert (stated.value, stated.low, stated.high, stated.chance) == (
            metric.value, metric.low, metric.high, metric.chance
        )  # fmt: skip


def test_no_subject_or_session_is_named_in_any_file(artefact: Path) -> None:
    names = {name for scan in default_scans() for name in (scan.subject_id, scan.session_id)}
    for path in artefact.iterdir():
        data = path.read_bytes()
        assert not [name for name in names if name.encode() in data], path.name


def test_the_golden_values_are_what_the_model_answers(artefact: Path, evaluated: Finished) -> None:
    with np.load(artefact / "golden.npz", allow_pickle=False) as golden:
        arrays = dict(golden)
    model = load_trained(evaluated.run, evaluated.store).pair_model()
    with torch.no_grad():
        earlier, later = (
            torch.from_numpy(arrays[name].astype(np.float32) / 255) for name in ("earlier_BCDHW", "later_BCDHW")
        )
        np.testing.assert_allclose(arrays["embedding_BE"], model.embed(earlier).numpy(), atol=1e-6)
        np.testing.assert_allclose(arrays["probabilities_B3"], model.compare(earlier, later).numpy(), atol=1e-6)
    assert arrays["earlier_BCDHW"].dtype == np.uint8


def test_the_service_accepts_it_and_answers_as_the_run_does(artefact: Path, evaluated: Finished) -> None:
    loaded = load_artefact(str(artefact))
    stored = np.stack([evaluated.store.read(row, MODALITY) for row in range(4)])
    trained = load_trained(evaluated.run, evaluated.store)
    with torch.no_grad():
        volumes = torch.from_numpy(stored.astype(np.float32) / 255)
        expected = trained.pair_model().compare(volumes[:2], volumes[2:]).numpy()
    np.testing.assert_allclose(loaded.engine.compare(stored[:2], stored[2:]), expected, atol=1e-5)
    np.testing.assert_array_equal(
        loaded.engine.compare(stored[2:], stored[:2]), loaded.engine.compare(stored[:2], stored[2:])[:, ::-1]
    )


def test_an_artefact_is_never_written_over(artefact: Path, evaluated: Finished) -> None:
    before = (artefact / MANIFEST_NAME).read_bytes()
    with pytest.raises(ArtefactError, match="holds an artefact already; artefacts never change"):
        export_run(evaluated.run, Location(artefact))
    assert (artefact / MANIFEST_NAME).read_bytes() == before


def test_a_run_that_was_not_evaluated_is_refused(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    with pytest.raises(RunError, match=r"not evaluated.*run interscan evaluate first"):
        export_run(run, Location(tmp_path / "artefact"))
    assert not (tmp_path / "artefact").exists()


def test_metrics_of_another_version_are_refused(evaluated: Finished, tmp_path: Path) -> None:
    run = evaluated.copy_to(tmp_path / "run")
    run.location.write(METRICS_NAME, b'{"schema_version": 2}')
    with pytest.raises(RunError, match="evaluated by another version"):
        export_run(run, Location(tmp_path / "artefact"))


def test_a_program_that_differs_leaves_nothing_behind(
    evaluated: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "TOLERANCE", -1.0)
    with pytest.raises(ArtefactError, match="nothing was exported"):
        export_run(evaluated.run, Location(tmp_path / "artefact"))
    assert not (tmp_path / "artefact").exists()


def test_the_manifest_is_written_last(evaluated: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location(tmp_path / "artefact")
    plain_write = location.write

    def write(name: str, data: bytes) -> None:
        if name == MANIFEST_NAME:
            assert {path.name for path in (tmp_path / "artefact").iterdir()} == FILES | {LEASE_NAME}
            raise StorageError("connection lost")
        plain_write(name, data)

    monkeypatch.setattr(location, "write", write)
    with pytest.raises(StorageError):
        export_run(evaluated.run, location)
    with pytest.raises(ArtefactError):
        load_artefact(str(tmp_path / "artefact"))


def test_a_damaged_file_is_refused_by_the_service(artefact: Path, tmp_path: Path) -> None:
    for path in artefact.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    program = bytearray((tmp_path / PROGRAM_NAME).read_bytes())
    program[len(program) // 2] ^= 1
    (tmp_path / PROGRAM_NAME).write_bytes(program)
    with pytest.raises(ArtefactError, match=PROGRAM_NAME):
        load_artefact(str(tmp_path))


def test_the_limitations_hold_the_caveats_of_the_evaluation(
    evaluated: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluated.copy_to(tmp_path / "run")
    found = json.loads(run.location.read(METRICS_NAME))
    found["caveats"] = ["Ten subjects are few."]
    run.location.write(METRICS_NAME, json.dumps(found).encode())
    kept = programs.Programs({PROGRAM_NAME: b"stands for a program"}, 0.0)
    monkeypatch.setattr(exporting, "export_programs", lambda model, shape: kept)
    manifest = export_run(run, Location(tmp_path / "artefact"), name="other")
    assert manifest.name == "other"
    assert manifest.limitations == (*found["notes"], "Ten subjects are few.")


@pytest.mark.bucket
def test_an_artefact_can_be_written_to_a_bucket_and_read_back(evaluated: Finished, bucket: str) -> None:
    manifest = export_run(evaluated.run, Location(f"{bucket}/models/tiny"))
    assert load_artefact(f"{bucket}/models/tiny").manifest == manifest
