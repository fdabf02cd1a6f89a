"""The lung cohort: same bytes by seed, a table that lists, and clips that follow the truth."""

import csv
import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.lung.cohort import LungSummary, describe_lung_cohort, write_lung_cohort
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


def test_patients_have_three_to_five_days_of_three_zones_that_share_one_score(cohort: LungSummary) -> None:
    plan = describe_lung_cohort(num_subjects=200, seed=3)
    assert Counter(len(patient.days) for patient in plan).keys() == {3, 4, 5}
    for patient in plan:
        assert patient.days[0].day == 0
        assert {later.day - earlier.day for earlier, later in pairwise(patient.days)} <= {1, 2, 3}
        assert all([clip.run for clip in day.clips] == ["run-1", "run-2", "run-3"] for day in patient.days)
    scores: dict[tuple[str, str], set[str]] = {}
    for row in _rows(cohort.table):
        scores.setdefault((row["subject_id"], row["session_id"]), set()).add(row["sf_ratio"])
    assert all(len(values) == 1 for values in scores.values())
    assert all(len(patient.days) == 2 for patient in describe_lung_cohort(num_subjects=5, num_visits=2))


def test_patients_move_as_their_trajectory_says() -> None:
    plan = describe_lung_cohort(num_subjects=300, seed=4)
    counts = Counter(patient.trajectory for patient in plan)
    assert {kind: round(count / 30) for kind, count in counts.items()} == {"declining": 4, "stable": 3, "improving": 3}
    for patient in plan:
        steps = np.diff([day.sf_true for day in patient.days])
        if patient.trajectory == "stable":
            # The logistic curve is steepest in the middle: 400 / 4 points per unit of the logit.
            assert np.abs(steps).max() <= 0.03 * 3 * 100
        else:
            assert (steps > 0).all() == (patient.trajectory == "improving")
            assert (steps < 0).all() == (patient.trajectory == "declining")


def test_scores_scatter_about_the_truth_by_the_stated_noise_and_span_the_scale() -> None:
    days = [day for patient in describe_lung_cohort(num_subjects=400, seed=0) for day in patient.days]
    truth, seen = np.array([day.sf_true for day in days]), np.array([day.sf_ratio for day in days])
    assert truth.min() > 80
    assert truth.max() < 480
    assert np.percentile(truth, 5) < 130
    assert np.percentile(truth, 95) > 420
    assert np.std(seen / truth - 1) == pytest.approx(0.03, rel=0.08)


def test_b_lines_of_a_day_fall_with_the_true_ratio_and_zones_differ() -> None:
    plan = describe_lung_cohort(num_subjects=100, seed=5)
    days = [day for patient in plan for day in patient.days]
    means = [np.mean([clip.num_b_lines for clip in day.clips]) for day in days]
    assert stats.spearmanr([day.sf_true for day in days], means).statistic < -0.95
    numbers = np.array([clip.num_b_lines for day in days for clip in day.clips])
    assert set(numbers.tolist()) == set(range(7))
    assert np.mean([np.std([clip.zone_loss for clip in day.clips]) for day in days]) > 0.03


def test_the_machine_depth_and_wall_say_nothing_about_the_course() -> None:
    plan = describe_lung_cohort(num_subjects=600, seed=6)
    table = np.zeros((3, 2))
    kinds = ("declining", "stable", "improving")
    for patient in plan:
        table[kinds.index(patient.trajectory), patient.days[-1].probe] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01
    for measure in (lambda p: p.wall.pleura_mm, lambda p: p.days[-1].setting.gain_db, lambda p: p.wall.slide_mm):
        groups = [[measure(p) for p in plan if p.trajectory == kind] for kind in kinds]
        assert stats.f_oneway(*groups).pvalue > 0.01
    assert sum(len({day.probe for day in patient.days}) == 2 for patient in plan) > 150


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
