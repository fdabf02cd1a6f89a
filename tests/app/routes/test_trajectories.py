"""POST /v1/trajectories as a caller sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.inputs import prepare
from app.registry import load_artefact
from app.trajectory_answer import answer_trajectory
from tests.support.artefacts import RECIPE, decision_part, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti
from tests.support.service import assert_problem, running

PATH = "/v1/trajectories"
FILES = [head_nifti(core, seed=core) for core in (15, 19, 24)]
DAYS = [0, 365, 730]


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("models") / "line" / "1", decision=decision_part(), judges=True)


@pytest.fixture(scope="module")
def client(following: Path, scans_folder: Path) -> Iterator[TestClient]:
    """The model that follows a person comes first; one of an earlier version stands beside it."""
    earlier = write_artefact(following.parent / "earlier", name="earlier")
    with running(following, earlier, allow_prefixes=(str(scans_folder),)) as client:
        yield client


def post(client: TestClient, files=FILES, **fields: Any) -> Any:
    parts = [("scans", (f"anna_smith_{number}.nii.gz", data)) for number, data in enumerate(files)]
    return client.post(PATH, files=parts, data={"days": ",".join(map(str, DAYS))} | fields)


def test_an_upload_is_answered_as_without_a_server(client, following):
    scans = [prepare(data, RECIPE, name=f"scan {number}") for number, data in enumerate(FILES, start=1)]
    expected = answer_trajectory(load_artefact(str(following)), scans, DAYS, age=71)

    response = post(client, age="71")

    assert response.status_code == 200, response.text
    assert response.json() == expected.model_dump(mode="json")
    assert response.json()["decision"] == "declined"
    assert "smith" not in response.text


def test_days_may_be_repeated_and_json_with_uris_gives_the_same(client, scans_folder):
    uris = []
    for number, data in enumerate(FILES):
        (scans_folder / f"{number}.nii.gz").write_bytes(data)
        uris.append(f"{scans_folder}/{number}.nii.gz")

    by_uri = client.post(PATH, json={"uris": uris, "days": DAYS})

    assert by_uri.status_code == 200, by_uri.text
    assert by_uri.json() == post(client, days=[str(day) for day in DAYS]).json() == post(client).json()


@pytest.mark.parametrize(
    ("files", "fields", "detail"),
    [
        (FILES[:2], {}, "days: 3 days for 2 scans; give one day for each scan"),
        (FILES[:1], {"days": "0"}, "days: List should have at least 2 items after validation, not 1"),
        (FILES, {"days": "0,soon,730"}, "days.1: Input should be a valid number"),
        (FILES, {"days": "20200101,20210101,20220101"}, "days.0: Input should be less than or equal to 40000"),
        (FILES, {"days": ""}, "days: Field required"),
        (FILES, {"age": "-3"}, "age: Input should be greater than or equal to 0"),
        (FILES, {"age": ["70", "71"]}, "age: given twice"),
        (
            FILES,
            {"gap_days": "3"},
            "body: 1 field is not known; the known ones are accept_unproven, age, days, model, scans, version",
        ),
    ],
)
def test_a_wrong_field_is_named_without_repeating_what_it_held(client, files, fields, detail):
    assert detail in assert_problem(post(client, files, **fields), 422, "invalid_request")["detail"]


def test_seventeen_visits_are_refused(client):
    days = list(range(17))
    assert (
        "Maximum number of files is 16"
        in assert_problem(post(client, FILES[:1] * 17, days=",".join(map(str, days))), 400, "bad_multipart")["detail"]
    )
    problem = assert_problem(client.post(PATH, json={"uris": ["gs://a/b"] * 17, "days": days}), 422, "invalid_request")
    assert [fault["field"] for fault in problem["errors"]] == ["days", "uris"]


def test_sixteen_visits_are_answered(client):
    response = post(client, FILES[:1] * 16, days=",".join(str(100 * number) for number in range(16)))

    assert response.status_code == 200, response.text
    assert response.json()["reasons"] == ["same_scan"]


def test_a_scan_that_is_none_is_named_by_its_position(client):
    problem = assert_problem(post(client, [FILES[0], b"<html>", FILES[2]]), 422, "not_nifti")

    assert problem["detail"].startswith("scan 2: ")


def test_a_uri_outside_the_list_is_named_by_its_position(client, scans_folder):
    (scans_folder / "in.nii.gz").write_bytes(FILES[0])
    uris = [f"{scans_folder}/in.nii.gz", "/etc/hostname"]

    problem = assert_problem(client.post(PATH, json={"uris": uris, "days": [0, 1]}), 403, "uri_not_allowed")

    assert problem["detail"].startswith("scan 2:")


def test_a_model_that_follows_nobody_says_what_to_do(client, tmp_path):
    problem = assert_problem(post(client, model="earlier"), 422, "wrong_kind")
    assert "model earlier: tells no change in points of the score" in problem["detail"]
    with running(write_severity_artefact(tmp_path / "far" / "1")) as severe:
        assert "of kind severity" in assert_problem(post(severe), 422, "wrong_kind")["detail"]


def test_a_key_is_asked_for_before_the_body(following):
    with running(following, api_keys=("k" * 20,)) as locked:
        assert_problem(post(locked), 401, "unauthorised")
