"""Each kind from file to row, and whole runs over mixed kinds: counted, repeatable, resumable, verified."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image as Pillow

from preprocess.engine import plan_run, preprocess
from preprocess.errors import ScanError, StoreError, UsageError
from preprocess.frames import choose_frames
from preprocess.kinds import axes_of, prepare_scan
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.transforms import to_volume
from preprocess.types import Scan
from preprocess.volumes import Prepared
from tests.support.clips import dicom, moving_block, npy, picture, video, write_table
from tests.support.images import RECIPE, gz, head_file, nifti, tree

RNG = np.random.default_rng(0)
MIXED = VolumeRecipe.model_validate(
    {
        **{
            "grid": RECIPE.grid,
            "spacing_mm": RECIPE.spacing_mm,
            "modalities": ("T2w", "LUS", "fundus", "SC", "clinical"),
        },
        "kinds": {"LUS": "clip", "fundus": "image", "SC": "array", "clinical": "array"},
        "clip": {"frames": 16, "size": (48, 64)},
        "image": {"size": (32, 32), "channels": 3},
    }
)
FUNDUS = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
SC = RNG.normal(size=(2, 9, 9)).astype(np.float32)


def prepared(data: bytes, modality: str, recipe: VolumeRecipe = MIXED, uri: str = "x") -> Prepared:
    return prepare_scan(data, Scan("anna", "", modality, uri), recipe)


def code_of(data: bytes, modality: str, uri: str = "x") -> str:
    with pytest.raises(ScanError, match=rf"^anna_{modality}: ") as caught:
        prepared(data, modality, uri=uri)
    return caught.value.finding.code


def test_a_clip_shows_the_block_where_and_when_it_was() -> None:
    truth = moving_block(40)  # 60 x 80, so 48 x 64 without any edge
    clips = [prepared(data, "LUS").values for data in (npy(truth), dicom(truth), video(truth), npy(truth * 100.0))]
    for clip_TCHW in clips:
        assert clip_TCHW is not None
        assert (clip_TCHW.shape, clip_TCHW.dtype) == ((16, 1, 48, 64), np.uint8)
        for frame, index in zip(clip_TCHW[:, 0], choose_frames(40, 16), strict=True):
            found = np.argwhere(frame > 120).mean(axis=0)
            expected = np.argwhere(truth[index] > 120).mean(axis=0) * 0.8
            assert np.abs(found - expected).max() < 1
    np.testing.assert_array_equal(clips[0], clips[1])
    assert clips[0] is not None
    assert clips[0].max() == 220
    assert clips[3] is not None
    assert clips[3].max() == 255  # floats are stretched to the whole range


def test_a_coloured_clip_becomes_grey_as_pillow_has_it() -> None:
    frames = RNG.integers(0, 256, (16, 48, 64, 3), dtype=np.uint8)
    clip_TCHW = prepared(npy(frames), "LUS").values
    expected = np.stack([np.asarray(Pillow.fromarray(frame).convert("L")) for frame in frames])
    assert clip_TCHW is not None
    assert np.abs(clip_TCHW[:, 0].astype(int) - expected).max() <= 1


def test_an_image_is_the_picture_made_small_in_the_middle() -> None:
    expected = np.asarray(Pillow.fromarray(FUNDUS).resize((32, 24), Pillow.Resampling.BILINEAR)).transpose(2, 0, 1)
    for data in (picture(FUNDUS), dicom(FUNDUS)):
        image_CHW = prepared(data, "fundus").values
        assert image_CHW is not None
        assert (image_CHW.shape, image_CHW.dtype) == ((3, 32, 32), np.uint8)
        assert np.abs(image_CHW[:, 4:28].astype(int) - expected).max() <= 1
        assert not image_CHW[:, :4].any()
        assert not image_CHW[:, 28:].any()
    grey = MIXED.model_copy(update={"image": MIXED.image.model_copy(update={"channels": 1})})
    image_CHW = prepared(picture(FUNDUS), "fundus", grey).values
    assert image_CHW is not None
    luma = np.asarray(Pillow.fromarray(FUNDUS).convert("L").resize((32, 24), Pillow.Resampling.BILINEAR))
    assert np.abs(image_CHW[0, 4:28].astype(int) - luma).max() <= 1


def test_arrays_are_stored_as_they_are() -> None:
    found = prepared(npy(SC[0].astype(np.float64)), "SC")
    np.testing.assert_array_equal(found.values, SC[0])
    assert found.spacing_mm == found.affine == found.columns == ()
    table = prepared(b"age,mmse\n71.5,27\n", "clinical", uri="a/x.csv")
    assert table.columns == ("age", "mmse")
    np.testing.assert_array_equal(table.values, np.array([71.5, 27], np.float32))


def test_a_volume_is_what_it_was_beside_other_kinds() -> None:
    found = prepared(head_file(), "T2w")
    volume = to_volume(read_nifti(head_file(), name="x"), RECIPE, name="x")
    np.testing.assert_array_equal(found.values, volume.voxels_CDHW)
    np.testing.assert_array_equal(np.reshape(found.affine, (4, 4)), volume.affine)
    black = prepared(gz(nifti(np.zeros((48, 48, 48), np.int16))), "T2w")
    assert black.values is None
    assert [finding.code for finding in black.findings] == ["empty"]


@pytest.mark.parametrize(
    ("data", "modality", "code"),
    [
        (npy(moving_block(7)), "LUS", "too_few_frames"),
        (npy(moving_block(9)[0]), "LUS", "wrong_shape"),
        (npy(FUNDUS), "LUS", "wrong_shape"),
        (npy(np.where(moving_block(40) == 220, np.nan, 1.0)), "LUS", "non_finite"),
        (npy(np.full((9, 20, 20), 7, np.uint8)), "LUS", "empty"),
        (npy(moving_block(9))[:-5], "LUS", "truncated"),
        (npy(np.array([None, 1], dtype=object)), "LUS", "wrong_dtype"),
        (dicom(moving_block(1)), "LUS", "too_few_frames"),
        (picture(FUNDUS), "LUS", "wrong_file"),
        (npy(moving_block(9)), "T2w", "wrong_file"),
        (dicom(moving_block(9)), "fundus", "wrong_shape"),
        (picture(np.zeros((9, 9, 3), np.uint8)), "fundus", "empty"),
        (picture(FUNDUS)[:99], "fundus", "unreadable"),
        (npy(SC), "SC", "wrong_shape"),
        (npy(np.full(3, np.inf)), "SC", "non_finite"),
        (b"a,b\n1,x\n", "SC", "not_a_number"),
    ],
)
def test_every_bad_file_is_one_finding(data: bytes, modality: str, code: str) -> None:
    assert code_of(data, modality, "x.csv") == code


def test_a_nan_in_a_frame_that_is_not_kept_is_seen_too() -> None:
    clip = moving_block(40).astype(np.float32)
    clip[0, 0, 0] = np.nan
    assert 0 not in choose_frames(40, 16)
    assert code_of(npy(clip), "LUS") == "non_finite"


def test_axes_have_names() -> None:
    assert axes_of("volume", (1, 2, 3, 4)) == ("row", "channel", "right", "anterior", "superior")
    assert axes_of("clip", (1, 2, 3, 4)) == ("row", "frame", "channel", "height", "width")
    assert axes_of("image", (1, 2, 3)) == ("row", "channel", "height", "width")
    assert axes_of("array", (4,)) == ("row", "feature")
    assert axes_of("array", (4, 4)) == ("row", "region", "feature")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two visits of anna with everything, one of ben without a picture and with a table too long."""
    files = {
        "anna-1.nii.gz": (head_file(), "T2w"),
        "anna-1.npy": (npy(moving_block(20)), "LUS"),
        "anna-1.png": (picture(FUNDUS), "fundus"),
        "sc/anna-1.npy": (npy(SC[0]), "SC"),
        "anna-1.csv": (b"age,mmse\n71,27\n", "clinical"),
        "anna-2.avi": (video(moving_block(30), "avi"), "LUS"),
        "anna-2.dcm": (dicom(FUNDUS), "fundus"),
        "sc/anna-2.npy": (npy(SC[1]), "SC"),
        "anna-2.csv": (b"mmse,age\n26,72\n", "clinical"),
        "ben-1.npy": (npy(moving_block(3)), "LUS"),
        "sc/ben-1.npy": (npy(SC[0][:5]), "SC"),
        "ben-1.csv": (b"age,mmse\n60,29\n", "clinical"),
    }
    data = {path: content for path, (content, _) in files.items()}
    return write_table(tmp_path / "raw", data, modalities=[modality for _, modality in files.values()])


