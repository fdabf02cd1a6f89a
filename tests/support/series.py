"""Made-up DICOM series as pydicom writes them: a head in single slices or in one enhanced object, and every fault."""

import io
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from tests.support.images import head

NAME = "Canary^Jane"
"""The patient's name in every file; it must not be found anywhere else."""
ROOT_UID = "1.2.826.0.1.3680043.8.498."
FIRST_DAY = date(2011, 3, 17)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
CANARIES = (NAME, "Canary", ROOT_UID, "20110317", "2011-03-17", "19500101")


def uid(*parts: object) -> str:
    """A UID of numbers and words."""
    return ROOT_UID + ".".join(str(sum(ord(c) * 31**i for i, c in enumerate(str(part))) % 10**9) for part in parts)


def slices(
    voxels_ZYX: np.ndarray | None = None,
    *,
    patient: str = "P001",
    visit: int = 1,
    number: int = 5,
    days: int = 0,
    orientation: Sequence[float] = AXIAL,
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
    description: str = "T1w MPRAGE",
    **elements: Any,
) -> list[Dataset]:
    """One data set a slice.

    Args:
        voxels_ZYX: slices, rows, columns; a head where not given.
        patient: PatientID.
        visit: makes the study's UID.
        number: SeriesNumber; makes the series' UID.
        days: after the first day of all.
        orientation: of the planes, LPS+.
        spacing_mm: between slices, rows and columns.
        description: SeriesDescription.
        elements: further ones of each slice.
    """
    voxels = head().transpose(2, 1, 0) if voxels_ZYX is None else voxels_ZYX
    made = []
    normal = np.cross(orientation[:3], orientation[3:])
    middle = (np.array(voxels.shape) - 1) / 2 * spacing_mm
    corner = -middle[2] * np.array(orientation[:3]) - middle[1] * np.array(orientation[3:]) - middle[0] * normal
    for index, plane in enumerate(voxels):
        one = header(patient=patient, visit=visit, number=number, days=days, description=description)
        one.SOPClassUID = MRImageStorage
        one.SOPInstanceUID = uid(patient, visit, number, index)
        one.InstanceNumber = len(voxels) - index  # against the positions, as some exporters count
        one.ImagePositionPatient = [round(float(v), 6) for v in corner + index * spacing_mm[0] * normal]
        one.ImageOrientationPatient = list(orientation)
        one.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        one.SliceThickness = 1.0  # wrong on purpose
        put_pixels(one, plane)
        for key, value in elements.items():
            setattr(one, key, value)
        made.append(one)
    return made


def fine_slices(**elements: Any) -> list[Dataset]:
    """As `slices`, of a head that the rules take: 96 slices of 2 mm, 48 x 48 pixels of 4 mm."""
    voxels = head(edge=96, spacing_mm=2.0)[::2, ::2].transpose(2, 1, 0)
    return slices(voxels, spacing_mm=(2.0, 4.0, 4.0), **elements)


def header(*, patient: str, visit: int, number: int, days: int, description: str) -> Dataset:
    """What all objects of a series share."""
    when = (FIRST_DAY + timedelta(days=days)).strftime("%Y%m%d")
    one = Dataset()
    one.PatientName, one.PatientID, one.PatientBirthDate = NAME, patient, "19500101"
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = when
    one.StudyTime, one.Modality = "101500", "MR"
    one.StudyInstanceUID, one.SeriesInstanceUID = uid(patient, visit), uid(patient, visit, number)
    one.SeriesNumber, one.SeriesDescription, one.ProtocolName = number, description, description
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    one.Manufacturer, one.ManufacturerModelName, one.EchoTime = "Made", "Up", 2.9
    return one


def put_pixels(one: Dataset, pixels: np.ndarray, *, bits: int = 16) -> None:
    """Pixels (rows, columns) or (frames, rows, columns) of int16 or uint16."""
    one.Rows, one.Columns = pixels.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, bits, bits - 1
    one.PixelRepresentation = int(pixels.dtype.kind == "i")
    one.PixelData = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()


def enhanced(voxels_ZYX: np.ndarray | None = None, *, step_mm: float = 4.0, **elements: Any) -> Dataset:
    """One enhanced object whose frames lie in the file in another order than in space."""
    voxels = head().transpose(2, 1, 0) if voxels_ZYX is None else voxels_ZYX
    one = header(patient="P001", visit=1, number=7, days=0, description="T1w MPRAGE")
    one.SOPClassUID, one.SOPInstanceUID = EnhancedMRImageStorage, uid("enhanced")
    order = [*range(0, len(voxels), 2), *range(1, len(voxels), 2)]
    put_pixels(one, voxels[order])
    one.NumberOfFrames = len(voxels)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = list(AXIAL), [step_mm, step_mm]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    one.SharedFunctionalGroupsSequence = [shared]
    corner = -(np.array(voxels.shape) - 1) / 2 * step_mm
    frames = []
    for index in order:
        frame, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [float(corner[2]), float(corner[1]), float(corner[0] + index * step_mm)]
        rescale.RescaleSlope, rescale.RescaleIntercept = 2.0, -10.0
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [rescale]
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = frames
    for key, value in elements.items():
        setattr(one, key, value)
    return one


def file_of(one: Dataset) -> bytes:
    """The data set as a file."""
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, one, enforce_file_format=True)
    return sink.getvalue()


def files_of(sets: Sequence[Dataset]) -> list[bytes]:
    """Each data set as a file."""
    return [file_of(one) for one in sets]


def write_series(folder: Path, sets: Sequence[Dataset], *, name: str = "IM_{:04d}") -> None:
    """A file a data set, called as scanners do."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, one in enumerate(sets):
        (folder / name.format(index)).write_bytes(file_of(one))
