"""Prepared stores: people registered as a whole, masks, what the index says of it, and the way back to the scans."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from interscan import grid_to_scan, open_store, volume_to_nifti
from interscan.cli import run
from preprocess.engine import preprocess
from preprocess.preparation.rigid import farthest_mm
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from tests.support.heads import nifti
from tests.support.studies import put
from tests.support.turned_heads import BRAIN_MM, pose, turned_head, turned_nifti

GRID = {"grid": (32, 32, 32), "spacing_mm": 6.0, "dtype": "uint16"}
TOGETHER = VolumeRecipe(**GRID, registration="subject")
POSES = [pose((3, -2, 5), (4, -3, 2)), pose((-4, 3, -6), (-6, 5, 1)), pose((8, 1, 2), (0, 9, -7))]


def name_of(subject: str, session: int) -> str:
    return f"sub-{subject}/ses-{session:02d}/anat/sub-{subject}_ses-{session:02d}_T1w.nii.gz"


def write_source(root: Path, people: str, num_visits: int) -> Path:
    put(root, "dataset_description.json", '{"Name": "Turned", "BIDSVersion": "1.8.0"}')
    for person, subject in enumerate(people):
        for visit in range(num_visits):
            put(root, name_of(subject, visit + 1), turned_nifti(POSES[visit], person=person, seed=visit))
    return root


def chunks_of(store: Location) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names() if "/c/" in name}


def test_a_new_visit_registers_the_whole_person_anew_in_new_rows_and_nobody_else(tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw", "ab", 2)
    store = Location(str(tmp_path / "store"))
    preprocess(str(raw), store.uri, TOGETHER, workers=0)
    before, first = chunks_of(store), Store.open(store)
    assert [one.preparation.num_registered for one in first.records if one.preparation] == [2, 2, 2, 2]
    put(raw, name_of("b", 3), turned_nifti(POSES[2], person=1, seed=2))
    manifest = preprocess(str(raw), store.uri, TOGETHER, workers=0)
    after = Store.open(store)
    assert (manifest.num_found, manifest.num_kept, manifest.num_rows) == (5, 5, 7)
    assert {name: data for name, data in chunks_of(store).items() if name in before} == before
    old = {one.row: one.superseded_by for one in after.records if one.superseded_by is not None}
    assert old == {2: 4, 3: 5}
    now = {one.name: one for one in after.records if one.present}
    assert [now[f"sub-b_ses-0{visit}_T1w"].row for visit in (1, 2, 3)] == [4, 5, 6]
    assert {one.preparation.num_registered for one in now.values() if one.preparation} == {2, 3}
    assert not [fault for fault in verify_rows(after) if fault]
    index = store.read("index.parquet")
    preprocess(str(raw), store.uri, TOGETHER, workers=0)
    assert store.read("index.parquet") == index


def test_a_visit_that_is_gone_stops_what_would_register_the_others_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_source(tmp_path / "raw", "a", 2)
    store = str(tmp_path / "store")
    preprocess(str(raw), store, TOGETHER, workers=0)
    (raw / name_of("a", 1)).unlink()
    put(raw, name_of("a", 3), turned_nifti(POSES[2], seed=2))
    recipe = ("--set", "grid=[32,32,32]", "--set", "spacing_mm=6", "--set", "dtype=uint16")
    assert run(["preprocess", str(raw), store, *recipe, "--set", "registration=subject", "--workers", "0"]) == 3
    said = capsys.readouterr().err
    assert "sub-a_ses-01_T1w: no longer at the source" in said
    assert "put the file back, or preprocess into a new store" in said


def test_workers_and_one_process_write_the_same_bytes(tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw", "abcde", 2)
    stores = [Location(str(tmp_path / name)) for name in ("alone", "two")]
    for store, workers in zip(stores, (0, 2), strict=True):
        preprocess(str(raw), store.uri, TOGETHER, workers=workers)
    assert chunks_of(stores[0]) == chunks_of(stores[1])
    assert stores[0].read("index.parquet") == stores[1].read("index.parquet")


def test_the_library_gives_the_way_back_and_a_file_that_lies_on_the_scan(tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw", "a", 2)
    preprocess(str(raw), str(tmp_path / "store"), TOGETHER, workers=0)
    store = open_store(tmp_path / "store")
    affines = [grid_to_scan(store, row, "T1w") for row in (0, 1)]
    # One place of the grid is one place of the head in both visits: through both scans and back is no motion.
    around = affines[0] @ np.linalg.inv(affines[1]) @ POSES[1] @ np.linalg.inv(POSES[0])
    assert farthest_mm(around) < 0.2
    image = nib.Nifti1Image.from_bytes(gzip.decompress(volume_to_nifti(store, 1, "T1w")))
    assert image.affine == pytest.approx(affines[1], abs=1e-3)
    assert np.array_equal(np.asarray(image.dataobj), store.read(1, "T1w")[0])
    # As nibabel resamples the scan there, without smoothing: alike but for that.
    voxels, affine = turned_head(POSES[1], seed=1)
    from scipy.ndimage import affine_transform

    to_scan = np.linalg.inv(affine) @ image.affine
    there = affine_transform(voxels.astype(float), to_scan[:3, :3], to_scan[:3, 3], output_shape=image.shape, order=1)
    assert np.corrcoef(there.ravel(), np.asarray(image.dataobj, dtype=float).ravel())[0, 1] > 0.99


def mask_of(head_to_scanner: np.ndarray, share: float) -> bytes:
    _, affine = turned_head(head_to_scanner)
    index = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1)
    head_mm = nib.affines.apply_affine(np.linalg.inv(head_to_scanner) @ affine, index)
    inside = ((head_mm / (np.array(BRAIN_MM) * share)) ** 2).sum(-1) <= 1
    return nifti(inside.astype(np.uint8), affine)


def test_masks_are_applied_recorded_and_a_new_one_makes_a_new_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_source(tmp_path / "raw", "a", 2)
    masks = tmp_path / "masks"
    put(masks, "sub-a_ses-01_desc-brain_mask.nii.gz", mask_of(POSES[0], 1.0))
    store = str(tmp_path / "store")
    command = ["preprocess", str(raw), store, "--set", "grid=[32,32,32]", "--set", "spacing_mm=6", "--workers", "0"]
    command += ["--set", "brain_mask=given", "--masks", str(masks), "--json"]
    assert run(command) == 1
    out, said = capsys.readouterr()
    assert json.loads(out)["findings"] == [
        "sub-a_ses-02_T1w: no brain mask is given for it; add it to --masks, or leave the scan out"
    ]
    assert "1 of 2 scans have no brain mask" in said
    (kept,) = [one for one in Store.open(store).records if one.present]
    assert kept.preparation is not None
    assert kept.preparation.mask_ml == pytest.approx(4 / 3 * np.pi * np.prod(BRAIN_MM) / 1000, rel=0.01)
    stored = Store.open(store).read(0, "T1w")[0]
    assert (stored[2] == 0).all()  # the scalp is 12 mm further out than the brain
    put(masks, "sub-a_ses-02_desc-brain_mask.nii.gz", mask_of(POSES[1], 1.0))
    put(masks, "sub-a_ses-01_desc-brain_mask.nii.gz", mask_of(POSES[0], 0.9))
    assert run(command) == 0
    after = Store.open(store)
    first = [(one.row, one.superseded_by) for one in after.records if one.session_id == "ses-01"]
    assert first == [(0, 2), (2, None)]
    assert np.array_equal(after.read(0, "T1w")[0], stored)
    assert np.count_nonzero(after.read(2, "T1w")) < np.count_nonzero(stored)


@pytest.mark.parametrize("given", [("--set", "brain_mask=given"), ("--masks", "masks")])
def test_masks_and_their_setting_go_together(
    given: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["preprocess", str(tmp_path), str(tmp_path / "s"), *given]) == 2
    assert "one goes not without the other" in capsys.readouterr().err