LEFT_OUT = {
    ("anna", "2", "clinical"): "wrong_columns",
    ("ben", "1", "LUS"): "too_few_frames",
    ("ben", "1", "SC"): "wrong_shape",
}


def test_a_store_of_mixed_kinds_holds_every_file_or_its_finding(table: Path, tmp_path: Path) -> None:
    manifest = preprocess(str(table), str(tmp_path / "s"), MIXED, workers=0)
    store = Store.open(tmp_path / "s")
    assert (manifest.num_found, manifest.num_kept, manifest.num_left_out) == (12, 9, 3)
    left_out = [record for record in store.records if not record.present]
    found = {(one.subject_id, one.session_id, one.modality): one.findings[0].code for one in left_out}
    assert found == LEFT_OUT
    assert manifest.arrays == {
        "T2w": (3, 1, 24, 24, 24),
        "LUS": (3, 16, 1, 48, 64),
        "fundus": (3, 3, 32, 32),
        "SC": (3, 9, 9),
        "clinical": (3, 2),
    }
    assert list(verify_rows(store)) == [None] * 9
    for record in store.records:
        is_volume = record.modality == "T2w" and record.present
        assert (len(record.spacing_mm), len(record.affine)) == ((3, 16) if is_volume else (0, 0))
    rows = {record.modality: record.row for record in store.records if record.session_id == "1" and record.present}
    np.testing.assert_array_equal(store.read(0, "SC"), SC[0])
    np.testing.assert_array_equal(store.read(rows["clinical"], "clinical"), [60, 29])
    assert store.layout("SC").dtype == np.float32
    for modality, kind in MIXED.kinds.items():
        array = zarr.open_array(tmp_path / "s" / "volumes.zarr" / modality, mode="r")
        assert array.metadata.dimension_names == axes_of(kind, array.shape[1:])
        assert array.attrs["scale"] == (1.0 if kind == "array" else 1 / 255)
        assert array.attrs["kind"] == kind
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "s/volumes.zarr/SC", mode="r")[1], SC[1])
    assert zarr.open_array(tmp_path / "s/volumes.zarr/clinical", mode="r").attrs["columns"] == ["age", "mmse"]


