"""A person who is deleted is gone from objects, index and account, stays out, and others are untouched."""

from pathlib import Path

import pytest

from preprocess.engine import preprocess
from preprocess.errors import StoreError, UsageError
from preprocess.forget import forget_person
from preprocess.lease import STORE, held
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from tests.support.images import RECIPE, head_file, tree, write_bids


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    subjects = {f"0{n}": {"01": head_file(1 - n / 20, seed=n), "02": head_file(0.9 - n / 20, seed=n)} for n in range(3)}
    return write_bids(tmp_path / "raw", subjects, {"01": 0, "02": 365})


@pytest.fixture
def store(raw: Path, tmp_path: Path) -> Location:
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    return Location(tmp_path / "s")


def test_a_deleted_person_is_unreadable_and_others_keep_rows_and_bytes(store: Location, tmp_path: Path) -> None:
    before = tree(tmp_path / "s")

    deleted = forget_person(store, "sub-01", cohort="tiny")

    assert (deleted.num_rows, deleted.num_objects, len(deleted.content_sha256)) == (2, 2, 2)
    after = tree(tmp_path / "s")
    assert set(before) - set(after) >= {"volumes.zarr/T1w/c/2/0/0/0/0", "volumes.zarr/T1w/c/3/0/0/0/0"}
    assert {name for name in after if name.startswith("volumes.zarr/T1w/c/")} == {
        f"volumes.zarr/T1w/c/{row}/0/0/0/0" for row in (0, 1, 4, 5)
    }
    assert all(before[name] == after[name] for name in after if name.startswith("volumes.zarr"))
    opened = Store.open(store)
    assert [(one.subject_id, one.row) for one in opened.records] == [
        ("sub-00", 0),
        ("sub-00", 1),
        ("sub-02", 4),
        ("sub-02", 5),
    ]
    assert list(verify_rows(opened)) == [None] * 4
    with pytest.raises(StoreError, match="its object is missing"):
        opened.read(2, "T1w")
    for name, data in after.items():
        assert b"sub-01" not in data, name


def test_the_person_is_not_taken_in_again_and_everybody_else_is(
    store: Location, raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forget_person(store, "sub-01", cohort="tiny")
    write_bids(raw, {"03": {"01": head_file(0.7, seed=7)}})

    manifest = preprocess(str(raw), store.uri, RECIPE, workers=0)

    assert manifest.num_kept == 5
    assert {one.subject_id for one in Store.open(store).records} == {"sub-00", "sub-02", "sub-03"}
    assert "2 scans of sub-01 are not taken: deleted from the store on request" in caplog.text
    assert len(manifest.forgotten) == 1
    for name, data in tree(tmp_path / "s").items():
        assert b"sub-01" not in data, name


def test_a_second_deletion_remembers_the_first(store: Location) -> None:
    forget_person(store, "sub-01", cohort="tiny")
    forget_person(store, "sub-02", cohort="tiny")

    assert len(Store.open(store).manifest.forgotten) == 2
    with pytest.raises(UsageError, match="is the only person in it; delete the whole store instead"):
        forget_person(store, "sub-00", cohort="tiny")


def test_an_unknown_person_is_refused_with_the_cohort_that_has_the_id(store: Location, tmp_path: Path) -> None:
    before = tree(tmp_path / "s")
    with pytest.raises(UsageError, match=r"no person 'sub-01' in the index; give --cohort, one of 'tiny'"):
        forget_person(store, "sub-01")
    with pytest.raises(UsageError, match=r"no person 'tiny/sub-99' in the index$"):
        forget_person(store, "sub-99", cohort="tiny")
    assert tree(tmp_path / "s") == before


def test_a_deletion_that_was_cut_off_is_ended_by_the_same_call(
    store: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("preprocess.forget.commit", cut_off)
        with pytest.raises(KeyboardInterrupt):
            forget_person(store, "sub-01", cohort="tiny")

    assert forget_person(store, "sub-01", cohort="tiny").num_rows == 2
    assert list(verify_rows(Store.open(store))) == [None] * 4


def test_nobody_is_deleted_while_another_process_writes(store: Location) -> None:
    with held(store, STORE), pytest.raises(StoreError, match="writes this store since"):
        forget_person(store, "sub-01", cohort="tiny")


def test_a_person_is_deleted_from_a_bucket(raw: Path, bucket: str) -> None:
    preprocess(str(raw), f"{bucket}/s", RECIPE, workers=0)
    location = Location(f"{bucket}/s")

    forget_person(location, "sub-02", cohort="tiny")

    assert [name for name in location.names() if name.endswith(("c/4/0/0/0/0", "c/5/0/0/0/0"))] == []
    assert list(verify_rows(Store.open(location))) == [None] * 4
