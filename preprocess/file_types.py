"""What a file is, by its first bytes (a table from its name), and which kinds of modality read it."""

import re
from collections.abc import Sequence
from typing import Literal

from preprocess.errors import ScanError
from preprocess.types import Finding, Kind

FileType = Literal["nifti", "zip", "numpy", "dicom", "video", "picture", "table"]
READ_BY: dict[Kind, tuple[FileType, ...]] = {
    "volume": ("nifti", "zip"),
    "clip": ("numpy", "dicom", "video"),
    "image": ("picture", "dicom"),
    "array": ("numpy", "table"),
}
_NAMES: dict[FileType, str] = {
    "nifti": "a NIfTI or gzip file",
    "zip": "a zip archive",
    "numpy": "a NumPy file",
    "dicom": "a DICOM file",
    "video": "a video",
    "picture": "a PNG or JPEG picture",
    "table": "a CSV table",
}
_ENDINGS: dict[FileType, tuple[str, ...]] = {
    "nifti": (".nii", ".nii.gz"),
    "zip": (),
    "numpy": (".npy",),
    "dicom": (".dcm", ".ima", ".dicom"),
    "video": (".mp4", ".mov", ".mpeg", ".mpg", ".avi"),
    "picture": (".png", ".jpg", ".jpeg"),
    "table": (".csv",),
}
"""In small letters; cameras, scanners and copies through Windows shout, so `has_ending` takes any case."""
DICOM_ENDINGS = _ENDINGS["dicom"]
_TEXT_TABLES = (".tsv", ".txt")
"""Matrices too, but notes and lists about a data set end so as well: only a table or a BIDS suffix can name them."""
_NIB = "convert it with nib-convert, which comes with nibabel, to .nii.gz"
_DICOM_REASON = "DICOM, which is not listed with other files; list its folder with --source-kind dicom"
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
_OWN_OBJECTS = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "1.1", "3", "3.1", "6", "6.1", "12.1", "12.2"))
_PHOTOGRAPHS = "1.2.840.10008.5.1.4.1.1.77.1."
"""SOP classes (DICOM PS3.4, B.5) of which one file is one examination: radiographs, ultrasound, angiograms, and
photographs of the eye, the skin or by endoscope. A file of CT, MR or PET may be one slice of hundreds."""
_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml", b'{"')
_LFS_POINTERS = (b"version https://git-lfs", b"version https://hawser.github.com", b"version http://git-media.io")
_SAVED_LINKS = (b"xsym\n", b"!<symlink>")
"""How SMB shares and Cygwin write a symbolic link into a plain file."""
_MAX_LINK_BYTES = 4096
"""PATH_MAX: no link is longer."""


def endings_of(kind: Kind) -> tuple[str, ...]:
    """How names of files end, in small letters, that a modality of this kind reads."""
    return tuple(ending for file_type in READ_BY[kind] for ending in _ENDINGS[file_type])


def has_ending(name: str, kind: Kind, *, is_named: bool = False) -> bool:
    """Whether a file ends as one that a modality of this kind reads, in letters of any case.

    Args:
        name: the file's.
        kind: the kind of the modality, for example `volume`.
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
        name: name of a file that belongs to no requested modality; only the name is looked at.

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
    if data.startswith(b"PK\x03\x04"):
        return "zip"
    if data.startswith(b"\x93NUMPY"):
        return "numpy"
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    if data[128:132] == b"DICM":
        return "dicom"
    if data[4:8] in _MOV_ATOMS or data[:4] in _MPEG_STARTS or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return "video"
    return "table" if uri.lower().endswith((*_ENDINGS["table"], *_TEXT_TABLES)) and impostor(data) is None else None


def require_type(data: bytes, uri: str, kind: Kind, *, modality: str, name: str) -> FileType:
    """The file's type, which the modality's kind must read.

    Args:
        data: the whole file.
        uri: its name, for tables only.
        kind: the kind of the modality, for example `volume`.
        modality: as the recipe's `kinds` would name it.
        name: what messages call the scan.

    Raises:
        ScanError: `wrong_file`, with the kind that would read it, or with how to fetch a file that is not there yet.
    """
    found = file_type(data, uri)
    if found == "zip" and kind != "volume":
        found = None  # NumPy's .npz and office documents are zip archives too
    # A slice of a series is no clip in disguise: the reader of volumes says what is missing.
    if found in READ_BY[kind] or (kind == "volume" and found == "dicom" and not is_own_object(data)):
        return found
    if found is None and kind == "volume" and impostor(data) is None:
        return "nifti"  # whose reader says what is wrong with it
    lie = impostor(data)
    if lie is not None:
        reason = lie
    elif found is None:
        expected = " or ".join(_NAMES[known] for known in READ_BY[kind])
        reason = f"begins with {data[:8].hex() or 'nothing'}, which is not {expected}; export it as one"
    elif found in READ_BY["volume"]:
        reason = f"{_NAMES[found]}, which is no {kind}; take {modality} out of kinds, into a new store"
    else:
        others = [other for other, types in READ_BY.items() if found in types]
        reason = f"{_NAMES[found]}, which is no {kind}; {kind_advice(others, kind, modality)}"
    if kind == "volume" and lie is not None:  # what its reader has always called it
        raise ScanError(Finding("not_nifti", f"{name}: {reason}"))
    raise ScanError(Finding("wrong_file", f"{name}: {reason}"))


def kind_advice(others: Sequence[Kind], kind: Kind, modality: str) -> str:
    """The setting that takes files for another kind; where slices of a volume may be meant, with its condition.

    Args:
        others: kinds that read such files, at least one.
        kind: that the modality has now.
        modality: as the recipe's `kinds` names it.
    """
    choices = " or ".join(f'kinds.{modality} = "{other}"' for other in others)
    setting = f"set {choices} in the recipe, for a new store"
    if kind != "volume":
        return setting
    return f"save a volume, or its slices together, as one .nii.gz; only if each file is a whole visit, {setting}"


def is_own_object(data: bytes) -> bool:
    """Whether a DICOM file is an examination of its own, such as a radiograph or an ultrasound clip, and no slice.

    Args:
        data: the file, or its first kilobytes.
    """
    # The meta group is explicit little endian in every file: tag (0002,0002), UI, length, UID (PS3.10, 7.1).
    at = data.find(b"\x02\x00\x02\x00UI", 132, 1024)
    if at < 0:
        return False
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    uid = data[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
    return uid in _OWN_OBJECTS or uid.startswith(_PHOTOGRAPHS)


def impostor(data: bytes) -> str | None:
    """What stands in for a file that was never fetched.

    Args:
        data: the file, or its first kilobytes.

    Returns:
        One clause with the remedy, for example `a Git LFS pointer, not the scan; run git lfs pull`; None for any other
        file.
    """
    start = data[:64].lstrip().lower().replace(b"\\", b"/")
    if start.startswith(_WEB_PAGES):
        return "a web page saved under a scan's name; download the scan itself"
    if start.startswith(_LFS_POINTERS):
        return "a Git LFS pointer, not the scan; run git lfs pull"
    # An unlocked file holds the key alone; a link that was checked out as text, or zipped, holds its path.
    if len(data) <= _MAX_LINK_BYTES and start.startswith((b"/annex/objects/", b".git/annex/", b"../")):
        if b"annex/objects/" in data.replace(b"\\", b"/"):
            return "a git-annex pointer, not the scan; run git annex get (or datalad get) on it"
        if len(data.split()) == 1:
            return "a link saved as text, not the scan; copy the file that it names"
    if start.startswith(_SAVED_LINKS):
        return "a link saved as a file, not the scan; copy the file that it names"
    return None
