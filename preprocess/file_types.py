"""What a file is, told from its first bytes (a table from its name), and which kinds of modality read it."""

import re
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
    "numpy": (".npy",),
    "dicom": (".dcm", ".ima", ".dicom"),
    "video": (".mp4", ".mov", ".mpeg", ".mpg", ".avi"),
    "picture": (".png", ".jpg", ".jpeg"),
    "table": (".csv",),
}
"""In small letters; cameras, scanners and copies through Windows shout, so `has_ending` takes any case."""
_TEXT_TABLES = (".tsv", ".txt")
"""Matrices too, but notes and lists about a data set end so as well: only a table or a BIDS suffix can name them."""
_NIB = "convert it with nib-convert, which comes with nibabel, to .nii.gz"
_DICOM_REASON = "DICOM, from which volumes are not made yet; convert the series with dcm2niix"
_UNREAD: tuple[tuple[tuple[str, ...], str], ...] = (
    (_ENDINGS["dicom"], _DICOM_REASON),
    ((".mgz", ".mgh", ".mgh.gz"), "FreeSurfer volume, which is not read; convert it with mri_convert to .nii.gz"),
    ((".hdr", ".img", ".hdr.gz", ".img.gz"), f"half of an Analyze or NIfTI pair, which is not read; {_NIB}"),
    ((".nrrd", ".nhdr"), "NRRD volume, which is not read; save it as .nii.gz, for example with 3D Slicer"),
    ((".mha", ".mhd"), "MetaImage volume, which is not read; save it as .nii.gz, for example with ITK-SNAP"),
    ((".gipl", ".gipl.gz"), "GIPL volume, which is not read; save it as .nii.gz, for example with ITK-SNAP"),
    ((".par", ".rec"), "half of a Philips PAR/REC pair, which is not read; convert it with dcm2niix or parrec2nii"),
    ((".mnc", ".mnc.gz", ".minc"), "MINC volume, which is not read; convert it with mnc2nii to .nii"),
    ((".brik", ".brik.gz", ".head"), "half of an AFNI pair, which is not read; convert it with 3dAFNItoNIFTI"),
    ((".mif", ".mif.gz", ".mih"), "MRtrix volume, which is not read; convert it with mrconvert to .nii.gz"),
    ((".v",), f"ECAT volume, which is not read; {_NIB}"),
    ((".nii.bz2",), "NIfTI packed with bzip2, which is not read; unpack it with bunzip2"),
    ((".nii.xz", ".nii.lzma"), "NIfTI packed with xz, which is not read; unpack it with unxz"),
    ((".nii.zst",), "NIfTI packed with Zstandard, which is not read; unpack it with unzstd"),
    ((".nii.z",), "NIfTI packed with compress, which is not read; unpack it with gunzip"),
    ((".part", ".partial", ".crdownload", ".filepart", ".aria2"), "unfinished download; download the file again"),
    (
        (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar"),
        "archive, which is not looked into; unpack it if it holds scans",
    ),
    ((".npz",), "archive of NumPy arrays, which is not read; save one array with numpy.save as .npy"),
    ((".mat",), "MATLAB file, which is not read; save its matrix as .npy, .csv or .txt"),
    ((".tif", ".tiff", ".bmp", ".webp", ".jp2", ".heic", ".heif"), "picture, which is not read; save it as .png"),
    ((".mkv", ".webm", ".wmv", ".m4v", ".3gp", ".flv"), "video, which is not read; convert it with ffmpeg to .mp4"),
)
"""Endings in small letters of files that are or may be scans, none of which a reader here knows, and what to do."""
_DICOM_NAME = re.compile(r"([a-z]{2}[._-])?\d+(\.\d+){4,}$|(im|img|i|z|mr)[-_]?\d{2,}([-_]\d+)*$")
"""What scanners and archives call DICOM files without an ending: a UID, or IM and a number. Not DICOMDIR, an index."""
_BEHIND_NIFTI = re.compile(r"\.nii(?:\.gz)?([._~ (-].*|~)$")
_BESIDE_SCANS = (".json", ".txt", ".md5", ".sha256", ".sha1", ".tsv", ".csv", ".log", ".xml", ".html", ".png", ".lock")
"""Files that carry the whole name of the scan they stand beside."""
_NIFTI_SIZES = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}
"""sizeof_hdr, the first field of NIfTI-1 and NIfTI-2."""
_MOV_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
"""What an MP4 or QuickTime file may begin with, after four bytes of length (ISO/IEC 14496-12; QuickTime)."""
_MPEG_STARTS = {b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"}
"""Pack header of a program stream, sequence header of an elementary stream (ISO/IEC 11172)."""


def endings_of(kind: Kind) -> tuple[str, ...]:
    """How names of files end, in small letters, that a modality of this kind reads."""
    return tuple(ending for file_type in READ_BY[kind] for ending in _ENDINGS[file_type])


def has_ending(name: str, kind: Kind, *, is_named: bool = False) -> bool:
    """Whether a file ends as one that a modality of this kind reads, in letters of any case.

    Args:
        name: the file's.
        kind: of the modality.
        is_named: whether more than the ending says that it is a scan, such as a BIDS suffix; `.txt` and `.tsv` then
            count as tables.
    """
    texts = _TEXT_TABLES if is_named and "table" in READ_BY[kind] else ()
    return name.lower().endswith((*endings_of(kind), *texts))


def without_ending(name: str) -> str:
    """A file's name without its folders and without the ending that tells its type."""
    base = name.rpartition("/")[2]
    base = base[:-3] if base.lower().endswith(".gz") else base
    endings = [*(ending for endings in _ENDINGS.values() for ending in endings), *_TEXT_TABLES]
    known = (ending for ending in endings if base.lower().endswith(ending))
    return base[: len(base) - len(next(known, ""))]


def unread_reason(name: str) -> str | None:
    """Why a file that a listing passed over, and that looks like a scan, was not read.

    Args:
        name: of a file that no modality asked for; only the name is looked at.

    Returns:
        One clause with the remedy, for example `FreeSurfer volume, which is not read; convert it with ...`; None for a
        file that some kind reads and for one that is no scan. DICOM files, which clips and images read, have a reason
        all the same: in a listing of volumes they would vanish.
    """
    base = name.rpartition("/")[2].lower()
    if has_ending(base, "volume"):
        return None
    for endings, reason in _UNREAD:
        if base.endswith(endings):
            return reason
    if _DICOM_NAME.match(base):
        return _DICOM_REASON
    cut = _BEHIND_NIFTI.search(base)
    if cut is None or cut[1].endswith(_BESIDE_SCANS):
        return None
    return f"ends in {cut[1]} behind .nii, which is not read; unpack or rename it to end in .nii or .nii.gz"


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
    return "table" if uri.lower().endswith((*_ENDINGS["table"], *_TEXT_TABLES)) and not _is_impostor(data) else None


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
