"""GET /v1/example as a caller sees it."""

import gzip

import pytest

from tests.support.service import assert_problem, post_pair, running


def test_the_described_scans_can_be_fetched_and_answered(client) -> None:
    described = client.get("/v1/example").json()
    scans = {visit["name"]: client.get(f"/v1/example/{visit['name']}") for visit in described["visits"]}

    assert described["is_synthetic"] is True
    assert [visit["day"] for visit in described["visits"]] == sorted(visit["day"] for visit in described["visits"])
    assert {response.headers["content-type"] for response in scans.values()} == {"application/gzip"}
    assert all(gzip.decompress(response.content)[344:347] == b"n+1" for response in scans.values())
    answer = post_pair(client, scans["earlier"].content, scans["later"].content, gap_days="703")
    assert answer.status_code == 200, answer.text
    assert not answer.json()["is_same_scan"]


@pytest.mark.parametrize("name", ["first", "..%2Fexample.py", "earlier.nii.gz"])
def test_any_other_name_is_refused(client, name: str) -> None:
    response = client.get(f"/v1/example/{name}")

    assert response.status_code in (404, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_it_needs_the_key_that_every_question_needs(artefact) -> None:
    with running(artefact, api_keys=("0123456789abcdef",)) as client:
        assert_problem(client.get("/v1/example"), 401, "unauthorised")
        assert_problem(client.get("/v1/example/later"), 401, "unauthorised")
