"""Request ids and counts."""

import re

import pytest

from app.telemetry import Telemetry


def test_a_sane_request_id_is_echoed(client):
    response = client.get("/livez", headers={"X-Request-ID": "scan-7.a_B"})

    assert response.headers.get_list("x-request-id") == ["scan-7.a_B"]


@pytest.mark.parametrize("strange", ["", "two words", "x" * 129, "a\tb", "<b>", "é"])
def test_a_strange_request_id_is_replaced(client, strange):
    found = client.get("/livez", headers={b"x-request-id": strange.encode()}).headers["x-request-id"]

    assert re.fullmatch("[0-9a-f]{32}", found)


def test_each_request_gets_an_id_of_its_own(client):
    assert client.get("/livez").headers["x-request-id"] != client.get("/livez").headers["x-request-id"]


def test_requests_are_logged_by_route_and_probes_are_not(client, caplog):
    with caplog.at_level("INFO"):
        client.get("/v1/models?patient=smith", headers={"X-Request-ID": "r1"})
        client.get("/patients/smith")
        client.get("/livez")

    # A handler of another test may show caplog the same record once more; that is no second line.
    mine = {id(record): record for record in caplog.records if record.name == "interscan"}
    lines = [record.getMessage() for record in mine.values()]
    assert re.fullmatch(r"GET /v1/models 200 \d+ ms r1", lines[0])
    assert re.fullmatch(r"GET other 404 \d+ ms \w+", lines[1])
    assert len(lines) == 2


def test_invented_methods_make_no_new_series():
    telemetry = Telemetry()

    for number in range(5):
        telemetry.observe(f"M{number}", "none", 405, 0.1)

    assert 'interscan_requests_total{method="other",route="none",status="405"} 5.0' in telemetry.render().decode()
