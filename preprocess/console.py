"""What every verb shares on the terminal: results on stdout, log on stderr, one line per error, exit codes.

0 done; 1 done but some scans left out; 2 wrong command line or recipe; 3 data, store or artefact breaks its contract;
130 interrupted after a clean checkpoint.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from cyclopts import Parameter

JsonFlag = Annotated[bool, Parameter(name="--json", negative="")]
"""The option that every verb has: the result as one JSON object on stdout."""
Assignments = Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)]
"""Single recipe values on the command line, `--set key=value`, repeatable."""

LOG = logging.getLogger("interscan")

EXIT_DONE = 0
EXIT_LEFT_OUT = 1
EXIT_INTERRUPTED = 130


class Advance(Protocol):
    """Reports progress: how much is done, and how much there is."""

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""


def configure_logging(level: int = logging.INFO) -> None:
    """Send the `interscan` log to stderr, one plain line an event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False
    # gcsfs logs a traceback for an error that it raises as well, and that is reported as one line here.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
    logging.getLogger("gcsfs").propagate = False


def emit(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a verb's result on stdout: one JSON object, or text for a person."""
    sys.stdout.write((json.dumps(result, default=str) if as_json else text.rstrip()) + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Print an error as one line on stderr."""
    sys.stderr.write(f"interscan: {' '.join(message.split())}\n")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; on a pipe, a line at every tenth.

    Args:
        title: what is being done.

    Yields:
        A function to call with (done, total).
    """
    if not sys.stderr.isatty():
        yield _Tenths(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Tenths:
    """Progress for a log file: prints when another tenth is done."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last_tenth = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > self.last_tenth:
            self.last_tenth = tenth
            LOG.info("%s: %d of %d", self.title, done, total)
