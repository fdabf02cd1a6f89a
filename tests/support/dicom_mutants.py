"""DICOM files and zip archives of them with one to three faults, each drawn from a seed."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.support import zip_mutants
from tests.support.images import head
from tests.support.series import enhanced, file_of, slices
from tests.support.zip_mutants import Step

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Value representations with a length of four bytes (PS3.5, 7.1.2)."""
_LENGTHS = (0, 1, 2, 3, 7, 8, 255, 65_534, 65_535, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_SYNTAXES = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),
    *(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70, 80, 81, 90, 91, 100, 102, 201, 202, 203)),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.9", "1.2.3", "", "1" * 64),
)
_TEXTS = (
    *(b"", b" ", b"NaN", b"inf", b"-inf", b"1e400", b"-1", b"0", b"1", b"2147483648", b"-2147483649", b"9" * 16),
    *(b"1\\2", b"1\\2\\3", b"1\\2\\3\\4\\5\\6\\7", b"\\" * 5, b"\0", b"\xff\xfe", b"\x1b$B\x1b(B", b"0x10", b"1_0"),
    *(b"1,5", b"1e-400", b"9" * 5000, b"1\\" * 500 + b"1", b"MONOCHROME1", b"PALETTE COLOR", b"RGB", b"YES", b"MOSAIC"),
)


@cache
def bases(edge: int) -> dict[str, tuple[bytes, ...]]:
    """The files of sound series, one file where the object is enhanced.

    Args:
        edge: rows and columns; there are half as many slices.
    """
    voxels = head(edge=edge, spacing_mm=192 / edge).transpose(2, 1, 0)[::2]
    steps = (384 / edge, 192 / edge, 192 / edge)
    plain = slices(voxels, spacing_mm=steps)
    made = {
        "slices": tuple(file_of(one) for one in plain),
        "slices with slopes": tuple(
            file_of(one) for one in slices(voxels, spacing_mm=steps, RescaleSlope="2.5", RescaleIntercept="-7")
        ),
        "enhanced": (file_of(enhanced(voxels, step_mm=192 / edge)),),
    }
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        made[f"enhanced, {syntax.name}"] = (_as_syntax(enhanced(voxels, step_mm=192 / edge), syntax),)
    large = np.kron(voxels, np.ones((1, 2, 2), np.int16))  # the encoder of JPEG 2000 takes no smaller frames
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        made[f"enhanced, {syntax.name}"] = (_compressed(enhanced(large, step_mm=96 / edge), syntax),)
        of_series = slices(large, spacing_mm=(384 / edge, 96 / edge, 96 / edge))
        made[f"slices, {syntax.name}"] = tuple(_compressed(one, syntax) for one in of_series)
    return made


def _compressed(one: Dataset, syntax: UID) -> bytes:
    file_of(one)  # gives it its meta group
    one.compress(syntax, generate_instance_uid=False)
    return _written(one)


def _as_syntax(one: Dataset, syntax: UID) -> bytes:
    file_of(one)
    one.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
    return _written(one)


def _written(one: Dataset) -> bytes:
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, one, enforce_file_format=True)
    return sink.getvalue()


def mutant(rng: random.Random, edge: int) -> tuple[list[str], bytes]:
    """One file or archive with faults, and what was done to it.

    Args:
        rng: all that is drawn comes from it.
        edge: as in `bases`.
    """
    found = bases(edge)
    name = rng.choice(sorted(found))
    files = [bytearray(file) for file in found[name]]
    steps = [name]
    for _ in range(rng.randint(1, 3)):
        if len(files) > 1 and rng.random() < 0.2:
            steps.append(rng.choice(SERIES_STEPS)(files, rng))
        else:
            index = rng.randrange(len(files))
            choices = (*FILE_STEPS, *(FRAME_STEPS * 3 if b"\xfe\xff\x00\xe0" in files[index] else ()))
            steps.append(f"file {index}: {rng.choice(choices)(files[index], rng)}")
    if len(files) == 1 and rng.random() < 0.7:
        return steps, bytes(files[0])
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    steps.append("zip")
    names = [f"IM_{index}.dcm" for index in range(len(files))]
    if rng.random() < 0.3:
        odd = rng.choice(zip_mutants.ENTRY_NAMES)
        names[rng.randrange(len(names))] = odd
        steps.append(f"an entry named {odd[:20]!r}")
    packed = bytearray(zip_mutants.packed(names, files, method))
    if rng.random() < 0.4:
        steps.append(rng.choice(zip_mutants.STEPS)(packed, rng))
    return steps, bytes(packed)