def test_mixed_kinds_come_out_the_same_from_two_processes_and_after_a_cut(table: Path, tmp_path: Path) -> None:
    preprocess(str(table), str(tmp_path / "one"), MIXED, workers=0)
    preprocess(str(table), str(tmp_path / "two"), MIXED, workers=2)

    def cut(finished: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(str(table), str(tmp_path / "cut"), MIXED, workers=0, progress=cut)
    assert not (tmp_path / "cut/store.json").exists()
    preprocess(str(table), str(tmp_path / "cut"), MIXED, workers=0)
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "cut")


def test_a_second_run_and_a_dry_run_write_nothing(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location(tmp_path / "s")
    plan = plan_run(list_scans(str(table), MIXED.modalities, kinds=MIXED.kinds), location, MIXED)
    assert {modality: form.shape for modality, form in plan.forms.items()} == {"SC": (9, 9), "clinical": (2,)}
    assert not (tmp_path / "s").exists()
    made = preprocess(str(table), str(tmp_path / "s"), MIXED, workers=0)
    monkeypatch.setattr(Location, "write", lambda *args: pytest.fail("a write"))
    assert preprocess(str(table), str(tmp_path / "s"), MIXED, workers=0) == made


def test_an_appended_array_is_held_against_the_stored_shape(tmp_path: Path) -> None:
    recipe = VolumeRecipe(modalities=("SC",), kinds={"SC": "array"})
    table = write_table(tmp_path / "raw", {"b-1.npy": npy(SC[0])}, modalities="SC")
    preprocess(str(table), str(tmp_path / "s"), recipe, workers=0)
    before = tree(tmp_path / "s")
    # Before b in the plan, and of another shape: in a new store it would decide.
    write_table(
        tmp_path / "raw", {"a-1.npy": npy(SC[0][:4]), "b-1.npy": npy(SC[0]), "c-1.npy": npy(SC[1])}, modalities="SC"
    )
    manifest = preprocess(str(table), str(tmp_path / "s"), recipe, workers=0)
    store = Store.open(tmp_path / "s")
    assert manifest.arrays == {"SC": (3, 9, 9)}
    assert Counter(record.present for record in store.records) == {True: 2, False: 1}
    finding = next(record for record in store.records if not record.present).findings[0]
    assert finding.code == "wrong_shape"
    assert "shape (4, 9), the first file of this modality has (9, 9)" in finding.message
    objects = [name for name in before if "/c/" in name]
    assert {name: tree(tmp_path / "s")[name] for name in objects} == {name: before[name] for name in objects}
    assert list(verify_rows(store)) == [None, None]


def test_a_modality_without_a_readable_array_has_none_until_one_comes(tmp_path: Path) -> None:
    recipe = VolumeRecipe(modalities=("SC", "FC"), kinds={"SC": "array", "FC": "array"})
    table = write_table(tmp_path / "raw", {"a-1.npy": npy(SC[0])[:-1], "b-1.npy": npy(SC[1])}, modalities=["SC", "FC"])
    manifest = preprocess(str(table), str(tmp_path / "s"), recipe, workers=0)
    assert manifest.arrays == {"FC": (2, 9, 9)}
    assert (manifest.num_kept, manifest.num_left_out) == (1, 1)
    with pytest.raises(StoreError, match="no modality 'SC'; the store has FC"):
        Store.open(tmp_path / "s").layout("SC")
    (tmp_path / "raw/a-1.npy").write_bytes(npy(SC[0]))
    assert preprocess(str(table), str(tmp_path / "s"), recipe, workers=0).arrays == {"FC": (2, 9, 9), "SC": (2, 9, 9)}
    np.testing.assert_array_equal(Store.open(tmp_path / "s").read(0, "SC"), SC[0])


def test_the_first_file_decides_only_when_it_can_be_read(tmp_path: Path) -> None:
    recipe = VolumeRecipe(modalities=("SC",), kinds={"SC": "array"})
    files = {"a-1.npy": npy(np.full((2, 2), np.nan)), "b-1.npy": npy(SC[0]), "c-1.npy": npy(SC[0][:3])}
    manifest = preprocess(
        str(write_table(tmp_path / "raw", files, modalities="SC")), str(tmp_path / "s"), recipe, workers=0
    )
    assert manifest.arrays == {"SC": (3, 9, 9)}
    codes = [[finding.code for finding in record.findings] for record in Store.open(tmp_path / "s").records]
    assert codes == [["non_finite"], [], ["wrong_shape"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_extra_stops_the_run_and_leaves_no_store_without_the_videos(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out, they would stay left out once the extra is there: their files do not change."""
    (tmp_path / "no_av" / "av").mkdir(parents=True)
    (tmp_path / "no_av/av/__init__.py").write_text("raise ImportError")
    files = {f"a-{n}.avi": video(moving_block(9), "avi") for n in range(9)}
    table = write_table(tmp_path / "raw", files, modalities="LUS")
    monkeypatch.syspath_prepend(tmp_path / "no_av")  # also that of the workers
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"a_\d_LUS: videos are read by PyAV, which is not installed; pip install"):
        preprocess(str(table), str(tmp_path / "s"), MIXED, workers=workers)
    assert not (tmp_path / "s/store.json").exists()


def test_a_clip_listed_for_a_volume_says_how_to_take_it(tmp_path: Path) -> None:
    table = write_table(tmp_path / "raw", {"a-1.npy": npy(moving_block(9))}, modalities="LUS")
    preprocess(str(table), str(tmp_path / "s"), VolumeRecipe(modalities=("LUS",)), workers=0)
    finding = Store.open(tmp_path / "s").records[0].findings[0]
    assert finding.code == "wrong_file"
    assert 'set kinds.LUS = "clip"' in finding.message


def test_a_flipped_bit_in_any_kind_is_named(table: Path, tmp_path: Path) -> None:
    preprocess(str(table), str(tmp_path / "s"), MIXED, workers=0)
    store = Store.open(tmp_path / "s")
    broken = []
    for modality in MIXED.kinds:
        record = next(record for record in store.records if record.present and record.modality == modality)
        path = tmp_path / "s" / store.layout(modality).key(record.row)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        broken.append((record.row, modality))
    faults = [(fault.row, fault.modality) for fault in verify_rows(store) if fault is not None]
    assert sorted(faults) == sorted(broken)


def test_a_store_names_its_kinds_in_store_json(table: Path, tmp_path: Path) -> None:
    preprocess(str(table), str(tmp_path / "s"), MIXED, workers=0)
    written = json.loads((tmp_path / "s/store.json").read_text())["recipe"]
    assert written["kinds"] == {"LUS": "clip", "SC": "array", "clinical": "array", "fundus": "image"}
    assert written["clip"] == {"frames": 16, "size": [48, 64]}
    assert written["array"] == {"standardise": "none"}


@pytest.mark.real_data
def test_real_ultrasound_of_every_container_enters_as_clips(real_data: Path, tmp_path: Path) -> None:
    labels = {"Reg": 0, "Vir": 1, "Pneu": 2, "Cov": 3}
    files = sorted((real_data / "lung_clips").iterdir())
    lines = [f"{path},{path.stem},LUS,{labels[path.name.split('_')[0]]}" for path in files]
    (tmp_path / "clips.csv").write_text("\n".join(["path,subject_id,modality,label", *lines]) + "\n")
    recipe = VolumeRecipe.model_validate({"modalities": ["LUS"], "kinds": {"LUS": "clip"}})
    manifest = preprocess(str(tmp_path / "clips.csv"), str(tmp_path / "s"), recipe, workers=0)
    assert (manifest.num_found, manifest.num_kept) == (len(files), len(files)) == (10, 10)
    assert manifest.arrays == {"LUS": (10, 32, 1, 96, 96)}
    store = Store.open(tmp_path / "s")
    assert Counter(record.outcomes["label"] for record in store.records) == {0: 6, 1: 2, 2: 1, 3: 1}
    for record in store.records:
        clip_THW = store.read(record.row, "LUS")[:, 0].astype(float)
        assert np.abs(np.diff(clip_THW, axis=0)).mean(axis=(1, 2)).max() > 1  # it moves
        middle, whole = clip_THW[:, 24:72, 24:72].mean(), clip_THW.mean()
        assert middle > whole > 5  # a fan of tissue with dark corners
        assert clip_THW.max() > 100


@pytest.mark.real_data
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_real_recording_is_a_finding_and_the_run_goes_on(
    share: float, real_data: Path, tmp_path: Path
) -> None:
    whole = sorted((real_data / "lung_clips").iterdir())
    files = {}
    for path in whole:
        data = path.read_bytes()
        files[f"cut{len(files)}-1{path.suffix}"] = data[: int(len(data) * share)]
    files["whole-1.mp4"] = whole[-1].read_bytes()
    table = write_table(tmp_path / "raw", files, modalities="LUS")
    recipe = VolumeRecipe.model_validate({"modalities": ["LUS"], "kinds": {"LUS": "clip"}})
    manifest = preprocess(str(table), str(tmp_path / "s"), recipe, workers=0)
    assert (manifest.num_kept, manifest.num_left_out) == (1, 10)
    codes = {finding.code for record in Store.open(tmp_path / "s").records for finding in record.findings}
    assert codes <= {"unreadable", "damaged", "too_few_frames"}


def test_tables_with_labels_and_text_become_rows_of_numbers(tmp_path: Path) -> None:
    recipe = VolumeRecipe.model_validate(
        {"modalities": ["ct", "SC"], "kinds": {"ct": "array", "SC": "array"}, "array": {"leave_out": ["roi"]}}
    )
    files = {"a-1.csv": b"roi,ct,area\nV1,2.5,7\nV2,3,8\n", "a-2.txt": b"0 7\n7 0\n"}
    table = write_table(tmp_path / "raw", files, modalities=["ct", "SC"])
    manifest = preprocess(str(table), str(tmp_path / "s"), recipe, workers=0)
    assert (manifest.num_kept, manifest.num_left_out) == (2, 0)
    store = Store.open(tmp_path / "s")
    rows = {record.modality: store.read(record.row, record.modality) for record in store.records}
    np.testing.assert_array_equal(rows["ct"], [[2.5, 7], [3, 8]])
    np.testing.assert_array_equal(rows["SC"], [[0, 7], [7, 0]])
    assert store.manifest.recipe.array.leave_out == ("roi",)
