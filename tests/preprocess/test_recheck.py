"""Files are held against digests: what changed is found at any size and time, and what is the same is never changed."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preprocess.dicom_zip import pack
from preprocess.engine import preprocess
from preprocess.errors import ScanError
from preprocess.index import IndexRecord
from preprocess.plan import Found, Reread, identity_of
from preprocess.recheck import digest_of, digest_reader, judge, reread, source_digest
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.types import Finding, Scan
from tests.support.images import RECIPE, head, nifti, tree, write_bids
from tests.support.stores import record, volumes

FILE = b"voxels"
WRONG = (Finding("too_coarse", "a: too coarse"),)


def stored(data: bytes = FILE, *, present: bool = True) -> IndexRecord:
    return replace(record(0, volumes(1)[0] if present else None), source_sha256=digest_of(data), source_bytes=len(data))


def found(size: int) -> Found:
    one = stored()
    return Scan(one.subject_id, one.session_id, one.modality, "/raw/a"), "a", size


def again(data: bytes | None, one: IndexRecord, *, size: int | None = None, wrong: bool = True) -> Reread:
    def read(scan: Scan) -> bytes:
        if data is None:
            raise ScanError(Finding("missing", "a is not there"))
        return data

    listing = [found(len(data or b"") if size is None else size)]
    return reread(listing, [one], read, lambda data, scan: WRONG if wrong else None)


SAME = identity_of(stored())


def test_equal_bytes_are_no_change_and_other_bytes_of_equal_size_are_one() -> None:
    assert again(FILE, stored()) == Reread()
    assert again(b"VOXELS", stored()) == Reread(changed=frozenset({SAME}))


def test_another_size_is_reported_without_reading() -> None:
    def read(scan: Scan) -> bytes:
        raise AssertionError("read")

    assert reread([found(7)], [stored()], read, lambda *_: None).changed == {SAME}


def test_a_file_that_is_not_there_any_more_changed_nothing() -> None:
    assert again(None, stored()) == Reread()


@pytest.mark.parametrize("wrong", [True, False])
def test_an_unchanged_file_that_was_left_out_is_judged_anew(wrong: bool) -> None:
    answer = again(FILE, stored(present=False), wrong=wrong)
    assert answer == (Reread(findings={SAME: WRONG}) if wrong else Reread(mended=frozenset({SAME})))


def test_scans_that_are_not_stored_are_not_read() -> None:
    def read(scan: Scan) -> bytes:
        raise AssertionError("read")

    assert reread([found(6)], [], read, lambda *_: None) == Reread()


def test_a_digest_is_sha_256_and_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(FILE)
    expected = hashlib.sha256(FILE).hexdigest()
    assert source_digest(Location(tmp_path), "a", "") == expected
    assert source_digest(Location("/"), str(tmp_path / "a"), "") == expected
    assert source_digest(Location("/"), "elsewhere", f"file://{tmp_path}/a") == expected
    assert source_digest(Location(tmp_path), "b", "") == digest_of(b"") == ""


def test_an_array_that_is_right_in_itself_is_held_against_the_store_too(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    np.save(raw / "a.npy", np.arange(40, dtype=np.float32))
    np.save(raw / "b.npy", np.arange(39, dtype=np.float32))
    recipe = VolumeRecipe(modalities=("SC",), kinds={"SC": "array"})
    assert preprocess(str(raw), str(tmp_path / "s"), recipe, workers=0).num_left_out == 1
    before = tree(tmp_path / "s")
    scan = Scan("b", "", "SC", "b.npy")
    (finding,) = judge((raw / "b.npy").read_bytes(), scan, store=Location(tmp_path / "s"), recipe=recipe) or ()
    assert finding.code == "wrong_shape"
    preprocess(str(raw), str(tmp_path / "s"), recipe, workers=0)
    assert tree(tmp_path / "s") == before


def plain_file(voxels: np.ndarray) -> bytes:
    return nifti(voxels)  # uncompressed: every head has the same size


def write_plain(raw: Path, heads: dict[str, np.ndarray]) -> Path:
    write_bids(raw, {"01": dict.fromkeys(heads, b"")}, dict.fromkeys(heads, 0))
    for name, voxels in heads.items():
        path = raw / "sub-01" / f"ses-{name}" / "anat" / f"sub-01_ses-{name}_T1w.nii"
        path.with_suffix(".nii.gz").unlink()
        path.write_bytes(plain_file(voxels))
    return raw


def test_an_uncompressed_scan_replaced_by_one_of_equal_size_gets_a_new_row(tmp_path: Path) -> None:
    """Reported of another tool: the old row stayed, and the store was called whole."""
    raw = write_plain(tmp_path / "raw", {"01": head(), "02": head(0.9)})
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    path = raw / "sub-01" / "ses-02" / "anat" / "sub-01_ses-02_T1w.nii"
    old = path.stat()
    path.write_bytes(plain_file(head(0.8)))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_rows == 3
    assert [record.superseded_by for record in Store.open(tmp_path / "s").records] == [None, 2, None]


def test_a_scan_mended_at_equal_size_enters_in_its_row(tmp_path: Path) -> None:
    empty = np.zeros_like(head())
    raw = write_plain(tmp_path / "raw", {"01": empty, "02": head(0.9)})
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_left_out == 1
    (raw / "sub-01" / "ses-01" / "anat" / "sub-01_ses-01_T1w.nii").write_bytes(plain_file(head()))
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_left_out == 0
    assert list(verify_rows(Store.open(tmp_path / "s"))) == [None] * 2


def test_a_cohort_copied_elsewhere_with_other_times_changes_nothing(tmp_path: Path) -> None:
    raw = write_plain(tmp_path / "raw", {"01": head(), "02": head(0.9)})
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    before = tree(tmp_path / "s")
    copy = shutil.copytree(raw, tmp_path / "copy", copy_function=shutil.copyfile)
    preprocess(str(copy), str(tmp_path / "s"), RECIPE, workers=0)
    assert tree(tmp_path / "s") == before


def test_the_digest_of_a_scan_of_several_files_is_that_of_their_archive(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    scan = Scan("anna", "", "T1w", str(tmp_path), parts=("a", "b"))
    digest = digest_reader(Location(tmp_path), [(scan, "anna/series-1", 9)])
    assert digest("anna/series-1", "") == digest_of(pack([b"b", b"a"]))
    assert digest("a", "") == digest_of(b"a")
    (tmp_path / "b").unlink()
    assert digest("anna/series-1", "") == ""
