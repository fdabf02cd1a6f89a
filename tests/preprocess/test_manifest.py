"""The artefact's manifest: it survives JSON, and what another version wrote is refused and not half understood."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from preprocess.manifest import Manifest
from preprocess.recipe import VolumeRecipe

WHOLE: dict[str, Any] = {
    **{"schema_version": 1, "name": "tiny", "version": "1", "created": datetime(2026, 1, 2, tzinfo=UTC)},
    **{"method": "clinimcl", "embedding_width": 8, "files": {"model.ts": "0" * 64}, "tolerance": 1e-5},
    **{"guarantees": (), "intended_use": "tests", "limitations": ()},
    "inputs": {"modality": "T1w", "volume_recipe": VolumeRecipe(), "fingerprint": VolumeRecipe().fingerprint()},
    "outcome": {"name": "mmse", "higher_is_better": True, "threshold": 2.0},
    "calibration": {"temperature": 1.5, "num_pairs": 40},
    "metrics": {"auc": {"value": 0.8, "low": 0.7, "high": 0.9, "chance": 0.5, "num": 40}},
    "training": {
        **{"run_uri": "runs/a", "checkpoint": "c", "recipe": {"seed": 1}, "store_uri": "s"},
        **{"store_index_sha256": "0" * 64, "num_subjects": {"train": 9}, "git_revision": "", "torch_version": "2.13.0"},
    },
}
SEVERITY_ANCHOR = {"normal": 0.0, "num_scans": 5, "num_subjects": 3}
SEVERITY = {"kind": "severity", "calibration": None, "anchor": SEVERITY_ANCHOR}


def test_a_manifest_survives_json() -> None:
    manifest = Manifest.model_validate(WHOLE)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.inputs.axes == "RAS"
    assert manifest.calibration is not None
    assert manifest.calibration.expected_calibration_error is None


def test_a_manifest_without_a_kind_is_of_progression() -> None:
    manifest = Manifest.model_validate(WHOLE)
    assert (manifest.kind, manifest.anchor) == ("progression", None)


def test_one_of_severity_has_an_anchor_in_the_place_of_a_calibration() -> None:
    manifest = Manifest.model_validate({**WHOLE, **SEVERITY})
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.anchor is not None
    assert (manifest.anchor.normal, manifest.anchor.num_scans, manifest.anchor.num_subjects) == (0.0, 5, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": None},
        {"anchor": SEVERITY_ANCHOR},
        {"kind": "severity"},
        {"kind": "severity", "calibration": None},
        {"kind": "severity", "anchor": SEVERITY_ANCHOR},
        {"kind": "severity", "calibration": None, "anchor": {**SEVERITY_ANCHOR, "num_scans": 0}},
        {"kind": "regression"},
    ],
)
def test_parts_that_do_not_belong_to_the_kind_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"kind|anchor"):
        Manifest.model_validate({**WHOLE, **change})


@pytest.mark.parametrize("missing", sorted(set(WHOLE) - {"schema_version"}))
def test_every_field_is_needed(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        Manifest.model_validate({name: value for name, value in WHOLE.items() if name != missing})


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"surplus": 1},
        {"outcome": {"name": "mmse", "higher_is_better": True, "threshold": 0}},
        {"inputs": {**WHOLE["inputs"], "axes": "LPS"}},
    ],
)
def test_another_schema_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate({**WHOLE, **change})
