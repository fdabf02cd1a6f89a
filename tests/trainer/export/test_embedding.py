"""Runs that answer nothing of a pair are exported all the same, and embed as the run did."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from app.registry import load_artefact
from interscan.cli import run as run_command
from preprocess.errors import ArtefactError
from preprocess.manifest import MANIFEST_NAME, Manifest
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.service import running
from tests.trainer.conftest import Finished
from trainer.data.cohort import read_cohort
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.export.embedding import NUM_GOLDEN, EmbeddingModel, embedding_golden
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.run_files import RunRecord
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained


@pytest.fixture(scope="module")
def without_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, a run and its artefact; nobody has a score."""
    folder = tmp_path_factory.mktemp("embedding")
    store = write_store(folder / "store", default_scans(with_scores=False))
    recipe = tiny_recipe(objective=[{"name": "info_nce"}], optim={"epochs": 1})
    train_run(recipe, store, Location(folder / "run"), progress=lambda done, total: None)
    run = Run.open(Location(folder / "run"))
    evaluate_run(run)
    export_run(run, Location(folder / "artefact"))
    return folder


def test_an_artefact_without_scores_says_what_it_is(without_scores: Path) -> None:
    manifest = Manifest.model_validate_json((without_scores / "artefact" / MANIFEST_NAME).read_bytes())
    assert (manifest.kind, manifest.calibration, manifest.anchor, manifest.decision) == ("embedding", None, None, None)
    assert set(manifest.files) == {"model.ts", "embed.pt2", "golden.npz", "references.npz"}
    assert manifest.limitations[0].startswith("Embeds scans and answers nothing of them")


def test_embed_gives_the_embeddings_of_the_run(without_scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "embeddings.parquet"
    assert run_command(["embed", str(without_scores / "artefact"), str(without_scores / "store"), str(out)]) == 0
    table = pq.read_table(out)
    run = Run.open(Location(without_scores / "run"))
    store = run.open_store(None)
    cohort = read_cohort(store, MODALITY, "mmse")
    exact = Compute(torch.device("cpu"), torch.float32)
    expected_NE = embed_cohort(load_trained(run, store).encoder, store, (MODALITY,), cohort, exact)
    by_row = dict(zip(table["row"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    found_NE = np.array([by_row[row] for row in cohort.rows_N.tolist()])
    assert found_NE == pytest.approx(expected_NE, abs=1e-4)
    assert "severity" not in table.column_names


def test_predict_says_that_it_compares_nothing(without_scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = without_scores / "scan.nii.gz"
    scan.write_bytes(b"never read")
    assert run_command(["predict", str(without_scores / "artefact"), str(scan), str(scan)]) == 3
    said = capsys.readouterr().err
    assert "an artefact of kind embedding, and predict compares two scans with one of kind progression" in said
    assert "use interscan embed" in said


def test_the_service_loads_it_and_refuses_pairs(without_scores: Path) -> None:
    with running(without_scores / "artefact") as client:
        (model,) = client.get("/v1/models").json()["models"]
        assert model["kind"] == "embedding"
        answer = client.post("/v1/progression", files={"earlier": ("a.nii", b"x"), "later": ("b.nii", b"x")})
        assert answer.status_code == 422
        assert "is of kind embedding and compares no pairs" in answer.json()["detail"]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_runs_of_other_tasks_are_exported_as_embeddings_with_a_line(
    evaluated: Finished, tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = json.loads(evaluated.run.record.to_json())
    record["recipe"]["task"] = task
    run = Run(evaluated.run.location, RunRecord.model_validate(record))
    manifest = export_run(run, Location(tmp_path / "artefact"))
    assert manifest.kind == "embedding"
    assert f"its task is {task}, so it is exported as an embedding: it embeds scans and compares none" in caplog.text
    assert load_artefact(str(tmp_path / "artefact")).manifest.kind == "embedding"


def test_golden_scans_differ_and_are_what_the_model_embeds() -> None:
    model = EmbeddingModel(torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten())).eval()
    golden = embedding_golden(model, (1, 4, 4, 4), "uint8")
    assert golden["scans_B"].shape == (NUM_GOLDEN, 1, 4, 4, 4)
    inputs = torch.as_tensor(golden["scans_B"].astype(np.float32) / 255)
    assert golden["embedding_BE"] == pytest.approx(model.embed(inputs).numpy(), rel=1e-5)
    assert len(np.unique(golden["embedding_BE"].mean(axis=1).round(2))) == NUM_GOLDEN


@pytest.mark.parametrize("part", ["calibration", "anchor"])
def test_a_manifest_of_an_embedding_has_no_part_of_another_kind(without_scores: Path, part: str) -> None:
    manifest = json.loads((without_scores / "artefact" / MANIFEST_NAME).read_bytes())
    manifest[part] = {
        "calibration": {"temperature": 1.0, "num_pairs": 3},
        "anchor": {"normal": 0.0, "num_scans": 3, "num_subjects": 3},
    }[part]
    folder = without_scores / f"with {part}"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=f"an artefact of kind embedding has no part {part}"):
        load_artefact(str(folder))
