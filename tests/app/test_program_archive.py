"""An archive is read within bounds, and what is loaded is what was read."""

import contextlib
import io
import struct
import zipfile

import pytest
import torch

from app.program_archive import MOST_ENTRIES, read_archive
from preprocess.errors import ArtefactError
from tests.support.artefacts import TinyModel
from tests.support.programs import entries, scripted, with_files

CODE = "archive/code/__torch__/tests/support/artefacts.py"


@pytest.fixture(scope="module")
def model() -> bytes:
    return scripted(TinyModel())


def refused(data: bytes, match: str) -> None:
    with pytest.raises(ArtefactError, match=match) as caught:
        read_archive(data, name="model.ts")
    assert str(caught.value).startswith("model.ts: ")
    assert "\n" not in str(caught.value)


def test_what_is_packed_computes_bit_for_bit_what_the_file_does(model: bytes) -> None:
    packed = read_archive(model, name="model.ts").pack()
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.load"):
        loaded, original = (torch.jit.load(one) for one in (packed, io.BytesIO(model)))
    volumes = torch.rand(3, 1, 16, 16, 16)
    for method in ("embed", "forward"):
        assert torch.equal(getattr(loaded, method)(volumes), getattr(original, method)(volumes))
    assert torch.equal(loaded.compare(volumes, 1 - volumes), original.compare(volumes, 1 - volumes))


def test_only_what_was_checked_is_packed(model: bytes) -> None:
    # A comment behind the directory, whose length stands in the last two bytes.
    hidden = model[:-2] + struct.pack("<H", 20) + b"behind the directory"
    kept = {name for name in entries(model) if not name.endswith(".debug_pkl")}
    for data in (model, hidden):
        packed = read_archive(data, name="model.ts").pack().getvalue()
        assert entries(packed).keys() == kept
        assert b"behind the directory" not in packed
        assert all(entries(packed)[name] == entries(model)[name] for name in kept)


@pytest.mark.parametrize("data", [b"", b"not a program", b"PTMF" + bytes(60), bytes(4) + b"PK\x03\x04"])
def test_another_format_is_not_torchscript(data: bytes) -> None:
    refused(data, "not a TorchScript file")


def test_every_cut_and_every_flipped_header_byte_is_refused_or_read(model: bytes) -> None:
    for end in range(0, len(model), 97):
        refused(model[:end], "not a TorchScript file|damaged zip archive")
    for position in range(len(model) - 700, len(model)):
        data = bytearray(model)
        data[position] ^= 0xFF
        # Any other exception fails the test; what is read is what CRC-32 vouches for.
        with contextlib.suppress(ArtefactError):
            read_archive(bytes(data), name="model.ts")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("archive/../x.py", "is no file that TorchScript writes"),
        ("archive/code/../../x.py", "is no file that TorchScript writes"),
        ("/etc/passwd", "not in the one folder"),
        ("other/data/0", "not in the one folder"),
        ("archive/run.so", r"'archive/run.so' is no file that TorchScript writes"),
        ("archive/code/__torch__/x.PY", "is no file that TorchScript writes"),
        ("archive/code/__torch__/\N{LATIN SMALL LETTER E WITH ACUTE}.py", "is no file that TorchScript writes"),
    ],
)
def test_a_file_that_torchscript_does_not_write_is_named(model: bytes, name: str, message: str) -> None:
    refused(with_files(model, {name: b"1"}), message)


def test_a_folder_that_leads_outside_is_refused(model: bytes) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in entries(model).items():
            archive.writestr(name.replace("archive/", "../"), content)
    refused(sink.getvalue(), "not in the one folder")


def test_two_files_of_one_name_are_refused(model: bytes) -> None:
    data = with_files(model, {"archive/data/1": b"1234", "archive/data/2": b"5678"})
    refused(data.replace(b"archive/data/2", b"archive/data/1"), "is there twice")


def test_a_missing_part_is_named(model: bytes) -> None:
    for name in ("data.pkl", "constants.pkl", "version"):
        refused(with_files(model, {f"archive/{name}": None}), f"no {name} inside")


def test_an_encrypted_file_is_refused(model: bytes) -> None:
    data = bytearray(with_files(model, {}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        header = archive.getinfo(CODE).header_offset
    # The flag stands in the central directory, at byte 8 of the entry; its local header is where the offset says.
    entry = data.index(struct.pack("<L", header) + CODE.encode()) - 42
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 8] |= 1
    refused(bytes(data), "is encrypted")


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(model: bytes) -> None:
    bomb = with_files(model, {CODE: b"\n" * (64 << 20)}, deflated=CODE)
    assert len(bomb) < 100_000
    refused(bomb, r"unpacks to 67108864 bytes, more than 2097152")
    many = {f"archive/code/__torch__/m{number}.py": b"\n" * (2 << 20) for number in range(5)}
    refused(with_files(model, many), "code and pickles of more than 8 MiB")


def test_weights_are_never_compressed(model: bytes) -> None:
    bomb = with_files(model, {"archive/data/0": bytes(64 << 20)}, deflated="archive/data/0")
    refused(bomb, "'archive/data/0' is compressed, which weights never are")


def test_files_that_share_their_bytes_are_refused(model: bytes) -> None:
    """Every entry of the directory points at the same megabyte."""
    data = with_files(model, {f"archive/data/{number}": bytes(2**20 * (number == 1)) for number in range(1, 9)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        one = archive.getinfo("archive/data/1")
        forged = io.BytesIO(data[: archive.start_dir])
        for number in range(2, 9):
            entry = archive.getinfo(f"archive/data/{number}")
            entry.header_offset, entry.CRC = one.header_offset, one.CRC
            entry.file_size = entry.compress_size = 2**20
        forged.seek(0, io.SEEK_END)
        archive.fp, archive.mode, archive._didModify = forged, "w", True
        archive.close()
    refused(forged.getvalue(), "larger than the archive")


def test_too_many_files_are_refused(model: bytes) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number in range(MOST_ENTRIES + 1):
            archive.writestr(f"archive/data/{number}", b"")
    refused(sink.getvalue(), f"{MOST_ENTRIES + 1} files inside, more than {MOST_ENTRIES}")


@pytest.mark.parametrize("hidden", [b"# x", b"\r", b"\t", b"\\\n", b"\x00", b"\xe9"])
def test_characters_that_two_parsers_may_read_in_two_ways_are_refused_by_line(model: bytes, hidden: bytes) -> None:
    source = entries(model)[CODE].split(b"\n")
    source[3] += b" " + hidden
    refused(with_files(model, {CODE: b"\n".join(source)}), "in line 4, which exported code never has")
