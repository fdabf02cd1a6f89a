"""The lung cohort: same bytes by seed, a table that lists, and clips that follow the truth."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.lung.cohort import LungSummary, write_lung_cohort
from preprocess.errors import UsageError
from preprocess.sources.scan_table import list_table

SMALL = {"num_subjects": 10, "seed": 1, "size_px": 64, "num_frames": 6}


def _write(out: Path, **changes: object) -> LungSummary:
    return write_lung_cohort(out, **(SMALL | changes))  # type: ignore[arg-type]


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> LungSummary:
    return _write(tmp_path_factory.mktemp("synth") / "cohort")


def test_equal_seeds_write_equal_bytes_and_other_seeds_other_clips(cohort: LungSummary, tmp_path: Path) -> None:
    _write(tmp_path / "again")
    assert _digests(tmp_path / "again") == _digests(cohort.root)
    _write(tmp_path / "other", seed=2)
    ours, theirs = _digests(cohort.root), _digests(tmp_path / "other")
    assert not set(ours.values()) & set(theirs.values())


def test_a_larger_cohort_holds_the_smaller_ones_clips(cohort: LungSummary, tmp_path: Path) -> None:
    _write(tmp_path / "more", num_subjects=12)
    small, large = _digests(cohort.root), _digests(tmp_path / "more")
    clips = [name for name in small if name.endswith(".npy")]
    assert len(clips) == cohort.num_scans
    assert all(large[name] == small[name] for name in clips)


def test_the_table_lists_every_clip_with_its_day_and_score(cohort: LungSummary) -> None:
    listing = list_table(str(cohort.table), ["LUS"])
    assert listing.notes == []
    assert len(listing.scans) == cohort.num_scans == cohort.num_written
    truth = {(row["subject_id"], row["session_id"], row["run"]): row for row in _rows(cohort.truth)}
    for scan, _, size in listing.scans:
        clip = np.load(scan.uri, allow_pickle=False)
        assert (clip.dtype, clip.shape) == (np.uint8, (6, 64, 64))
        assert size > clip.size
        row = truth.pop(scan.visit)
        assert scan.day == float(row["day"])
        assert scan.outcomes == {"sf_ratio": float(row["sf_ratio"])}
    assert not truth


def test_the_three_zones_of_a_day_share_one_score(cohort: LungSummary) -> None:
    scores: dict[tuple[str, str], list[str]] = {}
    for row in _rows(cohort.table):
        scores.setdefault((row["subject_id"], row["session_id"]), []).append(row["sf_ratio"])
    assert all(len(values) == 3 and len(set(values)) == 1 for values in scores.values())


def test_clips_follow_the_truth_through_gain_depth_and_probe(tmp_path: Path) -> None:
    summary = write_lung_cohort(tmp_path / "c", num_subjects=24, seed=7, num_frames=4)
    truth = {(row["subject_id"], row["session_id"], row["run"]): row for row in _rows(summary.truth)}
    losses, contrasts = [], []
    for scan, _, _ in list_table(str(summary.table), ["LUS"]).scans:
        clip = np.load(scan.uri).astype(float)
        rows, columns = np.nonzero((clip > 0).any(axis=0))
        down = (rows - rows.min()) / np.ptp(rows)
        # Deep lung against the chest wall: the same gain is in both.
        deep, wall = (clip[:, rows[part], columns[part]].mean() for part in (down > 0.6, down < 0.12))
        contrasts.append(deep - wall)
        losses.append(float(truth[scan.visit]["zone_loss"]))
    assert stats.spearmanr(losses, contrasts).statistic > 0.75


def test_the_same_call_again_mends_what_was_lost(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    first = _write(out, num_subjects=2)
    before = _digests(out)
    assert _write(out, num_subjects=2).num_written == 0
    sorted(out.rglob("*.npy"))[3].unlink()
    (out / "scans.csv").unlink()
    assert _write(out, num_subjects=2).num_written == 1
    assert _digests(out) == before
    assert sum(first.num_by_trajectory.values()) == first.num_subjects == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_subjects", 0), ("num_visits", 0), ("seed", -1), ("size_px", 16), ("size_px", 600), ("num_frames", 1)],
)
def test_an_argument_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"^{name} is {value}"):
        _write(tmp_path / "cohort", **{name: value})
    assert not (tmp_path / "cohort").exists()
