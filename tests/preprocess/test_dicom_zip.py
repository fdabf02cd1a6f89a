"""An archive of a series is unpacked within its bounds, and packed to the same bytes whatever its files are called."""

import io
import struct
import zipfile

import pytest

from preprocess import dicom_zip
from preprocess.dicom_zip import MAX_ENTRIES, pack, packed_size, unpack
from preprocess.errors import ScanError

FILES = [b"first" * 9, b"second", b""]


def archive(
    entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", encrypted: bool = False
) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as made:
        for name, data in entries.items():
            made.writestr(name, data)
        made.comment = comment
    data = bytearray(sink.getvalue())
    if encrypted:
        data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def code_of(data: bytes, **options: int) -> tuple[str, str]:
    with pytest.raises(ScanError, match=r"^x: ") as caught:
        unpack(data, name="x", **options)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.finding.code, str(caught.value)


def test_what_is_packed_comes_out_and_its_size_is_known_before() -> None:
    packed = pack(FILES)
    assert sorted(unpack(packed, name="x")) == sorted(FILES)
    assert len(packed) == packed_size([len(file) for file in FILES])
    assert pack(reversed(FILES)) == packed


def test_folders_comments_and_what_file_managers_add_are_no_hindrance() -> None:
    entries = {
        "canary/1": b"a",
        "canary/sub/2.dcm": b"b",
        "__MACOSX/canary/._1": b"x",
        ".DS_Store": b"y",
        "empty/": b"",
    }
    assert unpack(archive(entries, comment=b"PK" * 50), name="x") == [b"a", b"b"]


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (archive({"canary.dcm": b"a"}, encrypted=True), "bad_zip", "encrypted"),
        (archive({"canary.zip": b"a"}), "bad_zip", "archive inside"),
        (archive({"canary": archive({"x": b"a"})}), "bad_zip", "archive inside"),
        (archive({"../canary": b"a"}), "bad_zip", "lead out"),
        (archive({"a/../../canary": b"a"}), "bad_zip", "lead out"),
        (archive({"/canary": b"a"}), "bad_zip", "lead out"),
        (archive({"C:\\canary": b"a"}), "bad_zip", "lead out"),
        (archive({"canary": b"a"}, method=zipfile.ZIP_LZMA), "bad_zip", "another method"),
        (archive({"canary": b"a" * 999})[:-30], "bad_zip", "ends early"),
        (b"PK\x03\x04", "bad_zip", "ends early"),
    ],
    ids=["password", "zip name", "zip inside", "up", "up later", "root", "drive", "lzma", "cut", "start"],
)
def test_what_is_no_plain_archive_of_files_is_refused(data: bytes, code: str, said: str) -> None:
    found, line = code_of(data)
    assert found == code
    assert said in line


def test_damage_is_a_finding() -> None:
    good = archive({"canary": b"a" * 5000}, method=zipfile.ZIP_STORED)
    assert code_of(good.replace(b"aaaa", b"aaab", 1))[0] == "bad_zip"


def test_an_entry_without_a_name_is_a_finding() -> None:
    data = archive({"a": b"x"}, method=zipfile.ZIP_STORED)
    central = data.index(b"PK\x01\x02")
    nameless = bytearray(data[:30] + data[31 : central + 46] + data[central + 47 :])
    nameless[26] = 0
    nameless[central - 1 + 28] = 0
    at = nameless.index(b"PK\x05\x06")
    struct.pack_into("<II", nameless, at + 12, 46, central - 1)
    assert zipfile.ZipFile(io.BytesIO(nameless)).infolist()[0].filename == ""
    assert code_of(bytes(nameless))[0] == "bad_zip"


def test_a_bomb_is_refused_by_what_it_promises_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    bomb = archive({"canary": bytes(2**20)})
    assert len(bomb) < 2000
    code, line = code_of(bomb, max_voxels=1000)
    assert code == "too_large"
    assert "unpacks to 1048576 bytes, more than 264144" in line


def test_an_entry_that_lies_about_its_size_gives_no_more_than_it_promised() -> None:
    data = bytearray(archive({"canary": bytes(2**20)}))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 10)
    assert code_of(bytes(data))[0] == "bad_zip"


def test_too_many_entries_are_refused_by_the_directory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(archive({"canary": b""}))
    at = data.index(b"PK\x05\x06")
    struct.pack_into("<H", data, at + 10, MAX_ENTRIES + 1)
    assert code_of(bytes(data))[0] == "too_large"
    struct.pack_into("<HI", data, at + 10, 1, 2**31)
    assert code_of(bytes(data))[0] == "too_large"
    monkeypatch.setattr(dicom_zip, "MAX_ENTRIES", 2)
    monkeypatch.setattr(dicom_zip, "_DIRECTORY_ENTRY_BYTES", 100)
    assert code_of(archive({str(number): b"" for number in range(3)}))[0] == "too_large"
