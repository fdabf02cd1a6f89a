"""Starts commands from a process that has loaded their libraries, but nothing of the program: 5 seconds less for each.

Most of a tiny command is the loading of torch and monai. A process that has done so forks for each command, and the
child runs `interscan` as `python -m` would, importing every module of the program from the checkout. What this cannot
show is a module that forgot to import a library which another used to load; so some steps of each verb start Python
anew (`Step.is_cold`).

torch begins every process at random numbers of its own. Objectives and encoders that draw from them (SupReMix's
mixtures, the frames of temporal-shift encoders) give another model in every run, whatever the recipe's seed; here each
child begins at the same ones, or no two runs could be compared.
"""

import importlib
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

# Not gcsfs: the program settles its options before it imports it.
LIBRARIES = (
    *("torch", "torch.export", "torch.utils.tensorboard", "monai.data", "monai.transforms", "monai.networks.nets"),
    *("scipy.ndimage", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "sklearn.decomposition"),
    *("matplotlib.figure", "zarr", "pyarrow.parquet", "nibabel", "pydantic", "jinja2", "umap"),
)


class Program(Protocol):
    """A command that was started: what `subprocess.Popen` offers, as far as it is needed."""

    returncode: int

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""

    def send_signal(self, number: int) -> None:
        """Signal it to stop."""

    def kill(self) -> None:
        """End it at once."""


class Forked:
    """A command in a child of the loaded process.

    Attributes:
        used_s: processor time, when it has ended.
    """

    returncode: int

    def __init__(self, pid: int, reports: IO[bytes]) -> None:
        self._pid, self._reports = pid, reports
        self._ended = False
        self.used_s = 0.0

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("interscan", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it to stop; nothing where it has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if not self._ended:
            if not select.select([self._reports], [], [], timeout)[0]:
                return None
            report = json.loads(self._reports.readline())
            self.returncode, self.used_s, self._ended = report["code"], report["used_s"], True
        return self.returncode


class Starter:
    """The loaded process; a context that ends with it.

    Args:
        work: folder in which the commands run.
        environment: of the commands.
        libraries: modules that it loads.

    Attributes:
        work: as given.
    """

    def __init__(self, work: Path, environment: Mapping[str, str], libraries: Sequence[str] = LIBRARIES) -> None:
        self.work = work
        self._process = subprocess.Popen(
            [sys.executable, __file__, *libraries], cwd=work, env=dict(environment),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            bufsize=0,  # a report that lay in a buffer would not be seen by `select`
        )  # fmt: skip

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *_: object) -> None:
        # Its loop ends with its input.
        self._process.communicate()

    def start(self, arguments: Sequence[str], out: Path, err: Path) -> Forked:
        """Begin a command; one at a time.

        Args:
            arguments: of `interscan`.
            out: file for stdout.
            err: file for stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), str(out), str(err)]).encode() + b"\n")
        return Forked(int(self._process.stdout.readline()), self._process.stdout)


def _become(arguments: Sequence[str], out: str, err: str) -> NoReturn:
    """Be `python -m interscan` from here on."""
    streams = ((os.devnull, os.O_RDONLY), (out, os.O_WRONLY | os.O_CREAT), (err, os.O_WRONLY | os.O_CREAT))
    for number, (name, flags) in enumerate(streams):
        opened = os.open(name, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = ["interscan", *arguments]
    random.seed()  # waiting times and the like; all children would draw alike
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    code: Any = 1
    try:
        runpy.run_module("interscan", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = 0 if error.code is None else error.code
    finally:
        if sys.exc_info()[1] is not None:  # as Python itself would, before it ends
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def main(libraries: Sequence[str]) -> None:
    """Load the libraries, then fork for each line of input: arguments, file for stdout, file for stderr."""
    # This file's folder, which Python put first, is none of the program's.
    del sys.path[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in libraries:
            importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(*json.loads(line))
        print(pid, flush=True)
        _, status, usage = os.wait4(pid, 0)
        report = {"code": os.waitstatus_to_exitcode(status), "used_s": usage.ru_utime + usage.ru_stime}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
