"""Bytes of an MP4, QuickTime, MPEG or AVI file in, chosen pictures out, through PyAV (the extra `video`).

A recording is decoded twice: once to count its frames, since many containers do not say how many they hold and some
say it wrongly, and once to keep the chosen ones, so that memory does not grow with its length.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from preprocess.errors import ScanError, UsageError
from preprocess.frames import pick_frames
from preprocess.types import Finding

_MAX_FRAME_PIXELS = 2**25
"""Four times 4K; a header that asks for more is a bad or hostile file."""
_MAX_PIXELS = 2**34
"""Half an hour of 640 x 480 at 30 frames a second."""
_MIN_DECODED = 0.9
"""Share of the frames a container promises that must be there; a trimmed recording may name some that it hides."""


def read_video(data: bytes, *, num_frames: int, name: str) -> tuple[list[np.ndarray], float]:
    """Decode a recording and keep frames at equal steps.

    Args:
        data: the whole file.
        num_frames: frames to keep.
        name: what messages call the scan.

    Returns:
        The frames, each (H, W, 3) uint8 RGB, turned as the recording says, and the width of a pixel over its height.

    Raises:
        ScanError: `unreadable`, `damaged`, `too_few_frames` or `too_large`.
        UsageError: PyAV is not installed.
    """
    av = _pyav(name)
    pictures: dict[int, np.ndarray] = {}
    aspect = 1.0
    try:
        num_found = sum(1 for _ in _decode(av, data, name))
        indices = pick_frames(num_found, num_frames, name=name)
        for index, (frame, pixel_aspect) in enumerate(_decode(av, data, name)):
            if index in indices:
                quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise, as np.rot90 has it
                pictures[index] = np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns)
                aspect = 1 / pixel_aspect if quarter_turns % 2 else pixel_aspect
    except av.FFmpegError as error:
        reason = " ".join(str(error.strerror).split())
        raise _refusal("unreadable", f"{name}: no video can be decoded ({reason}); copy the file again") from error
    return [pictures[index] for index in indices], aspect


def _decode(av: Any, data: bytes, name: str) -> Iterator[tuple[Any, float]]:
    """All frames of the first video stream in the order they are shown, each with its pixels' width over height."""
    num_pixels = num_frames = 0
    # What the file says of itself beside its frames is not looked at, whatever its letters are coded in.
    with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
        if not container.streams.video:
            raise _refusal("unreadable", f"{name}: holds no moving picture; export the clip again")
        stream = container.streams.video[0]
        pixel_aspect = float(stream.sample_aspect_ratio or 1)  # None or 0: unknown, so square
        num_promised = int(stream.frames or 0)  # 0 where the container does not say
        for frame in container.decode(stream):
            num_frames += 1
            num_pixels += frame.width * frame.height
            if frame.width * frame.height > _MAX_FRAME_PIXELS or num_pixels > _MAX_PIXELS:
                message = f"frame {num_frames} of {frame.width} x {frame.height} is beyond {_MAX_FRAME_PIXELS} pixels"
                raise _refusal("too_large", f"{name}: {message}, or {_MAX_PIXELS} in all; shorten or shrink it")
            if frame.is_corrupt:
                message = f"{name}: frame {num_frames} is damaged, or the file ends in it; copy the file again"
                raise _refusal("damaged", message)
            yield frame, pixel_aspect
    if num_frames < _MIN_DECODED * num_promised:
        message = f"{name}: {num_frames} of {num_promised} promised frames are there; copy the file again"
        raise _refusal("damaged", message)


def _pyav(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        message = f"{name}: videos are read by PyAV, which is not installed; pip install 'interscan[video]'"
        raise UsageError(message) from error
    return av


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