@dataclass(frozen=True, slots=True)
class _Element:
    """Where an element of explicit little-endian stands: its start, the length's place and size, and the value's."""

    start: int
    length_at: int
    length_size: int
    value_at: int
    length: int
    representation: bytes

    @property
    def end(self) -> int:
        return self.value_at + (0 if self.length == 2**32 - 1 else self.length)


def _elements(data: bytes, start: int = 132, end: int | None = None, depth: int = 0) -> Iterator[_Element]:
    """Every element that can be found, those in sequences too; stops where nothing makes sense any more."""
    at, end = start, len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        representation = bytes(data[at + 4 : at + 6])
        if data[at : at + 2] == b"\xfe\xff":  # an item or its end: no representation
            at += 8
            continue
        if not representation.isalpha() or not representation.isupper():
            return
        is_long = representation in _LONG
        length_at, size = (at + 8, 4) if is_long else (at + 6, 2)
        if length_at + size > end:
            return
        length = int.from_bytes(data[length_at : length_at + size], "little")
        one = _Element(at, length_at, size, length_at + size, length, representation)
        yield one
        if representation == b"SQ" and length < 2**32 - 1 and depth < 3:
            yield from _elements(data, one.value_at, one.end, depth + 1)
        at = one.end  # of undefined length: on into its items


def _pick(data: bytearray, rng: random.Random) -> _Element | None:
    found = list(_elements(bytes(data)))
    return rng.choice(found) if found else None


def _named(data: bytearray, one: _Element) -> str:
    return f"({data[one.start : one.start + 2][::-1].hex()},{data[one.start + 2 : one.start + 4][::-1].hex()})"


def _set(data: bytearray, one: _Element, value: bytes) -> None:
    """Replace the value and its length."""
    most = 2 ** (8 * one.length_size) - 2
    value = value[:most]
    data[one.value_at : one.end] = value
    data[one.length_at : one.length_at + one.length_size] = len(value).to_bytes(one.length_size, "little")


def _length(data: bytearray, rng: random.Random) -> str:
    one = _pick(data, rng)
    if one is None:
        return _noise(data, rng)
    value = rng.choice((*_LENGTHS, one.length + 1, one.length + 2, len(data) - one.value_at + 1)) % 2 ** (
        8 * one.length_size
    )
    data[one.length_at : one.length_at + one.length_size] = value.to_bytes(one.length_size, "little")
    return f"length of {_named(data, one)} = {value}"


