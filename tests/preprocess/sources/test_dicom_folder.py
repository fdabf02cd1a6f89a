"""A folder of DICOM files becomes one scan a visit and modality, and every other file has a reason."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interscan.cli import run
from preprocess.cli import preprocess as preprocess_verb
from preprocess.engine import preprocess
from preprocess.errors import UsageError
from preprocess.forget import forget_person
from preprocess.sources import Listing, list_scans
from preprocess.sources.reach import read_scan
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.volumes import prepare_volume
from tests.support.images import RECIPE
from tests.support.series import CANARIES, ROOT_UID, SAGITTAL, fine_slices, slices, uid, write_series


def listed(folder: Path, modalities: tuple[str, ...] = ("T1w",), **options: Any) -> Listing:
    listing = list_scans(str(folder), modalities, **options)
    num_files = sum(1 for path in folder.rglob("*") if path.is_file())
    assert listing.account.files["there"] == num_files
    texts = json.dumps(listing.account.to_dict()) + "".join(listing.account.lines()) + listing.account.summary()
    assert not [canary for canary in CANARIES if canary in texts]
    return listing


def codes(listing: Listing) -> dict[str, int]:
    return {remark.code: remark.count for remark in listing.account.remarks}


def test_studies_are_visits_in_the_order_of_their_dates(tmp_path: Path) -> None:
    write_series(tmp_path / "x", fine_slices(visit=7, days=730, number=2))
    write_series(tmp_path / "y", fine_slices(visit=8, days=0, number=4))
    write_series(tmp_path / "z", fine_slices(patient="P002", visit=9, days=90), name=uid("a") + ".{}")
    listing = listed(tmp_path)
    assert [(scan.name, scan.day, scan.scanner) for scan, _, _ in listing.scans] == [
        ("P001_ses-01_T1w", 0.0, "Made Up"),
        ("P001_ses-02_T1w", 730.0, "Made Up"),
        ("P002_ses-01_T1w", 0.0, "Made Up"),
    ]
    assert listing.scans[0][1] == "P001/ses-01/series-4-T1w"
    scan, _, size = listing.scans[0]
    data = read_scan(Location(tmp_path), scan)
    assert len(data) == size
    assert prepare_volume(data, RECIPE, name="x").values is not None


def test_each_series_that_is_not_the_one_has_its_reason_and_every_file_is_counted(tmp_path: Path) -> None:
    write_series(tmp_path / "t1", fine_slices(number=5))
    write_series(tmp_path / "again", fine_slices(number=8))
    write_series(tmp_path / "t2", fine_slices(number=6, description="T2 TSE"))
    write_series(tmp_path / "loc", slices(number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:9])
    write_series(tmp_path / "mpr", fine_slices(number=7, ImageType=["DERIVED", "SECONDARY", "MPR"])[:7])
    write_series(tmp_path / "ct", fine_slices(number=9, Modality="CT")[:5])
    (tmp_path / "notes.txt").write_text("x" * 200)
    listing = listed(tmp_path)
    assert [name for _, name, _ in listing.scans] == ["P001/ses-01/series-8-T1w"]
    expected = {"series_second": 96, "series_unlike": 96, "localizer": 9, "derived_series": 7, "scanner_other": 5}
    assert codes(listing) == expected
    assert listing.account.files == {"there": 310, "scans": 96, "read": 0, "other": 1, "passed_over": 213}
    assert listing.account.left_out == []
    lines = "\n".join(listing.account.lines())
    assert "P001/ses-01 series 5 (96 files): series 8 is the T1w of this session (prefer)" in lines


def broken(kind: str) -> list[pydicom.Dataset]:
    sets = fine_slices(patient="P009")
    if kind == "slice_gap":
        return sets[:40] + sets[41:]
    if kind == "geometry_bad":
        return sets + fine_slices(patient="P009", orientation=SAGITTAL)[:2]
    if kind == "several_volumes":
        return sets + fine_slices(patient="P009", EchoTime=5.0)
    if kind == "photometric":
        return fine_slices(patient="P009", PhotometricInterpretation="MONOCHROME1")
    if kind == "mosaic":
        return fine_slices(patient="P009", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    if kind == "contrast_given":
        return fine_slices(patient="P009", ContrastBolusAgent="GADOVIST")
    if kind == "too_few_slices":
        return sets[:30]
    if kind == "uids_untrusted":
        for index, one in enumerate(sets):
            one.SeriesInstanceUID = uid("split", index)
        return sets
    assert kind == "patient_unknown"
    return fine_slices(patient="")


@pytest.mark.parametrize(
    "code",
    [
        *("slice_gap", "geometry_bad", "several_volumes", "photometric", "mosaic", "contrast_given"),
        *("too_few_slices", "uids_untrusted", "patient_unknown"),
    ],
)
def test_a_broken_series_is_lost_by_name_unless_the_visit_has_a_whole_one(tmp_path: Path, code: str) -> None:
    write_series(tmp_path / "good", fine_slices())
    sets = broken(code)
    write_series(tmp_path / "bad", sets)
    listing = listed(tmp_path)
    assert [scan.name for scan, _, _ in listing.scans] == ["P001_ses-01_T1w"]
    assert [(one.code, one.count) for one in listing.account.left_out] == [(code, len(sets))]
    assert listing.account.num_lost == 1
    if code != "patient_unknown":
        write_series(tmp_path / "mended", fine_slices(patient="P009", number=11))
        listing = listed(tmp_path)
        assert [scan.name for scan, _, _ in listing.scans] == ["P001_ses-01_T1w", "P009_ses-01_T1w"]
        assert code in codes(listing)


def test_a_person_without_a_usable_series_does_not_disappear(tmp_path: Path) -> None:
    write_series(tmp_path / "good", fine_slices())
    write_series(tmp_path / "bold", fine_slices(patient="P002", description="rest bold"))
    listing = listed(tmp_path)
    (lost,) = listing.account.left_out
    assert lost.code == "session_without_scan"
    assert lost.message.startswith("P002_ses-01: none of its 1 series is a T1w by the rules")


def test_two_modalities_of_one_visit_and_rules_of_ones_own(tmp_path: Path) -> None:
    write_series(tmp_path / "t1", fine_slices(number=5))
    write_series(tmp_path / "t2", fine_slices(number=6, description="T2 TSE", EchoTime=90.0))
    listing = listed(tmp_path, ("T1w", "T2w"))
    assert [scan.name for scan, _, _ in listing.scans] == ["P001_ses-01_T1w", "P001_ses-01_T2w"]
    rules = tmp_path.parent / f"{tmp_path.name}.toml"
    rules.write_text('[[series]]\nmodality = "T1w"\nname = ["tse"]\n')
    (entry,) = listed(tmp_path, series_rules=rules).scans
    assert entry[1] == "P001/ses-01/series-6-T1w"
    with pytest.raises(UsageError, match="no rule for T2w"):
        listed(tmp_path, ("T2w",), series_rules=rules)


def test_days_are_missing_where_dates_are_and_where_all_are_one(tmp_path: Path) -> None:
    write_series(tmp_path / "a", fine_slices(visit=1))
    undated = fine_slices(visit=2, StudyDate="", SeriesDate="", AcquisitionDate="")
    write_series(tmp_path / "b", undated)
    listing = listed(tmp_path)
    assert [scan.day for scan, _, _ in listing.scans] == [0.0, None]
    assert "study_date_missing" in codes(listing)
    shutil.rmtree(tmp_path / "b")
    write_series(tmp_path / "c", fine_slices(visit=3))
    write_series(tmp_path / "d", fine_slices(visit=4, patient="P002"))
    listing = listed(tmp_path)
    assert [scan.day for scan, _, _ in listing.scans] == [None, None, None]
    assert "days_contradict" in codes(listing)


def test_one_uid_for_two_visits_is_not_trusted(tmp_path: Path) -> None:
    write_series(tmp_path / "good", fine_slices(patient="P002"))
    write_series(tmp_path / "a", [*fine_slices()[:48], *fine_slices(days=300)[48:]])
    listing = listed(tmp_path)
    assert codes(listing) == {"uids_untrusted": 96}


def test_damaged_files_are_said_by_their_number_and_names_stay_out(tmp_path: Path) -> None:
    write_series(tmp_path / "Canary", fine_slices(), name=ROOT_UID + "{}")
    path = sorted((tmp_path / "Canary").iterdir())[7]
    path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "Canary-link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError) as caught:
        list_scans(str(tmp_path), ("T1w",))
    assert "file 8 of 96 in the order of their names: its DICOM header ends early" in str(caught.value)
    assert not [canary for canary in CANARIES if canary in str(caught.value)]


def test_a_store_of_series_holds_no_name_date_or_uid_and_is_the_same_in_a_bucket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in"
    write_series(source / "Canary" / "2011-03-17", fine_slices(), name=ROOT_UID + "{}.dcm")
    write_series(source / "b", fine_slices(visit=2, days=365)[1:], name="{}.IMA")
    write_series(source / "c", fine_slices(patient="P002")[:50])
    write_series(source / "d", fine_slices(number=9, description="Canary T2"))
    options = ("grid=[24,24,24]", "spacing_mm=8.0")
    store = tmp_path / "store"
    assert preprocess_verb(str(source), str(store), settings=options, workers=0) == 1
    out = capsys.readouterr()
    said = out.out + out.err + caplog.text
    assert "2 kept + 1 left out = 3 found" in said
    written = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    names = " ".join(str(path) for path in store.rglob("*"))
    for canary in CANARIES:
        assert canary.encode() not in written
        assert canary not in said + names
    opened = Store.open(Location(store))
    assert all(canary not in json.dumps([one.to_dict() for one in opened.records]) for canary in CANARIES)
    assert [fault for fault in verify_rows(opened) if fault] == []
    bucket = Location(f"memory://series-{tmp_path.name}")
    for path in source.rglob("*"):
        if path.is_file():
            bucket.write(f"in/{path.relative_to(source)}", path.read_bytes())
    preprocess(f"{bucket.uri}/in", f"{bucket.uri}/store", RECIPE, workers=0)
    again = Store.open(bucket.child("store"))
    assert [one.content_sha256 for one in again.records] == [one.content_sha256 for one in opened.records]
    assert [one.source_sha256 for one in again.records] == [one.source_sha256 for one in opened.records]


def test_a_run_goes_on_renamed_files_are_the_same_scan_and_changed_ones_get_a_new_row(tmp_path: Path) -> None:
    source, store = tmp_path / "in", str(tmp_path / "store")
    write_series(source / "a", fine_slices())
    first = preprocess(str(source), store, RECIPE, workers=0)
    shutil.move(source / "a", source / "renamed")
    write_series(source / "b", fine_slices(visit=2, days=100))
    second = preprocess(str(source), store, RECIPE, workers=0)
    assert (first.num_kept, second.num_kept) == (1, 2)
    records = Store.open(Location(store)).records
    assert [(one.session_id, one.day, one.source_uri) for one in records] == [
        ("ses-01", 0.0, "P001/ses-01/series-5-T1w"),
        ("ses-02", 100.0, "P001/ses-02/series-5-T1w"),
    ]
    sets = fine_slices()
    sets[5].PixelData = bytes(len(sets[5].PixelData))
    write_series(source / "renamed", sets)
    assert preprocess(str(source), store, RECIPE, workers=0).num_kept == 2
    assert [record.superseded_by for record in Store.open(Location(store)).records] == [2, None, None]


def test_two_processes_give_the_rows_of_one(tmp_path: Path) -> None:
    for number in range(10):
        write_series(tmp_path / "in" / str(number), fine_slices(patient=f"P{number:03d}"))
    stores = []
    for workers in (0, 2):
        preprocess(str(tmp_path / "in"), str(tmp_path / str(workers)), RECIPE, workers=workers)
        stores.append([one.content_sha256 for one in Store.open(Location(tmp_path / str(workers))).records])
    assert stores[0] == stores[1]
    assert len(stores[0]) == 10


@pytest.mark.real_data
def test_the_real_series_go_the_whole_road(real_data: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[series]]\nmodality = "T1w"\nname = ["t1"]\nmin_slices = 30\n')
    listing = list_scans(str(real_data / "dicom"), ("T1w",), source_kind="dicom", series_rules=rules)
    assert [(scan.name, len(scan.parts)) for scan, _, _ in listing.scans] == [("02_ses-01_T1w", 40)]
    files = listing.account.files
    assert files["scans"] + files["read"] + files["other"] + files["passed_over"] == files["there"]
    assert "Jane" not in json.dumps(listing.account.to_dict())
    thin = list_scans(str(real_data / "dicom" / "t1w_block"), ("T1w",), series_rules=rules)
    recipe = RECIPE.model_copy(update={"quality": RECIPE.quality.model_copy(update={"min_extent_mm": 20.0})})
    prepared = prepare_volume(read_scan(thin.root, thin.scans[0][0]), recipe, name="x")
    assert prepared.values is not None
    np.testing.assert_allclose(prepared.spacing_mm, (0.699988, 0.666667, 0.666667), atol=1e-4)


@pytest.mark.real_data
def test_the_example_of_the_page_runs_as_it_stands(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "dicom.md").read_text(encoding="utf-8")
    (tmp_path / "rules.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ interscan (preprocess .*)\n(.*)$", page, re.MULTILINE)
    codes_and_lines = []
    for command, _ in commands:
        words = command.replace("../shared/data", str(real_data)).split()
        codes_and_lines.append((run(words), capsys.readouterr()))
    (refused, first), (kept, second) = codes_and_lines
    assert (refused, kept) == (2, 0)
    assert first.err.strip().endswith(commands[0][1].partition("t1w_block: ")[2])
    assert "kept, but: 02_ses-01_T1w: " in second.out
    (summary,) = re.findall(r"^1 kept .*$", page, re.MULTILINE)
    for clause in ("1 kept + 0 left out = 1 found", summary.rpartition(", ")[2]):
        assert clause in second.out


def test_a_person_who_was_deleted_on_request_is_not_in_the_account_either(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    write_series(source / "a", fine_slices(patient="Secret1"))
    write_series(source / "b", fine_slices(patient="Secret1", number=8, description="T2 TSE"))
    write_series(source / "c", fine_slices(patient="P002"))
    preprocess(str(source), str(store), RECIPE, workers=0)
    forget_person(Location(store), "Secret1")
    preprocess(str(source), str(store), RECIPE, workers=0)
    written = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"Secret1" not in written
    (account,) = (json.loads(path.read_text()) for path in (store / "reconciliation").iterdir())
    assert account["files"] == {"there": 288, "scans": 96, "read": 0, "other": 0, "passed_over": 192}


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["P1", "P2", ""]),
        st.integers(1, 2),
        st.sampled_from(["T1w", "T2 TSE", "bold", ""]),
        st.sampled_from(["whole", "gap", "few", "twice", "localizer", "broken", "text", "report"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES)
def test_found_is_kept_and_left_out_whatever_lies_there(
    tmp_path: Path, pieces: list[tuple[str, int, str, str]]
) -> None:
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    thin = np.zeros((62, 2, 2), np.int16)
    for number, (patient, visit, description, sort) in enumerate(pieces):
        folder = tmp_path / "in" / str(number)
        sets = slices(
            thin, patient=patient, visit=visit, number=number, description=description, spacing_mm=(2.0, 2.0, 2.0)
        )
        if sort == "gap":
            del sets[5]
        elif sort == "few":
            del sets[9:]
        elif sort == "twice":
            sets.append(sets[0])
        elif sort == "localizer":
            sets = [one for one in sets[:3] if setattr(one, "ImageType", ["ORIGINAL", "LOCALIZER"]) is None]
        elif sort == "report":
            for one in sets:
                one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
                del one.Rows
        write_series(folder, sets[:1] if sort in ("broken", "text") else sets)
        if sort in ("broken", "text"):
            path = folder / "IM_0000"
            path.write_bytes(b"x" * 500 if sort == "text" else path.read_bytes()[:400])
    try:
        listing = listed(tmp_path / "in", source_kind="dicom")
    except UsageError:  # no scan is left, or no image is there
        return
    people = {patient for patient, _, _, sort in pieces if patient and sort not in ("broken", "text", "report")}
    said = {scan.subject_id for scan, _, _ in listing.scans}
    said |= {remark.name.partition("/")[0] for remark in listing.account.remarks}
    assert people <= said
