"""JPEG streams, baseline and lossless, as frames of DICOM files; and such files with faults, each drawn from a seed."""

import io
import random
import struct
from functools import cache

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless

from tests.support import dicom_mutants
from tests.support.clips import dicom, moving_block

SIZE = (48, 64)


def baseline(plane: np.ndarray) -> bytes:
    """As Pillow writes it."""
    sink = io.BytesIO()
    Image.fromarray(plane).save(sink, "JPEG")
    return sink.getvalue()


def lossless(**odd: bytes) -> bytes:
    """One grey value everywhere, after ISO/IEC 10918-1, annex H: every difference is 0.

    Args:
        odd: `jfif` and `sof` replace these segments, `before` stands in front of each.
    """
    jfif = odd.get("jfif", b"JFIF\0\x01\x01\0\0\1\0\1\0\0")
    sof = odd.get("sof", struct.pack(">BHHB", 8, *SIZE, 1) + b"\x01\x11\x00")
    table = b"\0" + b"\x01" + b"\0" * 15 + b"\0"  # one code of one bit, for a difference of no bits
    pixels = b"\0" * (SIZE[0] * SIZE[1] // 8)
    parts = [(b"\xe0", jfif), (b"\xc3", sof), (b"\xc4", table), (b"\xda", b"\x01\x01\x00\x01\x00\x00")]
    between = odd.get("before", b"")
    segments = [between + b"\xff" + mark + struct.pack(">H", len(part) + 2) + part for mark, part in parts]
    return b"\xff\xd8" + b"".join(segments) + pixels + b"\xff\xd9"


def as_dicom(frames: list[bytes], syntax: UID = JPEGLosslessSV1, **elements: object) -> bytes:
    """A clip of 8-bit frames of `SIZE`.

    Args:
        frames: compressed.
        syntax: how.
        elements: put in afterwards, whatever pydicom thinks of them.
    """
    read = pydicom.dcmread(io.BytesIO(dicom(moving_block(len(frames), SIZE))))
    read.PixelData = encapsulate(frames)
    read["PixelData"].VR = "OB"
    read["PixelData"].is_undefined_length = True
    read.file_meta.TransferSyntaxUID = syntax
    for key, value in elements.items():
        setattr(read, key, value)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, read, enforce_file_format=True)
    return sink.getvalue()


@cache
def bases() -> dict[str, bytes]:
    """Sound clips of each coding whose decoder is code in C."""
    made = {
        "JPEG": as_dicom([baseline(plane) for plane in moving_block(3, SIZE)], JPEGBaseline8Bit),
        "lossless JPEG": as_dicom([lossless()] * 3),
    }
    for syntax in (JPEGLSLossless, JPEG2000Lossless):
        read = pydicom.dcmread(io.BytesIO(dicom(moving_block(3, SIZE))))
        read.compress(syntax, generate_instance_uid=False)
        sink = io.BytesIO()
        pydicom.dcmwrite(sink, read, enforce_file_format=True)
        made[syntax.name] = sink.getvalue()
    return made


def mutant(rng: random.Random) -> tuple[list[str], bytes]:
    """One clip with faults, most of them in its frames, and what was done to it.

    Args:
        rng: all that is drawn comes from it.
    """
    name = rng.choice(sorted(bases()))
    data = bytearray(bases()[name])
    choices = (*dicom_mutants.FILE_STEPS, *dicom_mutants.FRAME_STEPS * 6)
    return [name, *(rng.choice(choices)(data, rng) for _ in range(rng.randint(1, 3)))], bytes(data)
