"""GET /v1/models as a caller sees it."""

from tests.support.artefacts import RECIPE, WIDTH, write_artefact, write_severity_artefact
from tests.support.service import running


def test_each_model_is_listed_with_what_its_manifest_says_and_the_first_is_the_default(artefact, tmp_path):
    second = write_artefact(tmp_path / "second" / "2", name="second", version="2")
    with running(artefact, second) as client:
        response = client.get("/v1/models")

    models = response.json()["models"]
    assert [(model["name"], model["version"], model["is_default"]) for model in models] == [
        ("tiny", "1", True),
        ("second", "2", False),
    ]
    assert models[0]["fingerprint"] == RECIPE.fingerprint()
    assert models[0]["embedding_width"] == WIDTH
    assert models[0]["metrics"]["macro_f1"]["chance"] == 0.40
    assert "private-bucket" not in response.text


def test_each_model_is_listed_with_its_kind(artefact, tmp_path):
    with running(artefact, write_severity_artefact(tmp_path / "far" / "1")) as client:
        models = client.get("/v1/models").json()["models"]

    assert [(model["name"], model["kind"]) for model in models] == [("tiny", "progression"), ("far", "severity")]


def test_a_model_that_failed_its_checks_is_not_listed(artefact, tmp_path):
    broken = write_artefact(tmp_path / "broken" / "1", name="broken", golden_shift=0.1)
    with running(artefact, broken) as client:
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["tiny"]
