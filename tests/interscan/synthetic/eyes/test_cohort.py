"""The severity cohort: same bytes by seed, a table that lists, lesions that follow the grade."""

import csv
import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import stats

from interscan.synthetic.eyes.cohort import SeveritySummary, write_severity_cohort
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


def test_lesion_area_in_the_truth_rises_with_grade_and_severity(tmp_path: Path) -> None:
    summary = write_severity_cohort(tmp_path / "c", num_subjects=60, seed=3, size_px=48, balanced=True)
    rows = _rows(summary.truth)
    grades, severities, areas = (np.array([float(r[k]) for r in rows]) for k in ("grade", "severity", "lesion_area"))
    means = [areas[grades == grade].mean() for grade in range(5)]
    assert means[0] == 0
    assert all(later > 1.3 * earlier for earlier, later in pairwise(means))
    assert stats.spearmanr(severities, areas).statistic > 0.9


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
