"""The header of a DICOM file in, what sorting and choosing a series need out; pixels are never touched.

Names, birth dates and free comments of the patient are not among the elements read. Identifiers that are (the
patient's, and those of study and series) serve to group files and stand in no message.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from preprocess.dicom import PYDICOM_ERRORS, read_elements, require_pydicom
from preprocess.errors import ScanError
from preprocess.types import MAX_VOXELS, Finding

_ELEMENTS = [
    *("SOPClassUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber"),
    *("StudyDate", "StudyTime", "SeriesDate", "AcquisitionDate", "AcquisitionDateTime", "SeriesDescription"),
    *("ProtocolName", "ImageType", "MRAcquisitionType", "EchoTime", "EchoNumbers", "InversionTime"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "ContrastBolusAgent", "Manufacturer"),
    *("ManufacturerModelName", "BurnedInAnnotation", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_ENHANCED = {f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2.1", "2.2", "4.1", "4.4", "128.1", "130")}
"""SOP classes whose frames have functional groups: enhanced CT, MR and PET, plain and legacy converted (PS3.4, B.5)."""
_SLICES = {f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "128")}
"""CT, MR and PET images of one slice."""
_MAX_FRAMES = 100_000

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a file.

    Attributes:
        size: rows and columns.
        position_mm: centre of the first pixel, LPS+; empty where the header has none.
        orientation: direction of growing columns, then of growing rows, LPS+; empty where the header has none.
        spacing_mm: between rows and between columns, in this order (PS3.3, 10.7.1.3); empty where the header has none.
        slope: real units of a stored step.
        intercept: real units of a stored zero.
        echo: echo time in ms and number of the echo.
        moment: time point, acquisition and inversion time.
        sort: the values of ImageType or FrameType.
    """

    size: tuple[int, int]
    position_mm: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    echo: Key = ()
    moment: Key = ()
    sort: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What is read of a file; see `Frame` for its planes.

    Attributes:
        group: patient, study and series; equal for files of one series.
        patient_id: as written; empty where it was removed.
        dates: study, series and acquisition date as far as they are there, YYYYMMDD.
        time: the study's, HHMMSS.
        series_number: as shown at the scanner; 0 where it was removed.
        sop_class: what the object is.
        modality: for example `MR`.
        text: series description and protocol name.
        image_type: values of ImageType, in capitals.
        acquisition: `2D`, `3D` or empty.
        echo_time_ms: None where it was removed.
        has_contrast: whether a contrast agent is named.
        interpretation: for example `MONOCHROME2`.
        scanner: maker and model.
        is_burned_in: whether its picture is said to have text in it, which may name the patient.
        is_mosaic: whether its picture is a sheet of slices (Siemens).
        frames: the file's planes; empty in what is no image.
    """

    group: tuple[str, str, str] = field(repr=False)
    patient_id: str = field(repr=False)
    dates: tuple[str, ...] = field(repr=False)
    time: str = field(repr=False)
    series_number: int
    sop_class: str
    modality: str
    text: tuple[str, str] = field(repr=False)
    image_type: tuple[str, ...]
    acquisition: str
    echo_time_ms: float | None
    has_contrast: bool
    interpretation: str
    scanner: str
    is_burned_in: bool
    is_mosaic: bool
    frames: tuple[Frame, ...]


def read_header(stream: BinaryIO, *, name: str, max_voxels: int = MAX_VOXELS) -> Header | None:
    """Read a file up to its pixels.

    Args:
        stream: the file; only its header is read.
        name: what messages call it.
        max_voxels: a deflated file may unpack to 2 bytes for each, and 256 KiB for its header.

    Returns:
        The header; None for a file that is not DICOM.

    Raises:
        ScanError: `unreadable`: DICOM, but damaged; `too_large`: deflated, and unpacks to more than it may.
        UsageError: pydicom is not installed.
    """
    pydicom, _ = require_pydicom(name)
    if stream.read(132)[128:] != b"DICM":
        return None
    stream.seek(0)
    try:
        # pydicom warns of odd values and quotes them, and a value may be a name.
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            # Elements that are not named are skipped unread, so no defer_size: it would put off functional groups too.
            read = read_elements(stream, _ELEMENTS, name=name, max_voxels=max_voxels, stop_before_pixels=True)
            found = _header(read)
    except (*PYDICOM_ERRORS, EOFError, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
        message = f"{name}: its DICOM header cannot be read ({type(error).__name__}); copy the file again"
        raise ScanError(Finding("unreadable", message)) from error
    # pydicom takes the end of a file for the end of its header, wherever that is.
    if not found.sop_class or (not found.frames and found.sop_class in _ENHANCED | _SLICES):
        raise ScanError(Finding("unreadable", f"{name}: its DICOM header ends early; copy the file again"))
    return found


def _header(header: Any) -> Header:
    group = [_text(header, key) for key in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")]
    dates = [_text(header, key)[:8] for key in ("StudyDate", "SeriesDate", "AcquisitionDate", "AcquisitionDateTime")]
    scanner = " ".join(part for key in ("Manufacturer", "ManufacturerModelName") if (part := _text(header, key)))
    is_media_index = str(header.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10"
    frames = () if is_media_index else _frames(header)
    echo_time = _number(header, "EchoTime")
    number = int(_number(header, "SeriesNumber") or 0)
    return Header(
        group=(group[0], group[1], group[2] or f"number {number}"),
        patient_id=group[0],
        dates=tuple(date for date in dates if date),
        time=_text(header, "StudyTime"),
        series_number=number,
        sop_class=_text(header, "SOPClassUID") or ("1.2.840.10008.1.3.10" if is_media_index else ""),
        modality=_text(header, "Modality"),
        text=(_text(header, "SeriesDescription"), _text(header, "ProtocolName")),
        image_type=_words(header, "ImageType"),
        acquisition=_text(header, "MRAcquisitionType"),
        echo_time_ms=echo_time if echo_time is not None or not frames else _echo_time(frames[0]),
        has_contrast=bool(_text(header, "ContrastBolusAgent")),
        interpretation=_text(header, "PhotometricInterpretation"),
        scanner=scanner,
        is_burned_in=_text(header, "BurnedInAnnotation").upper() == "YES",
        # XA30 calls enhanced objects of single slices MOSAIC too: those say where each of their frames lies.
        is_mosaic="MOSAIC" in _words(header, "ImageType") and _text(header, "SOPClassUID") not in _ENHANCED,
        frames=frames,
    )


def _echo_time(frame: Frame) -> float | None:
    found = frame.echo[0] if frame.echo else None
    return found if isinstance(found, float) else None


def _frames(header: Any) -> tuple[Frame, ...]:
    size = (int(_number(header, "Rows") or 0), int(_number(header, "Columns") or 0))
    if min(size) < 1:
        return ()
    plain = Frame(
        size=size,
        position_mm=_numbers(header, "ImagePositionPatient", 3),
        orientation=_numbers(header, "ImageOrientationPatient", 6),
        spacing_mm=_numbers(header, "PixelSpacing", 2),
        slope=_or(_number(header, "RescaleSlope"), 1.0),
        intercept=_or(_number(header, "RescaleIntercept"), 0.0),
        echo=(_number(header, "EchoTime"), _number(header, "EchoNumbers")),
        moment=tuple(
            _number(header, key) for key in ("TemporalPositionIdentifier", "AcquisitionNumber", "InversionTime")
        ),
        sort=_words(header, "ImageType"),
    )
    if _text(header, "SOPClassUID") not in _ENHANCED:
        count = int(_number(header, "NumberOfFrames") or 1)
        # Frames of a plain object have no place of their own: such a file is a clip, and refused as one without any.
        return (plain,) if count == 1 else (Frame(size=size),) * min(max(count, 1), _MAX_FRAMES)
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    acquisition = _number(header, "AcquisitionNumber")
    return tuple(_enhanced(plain, (item, shared[0]), acquisition) for item in each[:_MAX_FRAMES])


def _enhanced(plain: Frame, groups: Sequence[Any], acquisition: float | None) -> Frame:
    """A frame of an enhanced object: each of its groups stands with the frame or is shared by all (PS3.3, C.7.6.16)."""
    place, orientation = _group(groups, "PlanePositionSequence"), _group(groups, "PlaneOrientationSequence")
    measures, rescale = _group(groups, "PixelMeasuresSequence"), _group(groups, "PixelValueTransformationSequence")
    echo, content = _group(groups, "MREchoSequence"), _group(groups, "FrameContentSequence")
    sort = _group(groups, "MRImageFrameTypeSequence")
    return Frame(
        size=plain.size,
        position_mm=_numbers(place, "ImagePositionPatient", 3),
        orientation=_numbers(orientation, "ImageOrientationPatient", 6),
        spacing_mm=_numbers(measures, "PixelSpacing", 2),
        slope=_or(_number(rescale, "RescaleSlope"), plain.slope),
        intercept=_or(_number(rescale, "RescaleIntercept"), plain.intercept),
        echo=(_number(echo, "EffectiveEchoTime"), None),
        moment=(
            _number(content, "TemporalPositionIndex"),
            _number(content, "FrameAcquisitionNumber"),
            acquisition,
        ),
        sort=_words(sort, "FrameType") or plain.sort,
    )


def _group(groups: Sequence[Any], name: str) -> Any:
    for item in groups:
        if item is not None and (found := item.get(name)):
            return found[0]
    return {}


def _text(header: Any, key: str) -> str:
    found = header.get(key)
    return "" if found is None else " ".join(str(found).split())


def _words(header: Any, key: str) -> tuple[str, ...]:
    found = header.get(key) or ()
    return tuple(str(word).strip().upper() for word in ([found] if isinstance(found, str) else found))


def _number(header: Any, key: str) -> float | None:
    found = header.get(key)
    if found is None or str(found).strip() == "":
        return None
    return float(found[0] if isinstance(found, (list, tuple)) or hasattr(found, "append") else found)


def _numbers(header: Any, key: str, count: int) -> tuple[float, ...]:
    found = header.get(key)
    if found is None or isinstance(found, str) or not hasattr(found, "__len__") or len(found) != count:
        return ()
    return tuple(float(value) for value in found)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
