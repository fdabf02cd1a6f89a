"""The severity cohort: same bytes by seed, a table that lists, shares as designed, lesions that follow the grade."""

import csv
import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import stats

from interscan.synthetic.eyes.cohort import SeveritySummary, describe_severity_cohort, write_severity_cohort
from preprocess.errors import UsageError
from preprocess.sources.scan_table import list_table


def _write(out: Path, **changes: object) -> SeveritySummary:
    arguments = {"num_subjects": 12, "seed": 1, "size_px": 64} | changes
    return write_severity_cohort(out, **arguments)  # type: ignore[arg-type]


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SeveritySummary:
    return _write(tmp_path_factory.mktemp("synth") / "cohort")


def test_equal_seeds_write_equal_bytes_and_other_seeds_other_pictures(cohort: SeveritySummary, tmp_path: Path) -> None:
    _write(tmp_path / "again")
    assert _digests(tmp_path / "again") == _digests(cohort.root)
    _write(tmp_path / "other", seed=2)
    ours, theirs = (
        {digest for name, digest in _digests(root).items() if name.endswith(".png")}
        for root in (cohort.root, tmp_path / "other")
    )
    assert len(ours) == cohort.num_scans
    assert not ours & theirs


def test_a_larger_cohort_holds_the_smaller_ones_pictures(cohort: SeveritySummary, tmp_path: Path) -> None:
    _write(tmp_path / "more", num_subjects=14)
    small, large = _digests(cohort.root), _digests(tmp_path / "more")
    pictures = [name for name in small if name.endswith(".png")]
    assert len(pictures) == cohort.num_scans
    assert all(large[name] == small[name] for name in pictures)


def test_the_table_lists_every_picture_with_the_grade_of_the_truth(cohort: SeveritySummary) -> None:
    listing = list_table(str(cohort.table), ["fundus"])
    assert listing.notes == []
    assert len(listing.scans) == cohort.num_scans == cohort.num_written
    truth = {(row["subject_id"], row["session_id"], row["run"]): row for row in _rows(cohort.truth)}
    for scan, _, _ in listing.scans:
        with Pillow.open(scan.uri) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
        row = truth.pop(scan.visit)
        assert scan.day == 0
        assert scan.outcomes == {"grade": float(row["grade"])}
        assert int(float(row["severity"])) == int(row["grade"])
    assert not truth


@pytest.mark.parametrize("seed", range(5))
def test_grades_are_as_rare_as_in_published_sets_or_equally_frequent(seed: int) -> None:
    for balanced, shares in ((False, (0.73, 0.07, 0.15, 0.025, 0.025)), (True, (0.2,) * 5)):
        plan = describe_severity_cohort(num_subjects=400, seed=seed, balanced=balanced)
        grades = np.bincount([eye.grade for person in plan for eye in person.eyes], minlength=5)
        np.testing.assert_allclose(grades / 800, shares, atol=0.02)


def test_every_grade_is_there_in_a_cohort_of_the_default_size() -> None:
    for seed in range(10):
        grades = {eye.grade for person in describe_severity_cohort(seed=seed) for eye in person.eyes}
        assert grades == {0, 1, 2, 3, 4}


def test_both_eyes_of_a_person_are_there_and_mostly_agree() -> None:
    plan = describe_severity_cohort(num_subjects=400, seed=0, balanced=True)
    assert all([eye.side for eye in person.eyes] == ["right", "left"] for person in plan)
    eyes = np.array([[eye.severity for eye in person.eyes] for person in plan])
    # A normal copula of correlation r has the rank correlation 6/pi asin(r/2): 0.84 for 0.85; normals tie at 0.
    assert stats.spearmanr(eyes).statistic == pytest.approx(6 / np.pi * np.arcsin(0.85 / 2), abs=0.04)
    assert 0.1 < np.mean(eyes[:, 0].astype(int) != eyes[:, 1].astype(int)) < 0.6
    runs = [[image.run for eye in person.eyes for image in eye.images] for person in plan]
    assert all(names == [f"run-{number + 1}" for number in range(len(names))] for names in runs)
    twice = np.mean([len(eye.images) == 2 for person in plan for eye in person.eyes])
    assert twice == pytest.approx(0.15, abs=0.04)


def test_lesion_area_in_the_truth_rises_with_grade_and_severity(tmp_path: Path) -> None:
    summary = write_severity_cohort(tmp_path / "c", num_subjects=60, seed=3, size_px=48, balanced=True)
    rows = _rows(summary.truth)
    grades, severities, areas = (np.array([float(r[k]) for r in rows]) for k in ("grade", "severity", "lesion_area"))
    means = [areas[grades == grade].mean() for grade in range(5)]
    assert means[0] == 0
    assert all(later > 1.3 * earlier for earlier, later in pairwise(means))
    assert stats.spearmanr(severities, areas).statistic > 0.9


def test_the_camera_and_pigment_say_nothing_about_the_grade() -> None:
    plan = describe_severity_cohort(num_subjects=600, seed=4, balanced=True)
    table = np.zeros((5, 2))
    for person in plan:
        table[person.eyes[0].grade, person.eyes[0].images[0].camera] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01
    groups = [[p.person.pigment for p in plan if p.eyes[0].grade == grade] for grade in range(5)]
    assert stats.f_oneway(*groups).pvalue > 0.01


def test_the_same_call_again_mends_what_was_lost(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    _write(out, num_subjects=3)
    before = _digests(out)
    assert _write(out, num_subjects=3).num_written == 0
    sorted(out.rglob("*.png"))[1].unlink()
    assert _write(out, num_subjects=3).num_written == 1
    assert _digests(out) == before
    with pytest.raises(UsageError, match="holds a cohort of balanced False, not True"):
        _write(out, num_subjects=3, balanced=True)


@pytest.mark.parametrize(("name", "value"), [("num_subjects", 0), ("seed", -1), ("size_px", 40), ("size_px", 2000)])
def test_an_argument_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"^{name} is {value}"):
        _write(tmp_path / "cohort", **{name: value})
    assert not (tmp_path / "cohort").exists()
