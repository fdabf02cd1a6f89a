"""POST /v1/progression as a caller sees it."""

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.registry import load_artefact, load_program
from preprocess.manifest import PROGRAM_NAME
from preprocess.readers import read_nifti
from preprocess.transforms import to_volume
from tests.support.artefacts import RECIPE, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti, nifti
from tests.support.images import patched
from tests.support.service import assert_problem, post_pair, running

ROOT = Path(__file__).resolve().parents[3]
SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)


def truth(earlier: bytes, later: bytes, artefact: Path) -> np.ndarray:
    """Probabilities straight from the transforms and the program, without any code of the service's engine."""
    program: Any = load_program((artefact / PROGRAM_NAME).read_bytes())
    volumes = [to_volume(read_nifti(data, name="x"), RECIPE, name="x").voxels_CDHW for data in (earlier, later)]
    tensors = [torch.from_numpy(volume.astype(np.float32) * np.float32(1 / 255))[None] for volume in volumes]
    with torch.no_grad():
        return program.compare(*tensors)[0].numpy()


def in_order(probabilities: dict[str, float]) -> list[float]:
    return [probabilities[name] for name in ("improved", "stable", "declined")]


def test_an_upload_is_answered_with_the_program_s_own_probabilities(client, artefact):
    response = post_pair(client, SMALL, LARGE, gap_days="365")

    assert response.status_code == 200, response.text
    answer = response.json()
    expected = truth(SMALL, LARGE, artefact)
    assert in_order(answer["probabilities"]) == [float(value) for value in expected]
    assert answer["progression"] == ("improved", "stable", "declined")[int(expected.argmax())] == "declined"
    assert answer["gap_days"] == 365
    assert answer["provenance"]["training_run"] == "tiny-run"
    assert "private-bucket" not in response.text


def test_json_with_uris_gives_the_answer_of_the_upload(client, scans_folder):
    (scans_folder / "earlier.nii.gz").write_bytes(SMALL)
    (scans_folder / "later.nii.gz").write_bytes(LARGE)
    uris = {
        "earlier_uri": f"{scans_folder}/earlier.nii.gz",
        "later_uri": f"file://{scans_folder}/later.nii.gz",
        "gap_days": 365,
    }

    by_uri = client.post("/v1/progression", json=uris)

    assert by_uri.status_code == 200, by_uri.text
    assert by_uri.json() == post_pair(client, SMALL, LARGE, gap_days="365").json()


def test_exchanging_the_scans_exchanges_improved_and_declined_exactly(client):
    forth = in_order(post_pair(client, SMALL, LARGE).json()["probabilities"])
    back = in_order(post_pair(client, LARGE, SMALL).json()["probabilities"])

    assert forth == back[::-1]
    assert forth[0] != forth[2]


def test_the_same_file_twice_is_called_the_same_file(client):
    answer = post_pair(client, SMALL, SMALL).json()

    assert answer["is_same_scan"]
    assert answer["probabilities"]["improved"] == answer["probabilities"]["declined"]
    assert answer["probabilities"]["stable"] < answer["probabilities"]["improved"]
    assert answer["progression"] == "stable"
    assert answer["change"]["distance"] == 0
    assert "same file" in answer["caution"][0]


def test_a_file_packed_anew_is_called_the_same_voxels(client):
    answer = post_pair(client, SMALL, gzip.decompress(SMALL)).json()

    assert answer["is_same_scan"]
    assert answer["earlier"]["sha256"] != answer["later"]["sha256"]
    assert "same voxels" in answer["caution"][0]


def test_change_within_scan_rescan_noise_is_said(client):
    answer = post_pair(client, SMALL, head_nifti(15, seed=9)).json()

    assert answer["change"]["within_noise_floor"] is True
    assert any("within scan-rescan noise" in sentence for sentence in answer["caution"])
    assert post_pair(client, SMALL, head_nifti(45)).json()["change"]["within_noise_floor"] is False


def test_without_scan_rescan_references_noise_is_unknown_not_false(tmp_path):
    with running(write_artefact(tmp_path / "quiet" / "1", noise_distances=())) as client:
        answer = post_pair(client, SMALL, LARGE).json()

    assert answer["change"]["noise_floor"] is None
    assert answer["change"]["within_noise_floor"] is None
    assert any("no scan-rescan references" in sentence for sentence in answer["caution"])


