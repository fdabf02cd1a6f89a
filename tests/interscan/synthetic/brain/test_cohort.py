"""The cohort on disk: same bytes for any number of workers, finished after a loss, refused where it does not belong."""

import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from interscan.synthetic.brain.cohort import CohortSummary, write_brain_cohort
from interscan.synthetic.brain.phantom import true_ventricle_mm3
from interscan.synthetic.brain.plan import describe_brain_cohort, subject_anatomy
from preprocess.errors import UsageError


def _write(out: Path, **changes: object) -> CohortSummary:
    arguments = {"num_subjects": 3, "num_visits": 2, "seed": 1, "spacing_mm": 4.0, "workers": 1} | changes
    return write_brain_cohort(out, **arguments)  # type: ignore[arg-type]


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _truth(root: Path) -> list[dict[str, str]]:
    with (root / "truth.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortSummary:
    return _write(tmp_path_factory.mktemp("synth") / "cohort")


def test_spawned_workers_and_this_process_write_the_same_bytes(cohort: CohortSummary, tmp_path: Path) -> None:
    _write(tmp_path / "again", workers=2)
    assert _digests(tmp_path / "again") == _digests(cohort.root)


def test_a_larger_cohort_holds_the_smaller_ones_pictures(cohort: CohortSummary, tmp_path: Path) -> None:
    _write(tmp_path / "more", num_subjects=4)
    small, large = _digests(cohort.root), _digests(tmp_path / "more")
    pictures = [name for name in small if name.endswith(".nii.gz")]
    assert len(pictures) == cohort.num_scans == 7
    assert all(large[name] == small[name] for name in pictures)


def test_pictures_are_int16_ras_with_their_scanners_voxels(cohort: CohortSummary) -> None:
    edges = {"alder-3T": (4.0, 4.0, 4.0), "birch-1.5T": (4.8, 4.0, 4.0)}
    rows = _truth(cohort.root)
    assert len(rows) == cohort.num_scans
    for row in rows:
        stem = f"{row['subject_id']}_{row['session_id']}"
        image = nib.load(cohort.root / row["subject_id"] / row["session_id"] / "anat" / f"{stem}_T1w.nii.gz")
        assert image.get_data_dtype() == np.int16
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.header.get_zooms(), edges[row["scanner"]], rtol=1e-6)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1
        voxels = np.asanyarray(image.dataobj)
        assert voxels.dtype == np.int16
        assert voxels.max() > 10 * np.median(voxels[0])


def test_gzip_headers_carry_neither_time_nor_name(cohort: CohortSummary) -> None:
    for path in cohort.root.rglob("*.nii.gz"):
        header = path.read_bytes()[:10]
        assert header[:3] == b"\x1f\x8b\x08"
        assert header[3] == 0
        assert header[4:8] == bytes(4)


def test_truth_names_the_volume_of_the_subjects_own_ventricles(cohort: CohortSummary) -> None:
    plan = {s.subject_id: s for s in describe_brain_cohort(num_subjects=3, num_visits=2, seed=1)}
    for row in _truth(cohort.root):
        expected = true_ventricle_mm3(subject_anatomy(1, plan[row["subject_id"]].number), float(row["atrophy"]))
        assert float(row["ventricle_mm3"]) == pytest.approx(expected, rel=1e-3)


def test_a_repeat_has_the_truth_of_its_visit_and_other_voxels(cohort: CohortSummary) -> None:
    rows = {(row["subject_id"], row["session_id"]): row for row in _truth(cohort.root)}
    repeats = [row for row in rows.values() if row["rescan_of"] != "n/a"]
    assert len(repeats) == cohort.num_rescans == 1
    for row in repeats:
        original = rows[row["subject_id"], row["rescan_of"]]
        assert {k: row[k] for k in row if k not in ("session_id", "rescan_of")} == {
            k: original[k] for k in original if k not in ("session_id", "rescan_of")
        }
    digests = [digest for name, digest in _digests(cohort.root).items() if name.endswith(".nii.gz")]
    assert len(set(digests)) == len(digests)


