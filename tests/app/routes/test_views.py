"""POST /v1/volumes and /v1/progression/map as a caller sees them."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from app.inputs import prepare
from tests.support.artefacts import RECIPE, decision_part, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti
from tests.support.service import assert_problem, running

SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)
FILES = {"earlier": ("a.nii.gz", SMALL), "later": ("b.nii.gz", LARGE)}


def read(response) -> nib.Nifti1Image:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/gzip"
    return nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(response.content)))


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("views") / "telling" / "1", decision=decision_part())


def test_a_scan_comes_back_as_the_model_sees_it(client) -> None:
    image = read(client.post("/v1/volumes", files={"scan": ("a.nii.gz", SMALL)}))

    np.testing.assert_array_equal(np.asarray(image.dataobj), prepare(SMALL, RECIPE, name="scan").voxels_CDHW[0])


def test_a_scan_by_its_uri_is_the_scan_that_was_uploaded(client, scans_folder) -> None:
    (scans_folder / "seen.nii.gz").write_bytes(SMALL)
    by_uri = client.post("/v1/volumes", json={"uri": f"{scans_folder}/seen.nii.gz"})

    assert by_uri.content == client.post("/v1/volumes", files={"scan": ("a.nii.gz", SMALL)}).content


def test_what_is_no_scan_is_refused_with_the_finding(client) -> None:
    assert_problem(client.post("/v1/volumes", files={"scan": ("a.nii", b"<html>")}), 422, "not_nifti")


def test_exchanging_the_scans_turns_the_map_s_sign(telling: Path) -> None:
    turned = {"earlier": FILES["later"], "later": FILES["earlier"]}
    with running(telling) as client:
        forth = np.asarray(read(client.post("/v1/progression/map", files=FILES)).dataobj)
        back = np.asarray(read(client.post("/v1/progression/map", files=turned)).dataobj)

    assert np.abs(forth).max() > 0
    np.testing.assert_allclose(forth, -back, atol=1e-6)


def test_a_model_that_tells_no_points_has_no_map_and_says_what_to_do(client) -> None:
    problem = assert_problem(client.post("/v1/progression/map", files=FILES), 422, "no_map")

    assert 'head.on = "score"' in problem["detail"]


def test_a_model_of_severity_shows_scans_and_has_no_map(tmp_path: Path) -> None:
    with running(write_severity_artefact(tmp_path / "far" / "1")) as client:
        read(client.post("/v1/volumes", files={"scan": ("a.nii.gz", SMALL)}))
        assert_problem(client.post("/v1/progression/map", files=FILES), 422, "no_map")


def test_a_wrong_field_is_named(client) -> None:
    problem = assert_problem(
        client.post("/v1/progression/map", files=FILES, data={"gap_days": "soon"}), 422, "invalid_request"
    )

    assert [fault["field"] for fault in problem["errors"]] == ["gap_days"]
