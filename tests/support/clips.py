"""Small recordings, pictures and tables as bytes, made by PyAV, pydicom, Pillow and numpy."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import pydicom
from PIL import Image as Pillow
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from preprocess.file_types import without_ending


def npy(values: object) -> bytes:
    """As numpy.save writes it."""
    sink = io.BytesIO()
    np.save(sink, np.asarray(values), allow_pickle=True)
    return sink.getvalue()


def moving_block(num_frames: int = 40, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """uint8 (T, H, W): a bright block of 16 x 16 on dark ground that wanders from left to right with time."""
    frames = np.full((num_frames, *size), 20, dtype=np.uint8)
    for index, left in enumerate(np.linspace(0, size[1] - 16, num_frames).astype(int)):
        frames[index, 20:36, left : left + 16] = 220
    return frames


def video(
    frames: np.ndarray,
    container: str = "mp4",
    codec: str = "mpeg4",
    *,
    pixel_aspect: int = 1,
    rotation: int = 0,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Frames (T, H, W) or (T, H, W, 3) uint8 as a video of 25 frames a second."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container, options=dict(options or {})) as out:
        stream = out.add_stream(codec, rate=25, options={"qmin": "1", "qmax": "3"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        if pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for pixels in frames:
            coloured = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(coloured), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return sink.getvalue()


def dicom(pixels: np.ndarray, *, interpretation: str = "", name: str = "Doe^Jane", **elements: object) -> bytes:
    """Pixels (H, W), (T, H, W) or either with 3 colours as an uncompressed DICOM file with a patient's name."""
    num_colours = 3 if pixels.shape[-1] == 3 else 1
    shape = pixels.shape[:-1] if num_colours == 3 else pixels.shape
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    header = pydicom.Dataset()
    header.file_meta = meta
    header.PatientName = name
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.Rows, header.Columns = shape[-2:]
    if len(shape) == 3:
        header.NumberOfFrames = shape[0]
    header.SamplesPerPixel = num_colours
    header.PhotometricInterpretation = interpretation or ("RGB" if num_colours == 3 else "MONOCHROME2")
    if num_colours == 3:
        header.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, header, enforce_file_format=True)
    return sink.getvalue()


def picture(pixels: np.ndarray, file_format: str = "PNG", *, mode: str | None = None, **options: object) -> bytes:
    """A picture as Pillow writes it, in its own mode or converted to another."""
    sink = io.BytesIO()
    image = Pillow.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(sink, file_format, **options)
    return sink.getvalue()


def write_table(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    modalities: Sequence[str] | str,
    name: str = "scans.csv",
) -> Path:
    """Files and a table that names them in order; `anna-1.npy` in any folder is anna's session 1."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [modalities] * len(files) if isinstance(modalities, str) else modalities
    lines = ["path,subject_id,session_id,modality"]
    for (path, data), modality in zip(files.items(), named, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        subject, _, session = without_ending(path).partition("-")
        lines.append(f"{path},{subject},{session},{modality}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name
