"""What image statistics say of a scan and of a pair, through an artefact with checks."""

from pathlib import Path

import numpy as np
import pytest

from app.answers import answer_embedding, answer_progression
from app.checks import describe, pair_checks, scan_checks
from app.inputs import PreparedScan
from app.registry import LoadedModel, load_artefact
from preprocess.image_statistics import ImageReferences, image_statistics, looks_groups
from tests.support.artefacts import decision_part, write_artefact

_RIGHT = np.random.default_rng(0).integers(0, 200, (1, 8, 16, 16), dtype=np.uint8)
# Left and right alike, so that turning it is not nearer to its mirror image.
SCAN = PreparedScan(np.concatenate([_RIGHT[:, ::-1], _RIGHT], axis=1), "a" * 64, ())
OTHER = PreparedScan(SCAN.voxels_CDHW[:, :, ::-1], "b" * 64, ())
UNIT = SCAN.voxels_CDHW.astype(np.float32) * np.float32(1 / 255)


def references() -> dict[str, np.ndarray]:
    """References that SCAN lies in the middle of; coarse brightness varies along one direction only."""
    found, other = image_statistics(UNIT), image_statistics(UNIT[:, :, ::-1])
    axis_F = (other.coarse_DHW - found.coarse_DHW).ravel()
    length = np.linalg.norm(axis_F)
    precision_SS = np.zeros((30, 30))
    for group in looks_groups().values():
        precision_SS[group, group] = np.eye(group.stop - group.start)
    return {
        "image_mean_DHW": found.coarse_DHW,
        "image_axes_KF": axis_F[None] / length,
        "image_sd_K": np.array([length / 4]),
        "visit_precision_KK": np.array([[9 / length**2]]),
        "looks_mean_S": found.looks_S,
        "looks_precision_SS": precision_SS,
        "scanner_precision_SS": np.diag((np.arange(30) == looks_groups()["brightness"].start) * 1.0),
    }


def loaded(folder: Path, *names: str, limit: float = 2.0, **changes) -> LoadedModel:
    checks = [{"name": name, "limit": limit, "percentile": 99.5, "num": 50} for name in names]
    part = decision_part() | {"checks": checks} | changes
    return load_artefact(str(write_artefact(folder, decision=part, references=references() if names else {})))


def test_a_scan_like_the_training_scans_is_within_every_limit(tmp_path: Path):
    model = loaded(tmp_path, "layout", "residual", "detail")

    checks = scan_checks(model, describe(model, SCAN))

    assert [(check.name, check.is_beyond) for check in checks] == [
        ("layout", False),
        ("residual", False),
        ("detail", False),
    ]
    assert max(check.value for check in checks) < 0.01
    assert {(check.limit, check.percentile) for check in checks} == {(2.0, 99.5)}


def test_a_turned_scan_is_flagged_by_the_check_that_sees_it_and_undecides(tmp_path: Path):
    model = loaded(tmp_path, "layout", "residual", "identity")

    answer = answer_progression(model, SCAN, OTHER)

    assert answer.later.checks[0].value == pytest.approx(4.0, rel=1e-4)
    assert [check.is_beyond for check in answer.later.checks] == [True, False]
    assert not any(check.is_beyond for check in answer.earlier.checks)
    assert answer.decision == "undecided"
    assert "out_of_distribution" in answer.reasons
    assert any("later scan does not look like the training scans: bright and dark" in text for text in answer.caution)
    # A scan that is flagged itself says nothing of whose head it is.
    assert answer.same_person is None
    assert "not_same_person" not in answer.reasons


def test_two_heads_that_differ_beyond_visits_are_not_of_one_person(tmp_path: Path):
    model = loaded(tmp_path, "identity")

    answer = answer_progression(model, SCAN, OTHER)

    assert answer.same_person is not None
    assert answer.same_person.value == pytest.approx(3.0, rel=1e-4)
    assert (answer.decision, answer.reasons[0]) == ("undecided", "not_same_person")
    assert "differ by 3.0, and 99.5 % of two visits of one person by less than 2.0" in answer.caution[0]
    wide = answer_progression(loaded(tmp_path / "wide", "identity", limit=3.1), SCAN, OTHER)
    assert "not_same_person" not in wide.reasons


def test_scans_of_two_scanners_are_held_against_the_floor_of_two_scanners(tmp_path: Path):
    floor = {"percentile_95": 500.0, "num_pairs": 30, "unit": "points of mmse"}
    brighter = PreparedScan(SCAN.voxels_CDHW + np.uint8(50), "d" * 64, ())
    known = loaded(tmp_path / "known", "scanner", limit=0.1, other_scanner=floor)
    unknown = loaded(tmp_path / "unknown", "scanner", limit=0.1)
    alike = loaded(tmp_path / "alike", "scanner", limit=0.3, other_scanner=floor)

    answer = answer_progression(known, SCAN, brighter)
    assert answer.same_scanner is not None
    assert answer.same_scanner.value == pytest.approx(50 / 255, rel=1e-4)
    assert answer.predicted_change is not None
    assert (answer.predicted_change.noise_floor_95, answer.predicted_change.within_noise_floor) == (500.0, True)
    assert {"other_scanner", "within_noise"} <= set(answer.reasons)
    assert any(
        "95 % of visits on two scanners miss the true change by less than 500.0" in one for one in answer.caution
    )
    without = answer_progression(unknown, SCAN, brighter)
    assert {"other_scanner", "no_noise_floor"} <= set(without.reasons)
    assert any("no two-scanner references" in sentence for sentence in without.caution)
    within = answer_progression(alike, SCAN, brighter)
    assert within.predicted_change is not None
    assert within.predicted_change.noise_floor_95 == 0.01
    assert "other_scanner" not in within.reasons


def test_bright_tissue_too_far_out_is_another_contrast(tmp_path: Path):
    model = loaded(tmp_path, "contrast", limit=0.001)
    axes = np.linspace(-1.0, 1.0, 16) ** 2
    radius = np.sqrt(axes[:, None, None] + axes[:, None] + axes)
    ringed = PreparedScan((np.clip(radius, 0, 0.6) * 250).astype(np.uint8)[None], "c" * 64, ())

    answer = answer_progression(model, SCAN, ringed)

    assert "not_this_contrast" in answer.reasons
    assert any("later scan may be of another contrast" in text for text in answer.caution)


def test_an_artefact_without_checks_describes_nothing_and_answers(tmp_path: Path):
    model = loaded(tmp_path)

    assert describe(model, SCAN) is None
    assert scan_checks(model, None) == []
    assert pair_checks(model, None, None) == {}
    answer = answer_progression(model, SCAN, OTHER)
    assert answer.earlier.checks == []
    assert answer.same_person is None


def test_an_embedding_comes_with_the_checks_of_its_scan(tmp_path: Path):
    answer = answer_embedding(loaded(tmp_path, "layout"), OTHER)

    assert [(check.name, check.is_beyond) for check in answer.scan.checks] == [("layout", True)]
    assert ImageReferences.of(references()).identity(image_statistics(UNIT), image_statistics(UNIT)) == 0
