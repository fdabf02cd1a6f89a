"""Zip archives with a fault each, drawn from a seed: names, fields of the directory, overlaps and bombs."""

import io
import random
import zipfile
from collections.abc import Callable
from functools import cache

ENTRY_NAMES = (
    *("../a.dcm", "/a.dcm", "C:\\a.dcm", "..\\..\\a", "a/../../b", "", ".", "..", "a\0b", "a" * 5000, "CON", "a.zip"),
    *("__MACOSX/x", ".hidden", "\u202egnp.mcd", "a\nb", "con/.", "a//b", "\u00e9" * 300),
)

Step = Callable[[bytearray, random.Random], str]


def packed(names: list[str], files: list[bytearray], method: int) -> bytes:
    """An archive of files under these names.

    Args:
        names: one for each file.
        files: their bytes.
        method: zipfile's number of the packing.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, file in zip(names, files, strict=True):
            archive.writestr(zipfile.ZipInfo(name), bytes(file), method)
    return sink.getvalue()


def _directory(data: bytearray, rng: random.Random) -> str:
    """A field of the archive's directory by its place (APPNOTE.TXT 4.3.12 and 4.3.16), or of a local header."""
    mark, size = rng.choice(((b"PK\x01\x02", 46), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22), (b"PK\x03\x04", 30)))
    places = [at for at in range(len(data)) if data[at : at + 4] == mark] if len(data) < 2**18 else [data.rfind(mark)]
    at = rng.choice(places) + rng.randrange(4, size)
    count = rng.choice((1, 2, 4))
    data[at : at + count] = rng.choice((b"\xff" * count, b"\0" * count, rng.randbytes(count)))
    return f"{mark!r}, {count} bytes at {at}"


def _zip_cut(data: bytearray, rng: random.Random) -> str:
    at = rng.choice((rng.randrange(len(data)), len(data) - 1 - rng.randrange(22)))
    del data[at:]
    return f"archive cut at {at}"


def _overlap(data: bytearray, rng: random.Random) -> str:
    """Every entry of the directory points at the same file: a bomb without depth."""
    at, num_found = 0, 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 42 : at + 46] = b"\0\0\0\0"
        at, num_found = at + 4, num_found + 1
    return f"{num_found} entries over one file"


def _zip_bomb(data: bytearray, rng: random.Random) -> str:
    """Entries of zeros: a few large ones, very many small ones, or an archive in the archive."""
    kind = rng.choice(("large", "many", "nested"))
    data[:] = _archive_of(bytes(data), 2) if kind == "nested" else _zip_of_zeros(kind)
    return f"zip bomb: {kind}"


@cache
def _zip_of_zeros(kind: str) -> bytes:
    return _archive_of(bytes(2**25), 3) if kind == "large" else _archive_of(b"", 10_001)


def _archive_of(content: bytes, count: int) -> bytes:
    names = [f"{index}.dcm" for index in range(count)]
    return packed(names, [bytearray(content)] * count, zipfile.ZIP_DEFLATED)


STEPS: tuple[Step, ...] = (_directory, _directory, _directory, _zip_cut, _overlap, _zip_bomb)