NOT_SCANS = {
    "web page": (b"<!DOCTYPE html><html>Sign in</html>", "not_nifti"),
    "truncated gzip": (SMALL[: len(SMALL) // 2], "truncated"),
    "2D image": (nifti(np.ones((64, 64), np.int16), np.eye(4)), "not_3d"),
    "time series": (nifti(np.ones((8, 8, 8, 5), np.int16), np.eye(4)), "not_3d"),
    "empty file": (b"", "truncated"),
}


def test_the_remarks_on_each_scan_stand_in_the_answer_with_what_they_mean_for_it(client):
    unoriented = patched(gzip.decompress(LARGE), qform_code=0, sform_code=0)

    answer = post_pair(client, SMALL, unoriented).json()

    assert answer["earlier"]["findings"] == []
    (finding,) = answer["later"]["findings"]
    assert (finding["code"], finding["leaves_out"]) == ("orientation_guessed", False)
    assert f"| `{finding['code']}` |" in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert "quality" in answer["reasons"]
    assert any(finding["message"] in sentence for sentence in answer["caution"])
    assert answer["decision"] == "undecided"
    (alone,) = client.post("/v1/embeddings", files={"scan": ("x", unoriented)}).json()["scan"]["findings"]
    assert alone["code"] == finding["code"]


@pytest.mark.parametrize("kind", sorted(NOT_SCANS))
def test_what_is_not_a_scan_is_refused_with_the_finding(client, kind):
    data, code = NOT_SCANS[kind]

    problem = assert_problem(post_pair(client, SMALL, data), 422, code)

    assert problem["findings"][0]["code"] == code
    assert problem["detail"].startswith("later:")


def test_file_names_and_header_text_appear_neither_in_logs_nor_in_answers(client, caplog):
    with caplog.at_level("DEBUG"):
        good = post_pair(client, head_nifti(15, description="SMITH^ANNA"), LARGE)
        bad = post_pair(client, SMALL, nifti(np.ones((9, 9), np.int16), np.eye(4), "SMITH^ANNA"))

    assert good.status_code == 200
    assert bad.status_code == 422
    assert "/v1/progression" in caplog.text
    for text in (good.text, bad.text, caplog.text):
        assert "smith" not in text.lower()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"gap_days": "-1"}, "gap_days"), ({"gap_days": "soon"}, "gap_days"), ({"gap": "3"}, "body")],
)
def test_a_wrong_field_is_named_without_repeating_what_it_held(client, fields, field):
    problem = assert_problem(post_pair(client, SMALL, LARGE, **fields), 422, "invalid_request")

    assert [fault["field"] for fault in problem["errors"]] == [field]


def test_an_unknown_model_is_404_and_lists_the_known(client):
    assert "tiny 1" in assert_problem(post_pair(client, SMALL, LARGE, model="huge"), 404, "unknown_model")["detail"]
    assert_problem(post_pair(client, SMALL, LARGE, version="9"), 404, "unknown_model")
    assert post_pair(client, SMALL, LARGE, model="tiny", version="1").status_code == 200


def test_a_named_second_model_answers(artefact, tmp_path):
    second = write_artefact(tmp_path / "second" / "2", name="second", version="2")
    with running(artefact, second) as client:
        default, named = (post_pair(client, SMALL, LARGE, **fields) for fields in ({}, {"model": "second"}))

    assert default.json()["provenance"]["model"] == "tiny"
    assert named.json()["provenance"]["version"] == "2"


def test_eight_callers_at_once_each_get_their_own_answer(client):
    files = [head_nifti(core, seed=seed) for seed, core in enumerate((10, 15, 20, 25, 30, 35, 40, 45))]
    alone = [post_pair(client, SMALL, data).json() for data in files]
    together = threading.Barrier(8)

    def ask(data: bytes) -> Any:
        together.wait()
        return post_pair(client, SMALL, data).json()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, files)) == alone
    assert len({answer["change"]["distance"] for answer in alone}) == 8


def test_a_full_queue_is_503_with_a_time_to_come_back(client):
    gate = client.app.state.service.gate
    gate._num_running += 18

    response = post_pair(client, SMALL, LARGE)
    gate._num_running -= 18

    assert_problem(response, 503, "busy")
    assert int(response.headers["retry-after"]) > 0
    assert post_pair(client, SMALL, LARGE).status_code == 200


def test_the_answer_s_references_are_those_of_the_artefact(client, artefact):
    answer = post_pair(client, SMALL, LARGE).json()
    references = load_artefact(str(artefact)).references

    assert answer["change"]["noise_floor"]["count"] == 4
    assert answer["change"]["noise_floor"]["median"] == pytest.approx(np.median([1e-4, 2e-4, 4e-4, 1e-3]))
    assert answer["earlier"]["neighbours"]["count"] == 15
    assert np.nanmin(references.scores_N) <= answer["earlier"]["neighbours"]["median_score"]


def test_a_model_of_severity_compares_nothing_and_says_what_to_ask(artefact, tmp_path):
    severe = write_severity_artefact(tmp_path / "far" / "1")
    with running(severe, artefact) as both:
        problem = assert_problem(post_pair(both, SMALL, LARGE), 422, "wrong_kind")
        other = post_pair(both, SMALL, LARGE, model="tiny")

    assert problem["detail"].startswith("model far is of kind severity and compares no pairs; ask /v1/embeddings")
    assert other.status_code == 200