def test_three_subjects_hold_all_trajectories(cohort: CohortSummary) -> None:
    assert cohort.num_by_trajectory == {"declining": 1, "stable": 1, "improving": 1}


def test_the_same_call_again_changes_nothing_and_mends_what_was_lost(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    assert _write(out, spacing_mm=8.0).num_written == 7
    before = _digests(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert _write(out, spacing_mm=8.0).num_written == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times

    lost = sorted(out.rglob("*.nii.gz"))[2]
    lost.unlink()
    (out / "truth.tsv").unlink()
    assert _write(out, spacing_mm=8.0).num_written == 1
    assert _digests(out) == before


def test_a_stopped_run_is_finished_by_the_same_call(tmp_path: Path, cohort: CohortSummary) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise StoppedError

    out = tmp_path / "cohort"
    with pytest.raises(StoppedError):
        _write(out, progress=stop)
    assert not (out / "dataset_description.json").exists()
    assert not (out / "truth.tsv").exists()
    assert _write(out).num_written == 4
    assert _digests(out) == _digests(cohort.root)


def test_progress_counts_to_the_number_of_scans(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    _write(tmp_path / "cohort", num_subjects=1, spacing_mm=8.0, progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(UsageError, match=r"is not empty and holds no cohort.*choose a new or empty folder"):
        _write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("name", "value"), [("seed", 2), ("num_subjects", 4), ("num_visits", 3), ("spacing_mm", 5.0)])
def test_a_cohort_of_other_arguments_is_refused(cohort: CohortSummary, name: str, value: float) -> None:
    before = _digests(cohort.root)
    with pytest.raises(UsageError, match=rf"holds a cohort of {name} .*, not {value}; choose another folder"):
        _write(cohort.root, **{name: value})
    assert _digests(cohort.root) == before


@pytest.mark.parametrize(("name", "value"), [("spacing_mm", 0.1), ("spacing_mm", 9.0), ("workers", -1)])
def test_an_argument_out_of_range_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, value: float
) -> None:
    with pytest.raises(UsageError, match=f"^{name} is {value}"):
        _write(tmp_path / "cohort", **{name: value})
    assert not (tmp_path / "cohort").exists()


def test_a_noisier_test_changes_scores_and_no_picture(cohort: CohortSummary, tmp_path: Path) -> None:
    noisy = _write(tmp_path / "noisy", score_noise=2.8)
    assert _truth(noisy.root) != _truth(cohort.root)
    pictures = sorted(path.relative_to(cohort.root) for path in cohort.root.rglob("*.nii.gz"))
    assert all((noisy.root / name).read_bytes() == (cohort.root / name).read_bytes() for name in pictures)
    with pytest.raises(UsageError, match="score_noise"):
        _write(noisy.root)


def test_a_cohort_that_ages_has_larger_ventricles_the_older_and_equal_scores(
    cohort: CohortSummary, tmp_path: Path
) -> None:
    aged = _write(tmp_path / "aged", ageing=True)
    plain, older = _truth(cohort.root), _truth(aged.root)
    assert [row["mmse"] for row in plain] == [row["mmse"] for row in older]
    assert "age" in next(iter(aged.root.glob("sub-*/*_sessions.tsv"))).read_text()
    ages = {one.subject_id: one.age for one in describe_brain_cohort(num_subjects=3, num_visits=2, seed=1)}
    grown = {
        row["subject_id"]: float(two["ventricle_mm3"]) - float(row["ventricle_mm3"])
        for row, two in zip(plain, older, strict=True)
        if row["session_id"] == "ses-01"
    }
    by_age = sorted(grown, key=lambda subject: ages[subject])
    assert grown[by_age[-1]] > grown[by_age[0]] >= 0
    for other in (False, True):
        with pytest.raises(UsageError, match="ageing"):
            _write(cohort.root if other else aged.root, ageing=other)
