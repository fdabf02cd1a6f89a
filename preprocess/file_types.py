"""What a file is, told from its first bytes (a table from its name), and which kinds of modality read it."""

from typing import Literal

from preprocess.errors import ScanError
from preprocess.types import Finding, Kind

FileType = Literal["nifti", "numpy", "dicom", "video", "picture", "table"]
READ_BY: dict[Kind, tuple[FileType, ...]] = {
    "volume": ("nifti",),
    "clip": ("numpy", "dicom", "video"),
    "image": ("picture", "dicom"),
    "array": ("numpy", "table"),
}
_NAMES: dict[FileType, str] = {
    "nifti": "a NIfTI or gzip file",
    "numpy": "a NumPy file",
    "dicom": "a DICOM file",
    "video": "a video",
    "picture": "a PNG or JPEG picture",
    "table": "a CSV table",
}
_ENDINGS: dict[FileType, tuple[str, ...]] = {
    "nifti": (".nii", ".nii.gz"),
    "numpy": (".npy", ".NPY"),
    "dicom": (".dcm", ".DCM"),
    "video": (".mp4", ".mov", ".mpeg", ".mpg", ".avi", ".MP4", ".MOV", ".MPEG", ".MPG", ".AVI"),
    "picture": (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG"),
    "table": (".csv", ".CSV"),
}
"""Cameras and scanners shout; NIfTI names were never listed in capitals, and a store keeps what it lists."""
_NIFTI_SIZES = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}
"""sizeof_hdr, the first field of NIfTI-1 and NIfTI-2."""
_MOV_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
"""What an MP4 or QuickTime file may begin with, after four bytes of length (ISO/IEC 14496-12; QuickTime)."""
_MPEG_STARTS = {b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"}
"""Pack header of a program stream, sequence header of an elementary stream (ISO/IEC 11172)."""


def endings_of(kind: Kind) -> tuple[str, ...]:
    """How names of files end that a modality of this kind reads."""
    return tuple(ending for file_type in READ_BY[kind] for ending in _ENDINGS[file_type])


def without_ending(name: str) -> str:
    """A file's name without its folders and without the ending that tells its type."""
    base = name.rpartition("/")[2].removesuffix(".gz")
    known = (ending for endings in _ENDINGS.values() for ending in endings if base.endswith(ending))
    return base.removesuffix(next(known, ""))


def file_type(data: bytes, uri: str) -> FileType | None:
    """What the file is; None where neither its first bytes nor, for tables, its name says so."""
    if data[:2] == b"\x1f\x8b" or data[:4] in _NIFTI_SIZES:
        return "nifti"
    if data.startswith(b"\x93NUMPY"):
        return "numpy"
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    if data[128:132] == b"DICM":
        return "dicom"
    if data[4:8] in _MOV_ATOMS or data[:4] in _MPEG_STARTS or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return "video"
    return "table" if uri.endswith(_ENDINGS["table"]) and not _is_impostor(data) else None


def require_type(data: bytes, uri: str, kind: Kind, *, modality: str, name: str) -> FileType:
    """The file's type, which the modality's kind must read.

    Args:
        data: the whole file.
        uri: its name, for tables only.
        kind: of the modality.
        modality: as the recipe's `kinds` would name it.
        name: what messages call the scan.

    Raises:
        ScanError: `wrong_file`, with the kind that would read it.
    """
    found = file_type(data, uri)
    if found in READ_BY[kind]:
        return found
    if found is None and kind == "volume":
        return "nifti"  # whose reader says what is wrong with it
    others = [other for other, types in READ_BY.items() if found in types]
    if _is_impostor(data):
        reason = "a web page or a Git LFS pointer under a scan's name; download the file itself"
    elif found is None:
        wanted = " or ".join(_NAMES[known] for known in READ_BY[kind])
        reason = f"begins with {data[:8].hex() or 'nothing'}, which is not {wanted}; export it as one"
    elif others == ["volume"]:
        reason = f"{_NAMES[found]}, which is no {kind}; take {modality} out of kinds, into a new store"
    else:
        choices = " or ".join(f'kinds.{modality} = "{other}"' for other in others)
        reason = f"{_NAMES[found]}, which is no {kind}; set {choices} in the recipe, for a new store"
    raise ScanError(Finding("wrong_file", f"{name}: {reason}"))


def _is_impostor(data: bytes) -> bool:
    start = data[:64].lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs"))
