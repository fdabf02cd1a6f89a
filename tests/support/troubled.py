"""A folder that is as slow, refuses as often and hangs as long as a test says."""

import threading
import time
from pathlib import Path

from preprocess.errors import StorageError
from preprocess.storage import Location


class TroubledLocation(Location):
    """A local folder with the manners of a bad bucket, and a list of what was asked of it.

    Attributes:
        delay_s: of each request.
        refusals: how many more requests are refused, for names that hold the text.
        hanging: requests for names that hold the text wait for `go_on`.
        requested: (what, name) of every request that changes something, in order.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.delay_s = 0.0
        self.refusals: dict[str, int] = {}
        self.hanging = ""
        self.go_on = threading.Event()
        self.requested: list[tuple[str, str]] = []
        self.reached = threading.Event()

    def _suffer(self, what: str, name: str) -> None:
        self.requested.append((what, name))
        time.sleep(self.delay_s)
        if self.hanging and self.hanging in name:
            self.hanging = ""
            self.reached.set()
            self.go_on.wait(60)
        for text, left in self.refusals.items():
            if text in name and left > 0:
                self.refusals[text] -= 1
                raise StorageError(f"{self.uri}/{name}: connection lost")

    def read(self, name: str = "") -> bytes:
        time.sleep(self.delay_s)
        return super().read(name)

    def write(self, name: str, data: bytes) -> None:
        self._suffer("write", name)
        super().write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        self._suffer("create", name)
        return super().create(name, data)

    def delete(self, name: str) -> None:
        self._suffer("delete", name)
        super().delete(name)