def _value(data: bytearray, rng: random.Random) -> str:
    one = _pick(data, rng)
    if one is None:
        return _noise(data, rng)
    if one.representation in (b"US", b"SS"):
        value = struct.pack("<H", rng.choice((0, 1, 2, 7, 8, 12, 16, 17, 32, 64, 255, 32_768, 65_535)))
    elif one.representation in (b"OB", b"OW"):
        value = rng.choice((b"", b"\0", b"\0\0", rng.randbytes(64), bytes(data[one.value_at : one.end])[:-2]))
    elif one.representation == b"UI":
        value = rng.choice((*_SYNTAXES, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.3.10", "x")).encode()
    else:
        value = rng.choice(_TEXTS)
    _set(data, one, value)
    return f"{_named(data, one)} = {value[:20]!r}"


def _representation(data: bytearray, rng: random.Random) -> str:
    one = _pick(data, rng)
    if one is None:
        return _noise(data, rng)
    other = rng.choice(
        (b"SQ", b"UN", b"OB", b"OW", b"DS", b"IS", b"US", b"FD", b"AT", b"UI", b"PN", b"DA", b"ZZ", b"\0\0")
    )
    data[one.start + 4 : one.start + 6] = other
    return f"representation of {_named(data, one)} = {other!r}"


def _flip(data: bytearray, rng: random.Random) -> str:
    one = _pick(data, rng)
    if one is None or one.end <= one.start:
        return _noise(data, rng)
    at = min(rng.randrange(one.start, one.end), len(data) - 1)
    data[at] ^= 1 << rng.randrange(8)
    return f"a bit at {at} in {_named(data, one)}"


def _drop(data: bytearray, rng: random.Random) -> str:
    one = _pick(data, rng)
    if one is None:
        return _noise(data, rng)
    name, block = _named(data, one), data[one.start : one.end]
    del data[one.start : one.end]
    if rng.random() < 0.4:
        data[one.start : one.start] = block * 2
        return f"{name} twice"
    if rng.random() < 0.3:
        data += block
        return f"{name} at the end"
    return f"{name} removed"


def _insert(data: bytearray, rng: random.Random) -> str:
    """Private elements, deep sequences and character sets, between two elements."""
    one = _pick(data, rng)
    at = len(data) if one is None else one.start
    kind = rng.choice(("private", "unknown", "deep", "wide", "charset"))
    undefined = b"\xff\xff\xff\xff"
    if kind == "private":
        block = b"\x09\x00\x10\x00LO\x06\x00Canary" + b"\x09\x00\x01\x10UN\0\0" + struct.pack("<I", 8) + b"\0" * 8
    elif kind == "unknown":
        block = b"\x09\x00\x01\x10UN\0\0" + undefined + rng.randbytes(8)
    elif kind == "charset":
        block = b"\x08\x00\x05\x00CS\x10\x00\\ISO 2022 IR 149"
    elif kind == "wide":
        block = b"\x00\x52\x30\x92SQ\0\0" + undefined + b"\xfe\xff\x00\xe0\0\0\0\0" * rng.choice((10, 1000, 20_000))
    else:
        opening = rng.choice((b"\x00\x52\x30\x92", b"\x09\x00\x01\x10")) + b"SQ\0\0" + undefined
        block = (opening + b"\xfe\xff\x00\xe0" + undefined) * rng.choice((10, 500, 5000))
    data[at:at] = block
    return f"{kind} elements at {at}"


def _syntax(data: bytearray, rng: random.Random) -> str:
    """Another transfer syntax over the same bytes."""
    for one in _elements(bytes(data)):
        if data[one.start : one.start + 4] == b"\x02\x00\x10\x00":
            value = rng.choice(_SYNTAXES).encode()
            _set(data, one, value + b"\0" * (len(value) % 2))
            return f"transfer syntax {value!r}"
    return _noise(data, rng)


def _deflated(data: bytearray, rng: random.Random) -> str:
    """The deflated syntax, and behind the meta group a stream that unpacks to very much, or to nothing sound."""
    body = [one.start for one in _elements(bytes(data)) if data[one.start : one.start + 2] != b"\x02\x00"]
    if not body:
        return _noise(data, rng)
    kind = rng.choice(("small bomb", "large bomb", "sound", "undefined lengths"))
    if kind == "sound":
        data[body[0] :] = _deflate(bytes(data[body[0] :]))
    elif kind == "undefined lengths":
        data[body[0] :] = _deflate(b"\x08\0\0\0UN\0\0\xff\xff\xff\xff" * 1000)
    else:
        data[body[0] :] = _deflated_zeros(2**22 if kind == "small bomb" else 2**27)
    for one in _elements(bytes(data[: body[0]])):
        if data[one.start : one.start + 4] == b"\x02\x00\x10\x00":
            _set(data, one, b"1.2.840.10008.1.2.1.99")
    return f"deflated: {kind}"


def _deflate(plain: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(plain) + packer.flush()


@cache
def _deflated_zeros(count: int) -> bytes:
    return _deflate(bytes(count))


def _truncate(data: bytearray, rng: random.Random) -> str:
    at = rng.choice((rng.choice((0, 4, 127, 128, 131, 132, 140, 200)), rng.randint(0, len(data)), len(data) - 1))
    del data[max(0, at) :]
    return f"cut at byte {at}"


def _noise(data: bytearray, rng: random.Random) -> str:
    count = rng.choice((1, 2, 4, 64))
    at = rng.randint(132, max(132, len(data) - count))
    filler = rng.choice((rng.randbytes(count), b"\xff" * count, b"\0" * count))
    data[at : at + count] = filler
    return f"{count} bytes at {at}"


def _size(data: bytearray, rng: random.Random) -> str:
    """Rows, columns, frames, bits and samples that the pixels do not have."""
    wanted = rng.choice(
        (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x08\x00", b"\x28\x00\x00\x01", b"\x28\x00\x02\x00")
    )
    for one in _elements(bytes(data)):
        if data[one.start : one.start + 4] == wanted:
            if one.representation == b"US":
                _set(data, one, struct.pack("<H", rng.choice((0, 1, 3, 8, 31, 64, 4096, 65_535))))
            else:
                _set(data, one, rng.choice((b"0 ", b"1 ", b"-1", b"99999999", b"2147483647", b"1e9", b"7\\8")))
            return f"{_named(data, one)} = {bytes(data[one.value_at : one.end])!r}"
    return _noise(data, rng)


FILE_STEPS: tuple[Step, ...] = (
    *(_length, _length, _value, _value, _value, _representation, _flip, _flip, _drop, _insert),
    *(_syntax, _deflated, _truncate, _noise, _size, _size),
)


def _items(data: bytearray) -> list[int]:
    """Where the items of encapsulated pixels stand; the first is the table of offsets."""
    start = data.rfind(b"\xe0\x7f\x10\x00")
    found, at = [], start + 12
    while start >= 0 and data[at : at + 4] == b"\xfe\xff\x00\xe0" and at + 8 <= len(data):
        found.append(at)
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return found


def _fragment(data: bytearray, rng: random.Random) -> str:
    """A false length of a fragment, or a table of offsets that leads anywhere."""
    items = _items(data)
    if not items:
        return _noise(data, rng)
    if rng.random() < 0.5:
        at = rng.choice(items)
        value = rng.choice(_LENGTHS)
        data[at + 4 : at + 8] = struct.pack("<I", value)
        return f"length of the fragment at {at} = {value}"
    count = rng.choice((1, 2, len(items), 1000))
    table = b"".join(struct.pack("<I", rng.choice((*_LENGTHS, rng.randrange(len(data))))) for _ in range(count))
    length = int.from_bytes(data[items[0] + 4 : items[0] + 8], "little")
    data[items[0] + 4 : items[0] + 8 + length] = struct.pack("<I", len(table)) + table
    return f"a table of {count} false offsets"


def _stream(data: bytearray, rng: random.Random) -> str:
    """Bytes of a compressed frame, its header first."""
    items = _items(data)
    if len(items) < 2:
        return _noise(data, rng)
    at = rng.choice(items[1:]) + 8
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = min(at + rng.choice((rng.randrange(64), rng.randrange(160), rng.randrange(2000))), len(data) - 1)
        data[place] = rng.choice((0, 0xFF, 0x7F, rng.getrandbits(8), data[place] ^ (1 << rng.randrange(8))))
    return f"bytes of the compressed frame at {at}"


def _unend(data: bytearray, rng: random.Random) -> str:
    """No end of the fragments, or a frame fewer."""
    items = _items(data)
    if not items:
        return _noise(data, rng)
    del data[(at := rng.choice(items)) : at + rng.choice((8, 100, len(data)))]
    return f"fragments cut at {at}"


FRAME_STEPS: tuple[Step, ...] = (_fragment, _fragment, _stream, _stream, _unend)


def _series_change(files: list[bytearray], rng: random.Random) -> str:
    kind, index = rng.choice(("copy", "lose", "text", "empty", "header")), rng.randrange(len(files))
    if kind == "copy":
        files.append(bytearray(files[index]))
    elif kind == "lose" and len(files) > 1:
        del files[index]
    elif kind == "header":
        del files[index][400:]
    else:
        files.append(bytearray(b"" if kind == "empty" else b"<html>Canary</html>" * 20))
    return f"series: {kind} {index}"


SERIES_STEPS = (_series_change,)
