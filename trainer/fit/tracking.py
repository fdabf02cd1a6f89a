"""Where metrics of a run go: one JSON line an epoch at any URL, and TensorBoard events.

Object stores cannot append, so the JSON-lines file is written whole from the history, which the checkpoint carries: a
resumed run continues it without gap or repeat.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from preprocess.errors import RunError
from preprocess.storage import Location

LOG_NAME = "log.jsonl"
History = list[dict[str, float]]


def read_history(run: Location) -> History:
    """The published history of a run; empty where there is none.

    Raises:
        RunError: a line is damaged.
    """
    try:
        lines = run.read(LOG_NAME).splitlines()
    except FileNotFoundError:
        return []
    history = []
    for number, line in enumerate(lines, start=1):
        try:
            history.append({name: float(value) for name, value in json.loads(line).items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise RunError(
                f"{run.uri}/{LOG_NAME}: line {number} of {len(lines)} is no JSON object of numbers, it is damaged; "
                f"delete {LOG_NAME}, and the curves of training are left out"
            ) from error
    return history


def publish_history(run: Location, history: Sequence[Mapping[str, float]]) -> None:
    """Write the history of a run whole."""
    lines = "".join(json.dumps(entry) + "\n" for entry in history)
    run.write(LOG_NAME, lines.encode())


class Tracking:
    """Writes the history of a run.

    Args:
        run: the run's folder.
        first_epoch: where this process starts; events of later epochs, left by a lost one, are hidden.
    """

    def __init__(self, run: Location, *, first_epoch: int) -> None:
        self._run = run
        self._folder = Path(tempfile.mkdtemp(prefix="interscan-events-"))
        self._uploaded_bytes: dict[str, int] = {}
        self._writer = SummaryWriter(str(self._folder), purge_step=first_epoch)

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            self._upload()
        finally:
            shutil.rmtree(self._folder)

    def record(self, history: Sequence[Mapping[str, float]]) -> None:
        """Publish the history, whose last entry is new."""
        publish_history(self._run, history)
        newest = history[-1]
        for name, value in newest.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(newest["epoch"]))
        self._writer.flush()
        self._upload()

    def _upload(self) -> None:
        # Event files only grow: one of the same size has nothing new, and a stopped run has no time to send it again.
        for path in sorted(self._folder.iterdir()):
            data = path.read_bytes()
            if len(data) != self._uploaded_bytes.get(path.name):
                self._run.write(f"tensorboard/{path.name}", data)
                self._uploaded_bytes[path.name] = len(data)
