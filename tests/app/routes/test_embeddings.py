"""POST /v1/embeddings as a caller sees it."""

import hashlib
from typing import Any

import numpy as np
import torch

from app.registry import load_program
from preprocess.dicom_zip import pack
from preprocess.manifest import PROGRAM_NAME
from preprocess.readers import read_nifti
from preprocess.transforms import to_volume
from tests.support.artefacts import RECIPE, WIDTH, write_severity_artefact
from tests.support.heads import head_nifti, head_voxels, nifti
from tests.support.series import files_of, slices
from tests.support.service import assert_problem, running

SCAN = head_nifti(20, seed=4)


def test_an_upload_gets_the_embedding_that_the_transforms_and_the_program_give(client, artefact):
    response = client.post("/v1/embeddings", files={"scan": ("x.nii.gz", SCAN)})

    program: Any = load_program((artefact / PROGRAM_NAME).read_bytes())
    volume = to_volume(read_nifti(SCAN, name="x"), RECIPE, name="x").voxels_CDHW
    with torch.no_grad():
        expected = program.embed(torch.from_numpy(volume.astype(np.float32) * np.float32(1 / 255))[None])[0]
    answer = response.json()
    assert response.status_code == 200, response.text
    assert answer["embedding"] == expected.tolist()
    assert answer["width"] == WIDTH
    assert answer["fingerprint"] == RECIPE.fingerprint()
    assert answer["scan"]["sha256"] == hashlib.sha256(SCAN).hexdigest()
    assert 0 <= answer["scan"]["out_of_distribution"]["percentile"] <= 100


def test_a_zip_of_a_series_is_answered_and_a_slice_is_a_problem(client):
    files = files_of(slices())

    answer = client.post("/v1/embeddings", files={"scan": ("series.zip", pack(files))})
    single = client.post("/v1/embeddings", files={"scan": ("IM1.dcm", files[0])})

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["embedding"]) == WIDTH
    assert "give the folder or a zip of the series" in assert_problem(single, 422, "too_few_slices")["detail"]


def test_a_model_of_severity_tells_the_distance_that_its_program_gives(tmp_path):
    folder = write_severity_artefact(tmp_path / "far" / "1")
    with running(folder) as severe:
        response = severe.post("/v1/embeddings", files={"scan": ("x.nii.gz", SCAN)})

    program: Any = load_program((folder / PROGRAM_NAME).read_bytes())
    volume = to_volume(read_nifti(SCAN, name="x"), RECIPE, name="x").voxels_CDHW
    with torch.no_grad():
        expected = float(program.severity(torch.from_numpy(volume.astype(np.float32) * np.float32(1 / 255))[None])[0])
    severity = response.json()["severity"]
    assert abs(severity["distance"] - expected) < 1e-6
    assert severity["outcome"]["name"] == "grade"
    assert severity["normal"] == 0
    assert [(one["grade"], one["count"]) for one in severity["grades"]] == [(0, 3), (2, 3)]
    assert [round(one["median"], 6) for one in severity["grades"]] == [0.2, 0.6]
    assert "never which disease" in severity["caution"][0]
    assert "For research only" in severity["caution"][-1]


def test_a_severity_that_is_not_shown_to_be_above_chance_says_so_first(tmp_path):
    folder = write_severity_artefact(tmp_path / "far" / "1", tau=(0.1, -0.2, 0.4))
    with running(folder) as severe:
        answer = severe.post("/v1/embeddings", files={"scan": ("x.nii.gz", SCAN)}).json()

    first = answer["severity"]["caution"][0]
    assert first.startswith("The model is not shown to be better than chance: held-out Kendall's tau")
    assert "0.10 (-0.20 to 0.40), chance 0.00" in first


def test_a_model_of_progression_tells_no_severity(client):
    assert client.post("/v1/embeddings", files={"scan": ("x", SCAN)}).json()["severity"] is None


def test_json_with_a_uri_gives_the_answer_of_the_upload(client, scans_folder):
    (scans_folder / "scan one.nii.gz").write_bytes(SCAN)

    by_uri = client.post("/v1/embeddings", json={"uri": f"{scans_folder}/scan one.nii.gz", "model": "tiny"})

    assert by_uri.json() == client.post("/v1/embeddings", files={"scan": ("x", SCAN)}).json()


def test_a_scan_unlike_the_training_scans_is_flagged(client):
    def compare_scan(data: bytes) -> dict[str, Any]:
        answer = client.post("/v1/embeddings", files={"scan": ("x", data)}).json()
        found: dict[str, Any] = answer["scan"]["out_of_distribution"]
        return found

    half = head_voxels()
    half[:, 24:] = 0
    usual, strange = compare_scan(SCAN), compare_scan(nifti(half, np.diag([4.0, 4.0, 4.0, 1.0])))

    assert usual["is_outside"] is False
    assert strange["is_outside"] is True
    assert strange["percentile"] == 100 > usual["percentile"]


def test_a_wrong_part_name_is_told_by_the_known_ones(client):
    problem = assert_problem(client.post("/v1/embeddings", files={"image": ("x", SCAN)}), 422, "invalid_request")

    assert problem["detail"] == (
        "scan: the file is missing; body: 1 field is not known; the known ones are model, scan, version"
    )


def test_json_without_a_uri_names_the_field(client):
    problem = assert_problem(client.post("/v1/embeddings", json={"url": "gs://b/x"}), 422, "invalid_request")

    assert [fault["field"] for fault in problem["errors"]] == ["uri", "body"]
    assert problem["errors"][1]["message"] == "1 field is not known; the known ones are model, uri, version"
