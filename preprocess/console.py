"""What every verb shares on the terminal: results on stdout, log on stderr, one line per error, exit codes.

0 done; 1 done but some scans left out; 2 wrong command line or recipe; 3 data, store or artefact breaks its contract,
or a disk or bucket refuses; 70 a defect of interscan, with its traceback; 130 interrupted.

A reader of stdout that has left, as `| head` does, is no error: the work is done, and its exit code stands. A stdout
that cannot be written, as on a full disk, is one: somebody waits for the result.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from cyclopts import Parameter

from preprocess.errors import StorageError
from preprocess.system_errors import describe

JsonFlag = Annotated[bool, Parameter(name="--json", negative="")]
"""The option that every verb has: the result as one JSON object on stdout."""
Assignments = Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)]
"""Single recipe values on the command line, `--set key=value`, repeatable."""

LOG = logging.getLogger("interscan")

EXIT_DONE = 0
EXIT_LEFT_OUT = 1
EXIT_REFUSED = 3
EXIT_DEFECT = 70
"""As sysexits.h has it; 1, which Python would give, means that scans were left out."""
EXIT_INTERRUPTED = 130


def configure_logging(level: int = logging.INFO) -> None:
    """Send the `interscan` log to stderr, one plain line an event."""
    handler = _LogHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False
    # gcsfs logs a traceback for an error that it raises as well, and that is reported as one line here.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
    logging.getLogger("gcsfs").propagate = False


def emit(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a verb's result on stdout: one JSON object, or text for a person.

    Raises:
        StorageError: stdout cannot be written; whoever reads it may have left.
    """
    try:
        sys.stdout.write((json.dumps(result, default=str) if as_json else text.rstrip()) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
    except OSError as error:
        raise StorageError(
            f"stdout: {describe(error)}; the work itself is done, only its result could not be printed"
        ) from error


def complain(message: str) -> None:
    """Print an error as one line on stderr, if anybody can read it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"interscan: {' '.join(message.split())}\n")
        sys.stderr.flush()


def _forget_output() -> None:
    """Send what Python still holds for stdout nowhere, or it would fail again when the program ends."""
    with suppress(OSError, ValueError):  # a stream of a test or a notebook has no number
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class _LogHandler(logging.StreamHandler[Any]):
    """A log that nobody can read any more does not end the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Be silent about a stream that is closed, full or left; report everything else."""
        if not (isinstance(sys.exc_info()[1], OSError) or self.stream.closed):
            super().handleError(record)


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
