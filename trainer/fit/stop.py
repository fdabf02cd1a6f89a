"""SIGTERM and SIGINT as a request to stop after the current step; a second one interrupts at once, if it may."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    """Whether a stop was requested."""

    requested: bool = False


@contextmanager
def listening(*, interruptible: bool = True) -> Iterator[StopRequest]:
    """Catch the signals while the block runs, and put the earlier handlers back afterwards.

    Args:
        interruptible: whether a second signal interrupts at once. Under torchrun it must not: Ctrl-C reaches each
            process from the terminal and once more from torchrun, which kills what has not ended after 30 s.
    """
    request = StopRequest()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if request.requested and interruptible:
            raise KeyboardInterrupt
        request.requested = True

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
