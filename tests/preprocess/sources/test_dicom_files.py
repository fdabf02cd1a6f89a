"""Headers of a folder or bucket become series; what is no image is told apart, and pixels stay where they are."""

import sys
from pathlib import Path

import pytest

from preprocess.errors import StorageError, UsageError
from preprocess.sources import dicom_files
from preprocess.sources.dicom_files import read_files
from preprocess.sources.files import list_files
from preprocess.storage import Location
from tests.support.series import CANARIES, enhanced, file_of, header, slices, uid, write_series


def other(sop_class: str, modality: str) -> bytes:
    one = header(patient="P001", visit=1, number=99, days=0, description="report")
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = sop_class, uid(sop_class), modality
    return file_of(one)


def test_files_of_one_series_are_one_and_others_are_counted_by_what_they_are(tmp_path: Path) -> None:
    write_series(tmp_path / "a", slices()[:9])
    write_series(tmp_path / "b", slices(number=6)[:4], name="{}.dcm")
    (tmp_path / "e").write_bytes(file_of(enhanced()))
    (tmp_path / "sr").write_bytes(other("1.2.840.10008.5.1.4.1.1.88.11", "SR"))
    (tmp_path / "pdf").write_bytes(other("1.2.840.10008.5.1.4.1.1.104.1", "DOC"))
    (tmp_path / "DICOMDIR").write_bytes(other("1.2.840.10008.1.3.10", ""))
    (tmp_path / "README").write_text("x" * 500)
    (tmp_path / "cut").write_bytes(file_of(slices()[0])[:400])
    source = Location(tmp_path)
    found = read_files(source, list_files(source).sizes)
    assert {series.first.series_number: len(series.names) for series in found.series.values()} == {5: 9, 6: 4, 7: 1}
    assert [len(series.frames) for series in found.series.values()] == [9, 4, 48]
    assert found.objects == {"SR": ["sr"], "DOC": ["pdf"]}
    assert (found.indexes, found.others, list(found.unreadable)) == (["DICOMDIR"], ["README"], ["cut"])
    assert not [canary for canary in CANARIES if canary in repr(found.series.values())]


def test_what_files_have_in_common_is_kept_once(tmp_path: Path) -> None:
    write_series(tmp_path, slices())
    source = Location(tmp_path)
    (series,) = read_files(source, list_files(source).sizes).series.values()
    assert len(series.headers) == 1
    (whole,) = series.whole
    assert len(whole.frames) == 48


def test_of_a_bucket_only_headers_are_fetched_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "_PIECE_BYTES", 512)
    monkeypatch.setattr(dicom_files, "_BATCH", 5)
    source = Location("memory://headers-of-series")
    files = {f"p/{index}": file_of(one) for index, one in enumerate(slices())}
    for name, data in files.items():
        source.write(name, data)
    fetched = 0
    plain = Location.read_part

    def counted(self: Location, name: str, start: int, end: int) -> bytes:
        nonlocal fetched
        fetched += end - start
        return plain(self, name, start, end)

    monkeypatch.setattr(Location, "read_part", counted)
    monkeypatch.setattr(Location, "read", lambda *_: pytest.fail("a whole file was fetched"))
    (series,) = read_files(source, {name: len(data) for name, data in files.items()}).series.values()
    assert len(series.names) == 48
    assert fetched < 0.6 * sum(map(len, files.values()))  # pixels are 4,608 of some 6,000 bytes


def test_without_pydicom_the_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, slices()[:2])
    source = Location(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"pip install 'interscan\[dicom\]'"):
        read_files(source, list_files(source).sizes)


def test_a_file_that_is_gone_or_locked_is_said_and_a_bucket_that_refuses_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Location(tmp_path)
    found = read_files(source, {"gone": 5000})
    assert found.unreadable == {"gone": "listed but not there; copy it again"}

    def refuse(*_: object) -> bytes:
        raise StorageError("refused")

    monkeypatch.setattr(Location, "read_part", refuse)
    assert read_files(source, {"locked": 5000}).unreadable == {
        "locked": "cannot be opened; give this user the right to read it"
    }
    with pytest.raises(StorageError):
        read_files(Location("memory://refusing"), {"locked": 5000})
