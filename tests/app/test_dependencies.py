"""What a route is handed, over HTTP."""

import pytest

from tests.support.heads import head_nifti
from tests.support.service import assert_problem


def test_one_scan_of_a_pair_outside_the_list_is_named_and_the_other_is_not(client, scans_folder):
    (scans_folder / "inside.nii.gz").write_bytes(head_nifti())
    uris = {"earlier_uri": f"{scans_folder}/inside.nii.gz", "later_uri": "/etc/hostname"}

    problem = assert_problem(client.post("/v1/progression", json=uris), 403, "uri_not_allowed")

    assert problem["detail"].startswith("later:")


@pytest.mark.parametrize("trick", ["{0}/../{1}/x.nii", "{0}-evil/x.nii", "{0}/%2e%2e/x.nii", "http://{0}/x.nii", "{0}"])
def test_no_way_round_the_list_is_found_over_http(client, scans_folder, trick):
    evil = scans_folder.with_name(f"{scans_folder.name}-evil")
    evil.mkdir(exist_ok=True)
    (evil / "x.nii").write_bytes(head_nifti())

    response = client.post("/v1/embeddings", json={"uri": trick.format(scans_folder, evil.name)})

    assert_problem(response, 403, "uri_not_allowed")


def test_a_uri_under_the_list_where_nothing_lies_is_422(client, scans_folder):
    assert_problem(client.post("/v1/embeddings", json={"uri": f"{scans_folder}/gone.nii"}), 422, "not_found")
