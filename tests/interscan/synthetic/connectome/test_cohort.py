"""The connectome cohort: same bytes by seed, and of use only to those who join its modalities."""

import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interscan.synthetic.connectome.cohort import ConnectomeSummary, measurement_path, write_connectome_cohort
from interscan.synthetic.connectome.plan import MODALITIES, describe_connectome_cohort
from interscan.synthetic.connectome.render import draw_population
from interscan.synthetic.planning import stream
from preprocess.engine import preprocess
from preprocess.errors import UsageError
from preprocess.recipe import VolumeRecipe
from preprocess.sources.scan_table import list_table
from preprocess.storage import Location
from preprocess.store import Store

_KINDS = dict.fromkeys(("SC", "FC", "radiomics", "clinical"), "array")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> ConnectomeSummary:
    return write_connectome_cohort(tmp_path_factory.mktemp("synth") / "cohort", num_subjects=12, seed=1)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(path: Path, delimiter: str) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def _auc(features_NF: np.ndarray, labels_N: np.ndarray) -> float:
    """Of a logistic regression, over subjects it was not fitted on."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    chances_N = cross_val_predict(model, features_NF, labels_N, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels_N, chances_N))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(cohort: ConnectomeSummary, tmp_path: Path) -> None:
    write_connectome_cohort(tmp_path / "again", num_subjects=12, seed=1)
    assert _digests(tmp_path / "again") == _digests(cohort.root)
    write_connectome_cohort(tmp_path / "other", num_subjects=12, seed=2)
    first, other = _digests(cohort.root), _digests(tmp_path / "other")
    assert not {first[name] for name in first} & {other[name] for name in other}


def test_a_larger_cohort_holds_the_smaller_one(cohort: ConnectomeSummary, tmp_path: Path) -> None:
    more = write_connectome_cohort(tmp_path / "more", num_subjects=14, seed=1)
    small, large = _digests(cohort.root), _digests(more.root)
    measured = [name for name in small if name.startswith("sub-")]
    assert len(measured) == cohort.num_scans
    assert all(large[name] == small[name] for name in measured)
    for name in (cohort.table.name, cohort.truth.name):
        assert (more.root / name).read_text().startswith((cohort.root / name).read_text())


def test_what_is_missing_leaves_the_other_files_alone(cohort: ConnectomeSummary, tmp_path: Path) -> None:
    whole = write_connectome_cohort(tmp_path / "whole", num_subjects=12, seed=1, missing=0.0)
    assert whole.num_scans == 60
    few, all_of_them = _digests(cohort.root), _digests(whole.root)
    assert all(all_of_them[name] == few[name] for name in few if name.startswith("sub-"))


def test_the_same_call_again_writes_nothing_and_another_is_refused(cohort: ConnectomeSummary) -> None:
    before = _digests(cohort.root)
    assert cohort.num_written == cohort.num_scans
    assert write_connectome_cohort(cohort.root, num_subjects=12, seed=1).num_written == 0
    with pytest.raises(UsageError, match=r"holds a cohort of missing 0\.3, not 0\.1; choose another folder"):
        write_connectome_cohort(cohort.root, num_subjects=12, seed=1, missing=0.1)
    assert _digests(cohort.root) == before


@pytest.mark.parametrize(("name", "value"), [("num_subjects", 0), ("seed", -1), ("missing", -0.1), ("missing", 1.1)])
def test_an_argument_out_of_range_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, value: float
) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is {value}, (below|above) \d+; give \d+ or (more|less)$"):
        write_connectome_cohort(tmp_path / "cohort", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "cohort").exists()


def test_progress_counts_every_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_connectome_cohort(tmp_path / "cohort", num_subjects=2, missing=0.0, progress=lambda *at: seen.append(at))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_matrices_are_symmetric_and_within_their_bounds(cohort: ConnectomeSummary) -> None:
    for path in cohort.root.rglob("*_SC.npy"):
        matrix = np.load(path)
        assert matrix.shape == (87, 87)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, matrix.T)
        assert matrix.min() == 0
        assert not matrix.diagonal().any()
        assert 0.1 < (matrix > 0).mean() < 0.4
    for path in cohort.root.rglob("*_FC.npy"):
        matrix = np.load(path)
        assert matrix.shape == (87, 87)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(matrix.diagonal(), 1)
        assert np.abs(matrix).max() == 1
        assert np.linalg.eigvalsh(matrix.astype(np.float64)).min() > -1e-4
    for path in cohort.root.rglob("*_radiomics.npy"):
        features = np.load(path)
        assert features.shape == (87, 20)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()


def test_heads_are_askew_lattices_of_4_mm_and_charts_have_eight_numbers(cohort: ConnectomeSummary) -> None:
    heads = list(cohort.root.rglob("*_T2.nii.gz"))
    for path in heads:
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16
        np.testing.assert_allclose(image.header.get_zooms(), 4.0, rtol=1e-5)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert path.read_bytes()[4:8] == bytes(4)
    assert len({nib.load(path).affine.tobytes() for path in heads}) == len(heads)
    for path in cohort.root.rglob("*_clinical.csv"):
        header, numbers = path.read_text().splitlines()
        assert len(header.split(",")) == 8
        assert np.isfinite([float(cell) for cell in numbers.split(",")]).all()


def test_the_table_is_listed_without_the_files_that_are_missing(cohort: ConnectomeSummary) -> None:
    listing = list_table(str(cohort.table), MODALITIES)
    plan = describe_connectome_cohort(num_subjects=12, seed=1)
    assert not listing.notes
    assert sum(person.lacks is not None for person in plan) == sum(cohort.num_lacking.values()) > 0
    assert len(listing.scans) == cohort.num_scans == 60 - sum(cohort.num_lacking.values())
    impaired = {person.subject_id: person.impaired for person in plan}
    on_disk = {str(path.relative_to(cohort.root)) for path in cohort.root.rglob("sub-*_*.*")}
    assert {name for _, name, _ in listing.scans} == on_disk
    assert on_disk == {measurement_path(person, modality) for person in plan for modality in person.has}
    for scan, _, num_bytes in listing.scans:
        assert num_bytes > 0
        assert (scan.session_id, scan.day) == ("ses-01", 0)
        assert scan.outcomes == {"impaired": impaired[scan.subject_id]}


def test_truth_adds_the_parts_up_to_the_risk_and_the_risk_decides_the_class(cohort: ConnectomeSummary) -> None:
    rows = _rows(cohort.truth, "\t")
    assert [row["subject_id"] for row in rows] == [f"sub-{number:03d}" for number in range(1, 13)]
    for row in rows:
        risk = sum(float(row[f"part_{part}"]) for part in "abc") / np.sqrt(3)
        assert float(row["risk"]) == pytest.approx(risk, abs=2e-5)
        # 0.2533 is the 60 % quantile of the normal distribution.
        assert int(row["impaired"]) == (risk > 0.2533)
        assert row["lacks"] == "n/a" or not list(cohort.root.rglob(f"{row['subject_id']}_*_{row['lacks']}.*"))
    assert sum(int(row["impaired"]) for row in rows) == cohort.num_impaired


def test_simple_features_of_all_modalities_together_tell_the_classes_better_than_those_of_any_one(
    tmp_path: Path,
) -> None:
    summary = write_connectome_cohort(tmp_path / "cohort", num_subjects=120, seed=0, missing=0.0)
    people = draw_population(stream(0, "connectome population"))
    a, b, c = people.systems
    not_b = np.setdiff1d(np.arange(87), b)

    def block(matrix_RR: np.ndarray, members: np.ndarray) -> float:
        return float(matrix_RR[np.ix_(members, members)][np.triu_indices(len(members), 1)].mean())

    features: dict[str, list[list[float]]] = {modality: [] for modality in MODALITIES}
    labels = []
    for row in _rows(summary.table, ","):
        path, modality = summary.root / row["path"], row["modality"]
        if modality == "SC":
            labels.append(int(row["impaired"]))
            matrix = np.load(path)
            features[modality].append([np.log(block(matrix, a) / block(matrix, np.arange(87)))])
        elif modality == "FC":
            matrix = np.load(path)
            features[modality].append([block(matrix, a), block(matrix, c), block(matrix, np.arange(87))])
        elif modality == "radiomics":
            table = np.load(path)[:, :10] / people.units_F[:10]
            features[modality].append([table[b].mean() - table[not_b].mean(), table[not_b].mean()])
        elif modality == "T2":
            voxels = np.asarray(nib.load(path).dataobj).astype(float)
            at_R3 = np.rint(people.positions_R3 / 4 + (np.array(voxels.shape) - 1) / 2).astype(int)
            signal_R = np.array([voxels[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2].mean() for x, y, z in at_R3])
            features[modality].append([np.log(np.median(signal_R[b]) / np.median(signal_R[not_b]))])
        else:
            features[modality].append([float(cell) for cell in path.read_text().splitlines()[1].split(",")])
    labels_N = np.array(labels)
    single = {modality: _auc(np.array(columns), labels_N) for modality, columns in features.items()}
    joint = _auc(np.hstack([np.array(columns) for columns in features.values()]), labels_N)
    assert min(single.values()) > 0.55
    assert max(single.values()) < 0.85
    assert joint > max(single.values()) + 0.05
    assert joint > 0.85


def test_preprocess_keeps_everything(cohort: ConnectomeSummary, tmp_path: Path) -> None:
    recipe = VolumeRecipe(modalities=MODALITIES, grid=(32, 32, 32), spacing_mm=6.0, kinds=_KINDS)
    manifest = preprocess(str(cohort.table), str(tmp_path / "store"), recipe, workers=0)
    store = Store.open(Location(tmp_path / "store"))
    assert not [finding for record in store.records for finding in record.findings]
    assert manifest.num_rows == 12
    assert (manifest.num_found, manifest.num_kept, manifest.num_left_out) == (cohort.num_scans, cohort.num_scans, 0)
    assert manifest.outcomes == ("impaired",)
    shapes = {modality: store.layout(modality).shape for modality in MODALITIES}
    assert shapes == {"SC": (87, 87), "FC": (87, 87), "radiomics": (87, 20), "T2": (1, 32, 32, 32), "clinical": (8,)}
