"""The artefact's manifest: it survives JSON, and what another version wrote is refused and not half understood."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from preprocess.manifest import Decision, Manifest
from preprocess.recipe import VolumeRecipe
from preprocess.types import PROGRESSIONS
from tests.support.artefacts import decision_part
from trainer.metrics.prediction_sets import SetThresholds

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


DECISION = decision_part(least=(0.3, 0.5, 0.3))


def test_the_part_decision_survives_json_and_is_optional() -> None:
    manifest = Manifest.model_validate({**WHOLE, "decision": DECISION})
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert Manifest.model_validate(WHOLE).decision is None


@pytest.mark.parametrize(
    ("probabilities", "members"),
    [
        ((0.9, 0.05, 0.05), ("improved",)),
        ((0.3, 0.4, 0.3), ("improved", "stable", "declined")),
        ((0.32, 0.39, 0.29), ("improved", "stable")),
        ((0.1, 0.45, 0.45), ("stable", "declined")),
        ((0.25, 0.5, 0.25), ("stable",)),
    ],
)
def test_a_prediction_set_holds_the_likeliest_class_and_every_other_above_its_threshold(
    probabilities: tuple[float, ...], members: tuple[str, ...]
) -> None:
    part = Decision.model_validate(DECISION)
    assert part.prediction_set(probabilities) == members
    thresholds = SetThresholds((0.3, 0.5, 0.3), (True,) * 3, 0.9, 60)
    (inside_3,) = thresholds.members([probabilities])
    assert members == tuple(name for name, inside in zip(PROGRESSIONS, inside_3, strict=True) if inside)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_calibrated": False}, "is_calibrated is False with a log loss of 0.6"),
        ({"least_probability": {"improved": 0.1, "stable": 0.1}}, "names no declined"),
        ({"noise": {"percentile_95": 0.1, "num_pairs": 0, "unit": "points of mmse"}}, "greater than or equal to 1"),
    ],
)
def test_a_part_decision_that_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Decision.model_validate(DECISION | changes)


def test_an_artefact_of_severity_has_no_part_decision() -> None:
    with pytest.raises(ValidationError, match="kind severity decides nothing of a pair"):
        Manifest.model_validate({**WHOLE, **SEVERITY, "decision": DECISION})
