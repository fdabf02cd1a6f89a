"""What the cohorts listed by a table share: random streams, even draws, and a folder whose `scans.csv` is written last.

A cohort is planned purely (paths, tables, and a function for the bytes of each file), then written here. A folder that
holds `scans.csv` is complete; one without it is finished by the same call.
"""

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError
from preprocess.lease import COHORT, LEASE_NAME, held
from preprocess.storage import Location, refusals

TABLE = "scans.csv"
TRUTH = "truth.tsv"
SCAN_COLUMNS = ("path", "subject_id", "session_id", "run", "day", "modality", "scanner")
"""The columns of `scans.csv` before the outcomes, as `preprocess.sources.scan_table.list_table` reads them."""

EVEN_STEPS = (0.7548776662466927, 0.5698402909980532)
"""1/p and 1/p^2 with p^3 = p + 1: multiples of both modulo 1 fill the square evenly (Roberts 2018)."""

_MARKER = ".interscan-synth.json"
"""Written first: names the parameters, so that a later call can tell its own unfinished cohort from anything else."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file to write.

    Attributes:
        path: relative to the cohort's root.
        content: makes its bytes; the same at every call.
    """

    path: str
    content: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class TableCohort:
    """What a call left on disk; each cohort adds counts of its own.

    Attributes:
        root: the cohort.
        table: its `scans.csv`, to be given to `preprocess`.
        truth: its `truth.tsv`, for evaluation alone.
        num_subjects: people.
        num_scans: files of scans.
        num_written: files of scans written by this call.
    """

    root: Path
    table: Path
    truth: Path
    num_subjects: int
    num_scans: int
    num_written: int


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """A random stream of its own for each purpose and subject, so that more subjects never change earlier ones.

    Args:
        seed: of the cohort, from 0.
        key: words and whole numbers from 0 that name the purpose, the subject and what else tells draws apart.
    """
    return np.random.default_rng([seed, *(zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key)])


def even_share(seed: int, purpose: str, number: int, axis: int = 0) -> float:
    """A uniform number in [0, 1) per subject, spread evenly over the subjects of any cohort size.

    Args:
        seed: of the cohort.
        purpose: picks the starting point.
        number: of the subject, from 0.
        axis: 0 or 1; two purposes with different axes are even together too.

    Returns:
        (start + number * step) modulo 1: shares of a cohort come within a few subjects of their target.
    """
    return float((stream(seed, purpose).random() + number * EVEN_STEPS[axis]) % 1)


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Refuse a number outside its range.

    Raises:
        UsageError: with the name, the value and the limits.
    """
    if not value >= low:
        raise UsageError(f"{name} is {value}, below {low}; give {low} or more")
    if high is not None and value > high:
        raise UsageError(f"{name} is {value}, above {high}; give {high} or less")


def table_text(columns: Sequence[str], rows: Sequence[Sequence[object]], *, delimiter: str) -> str:
    """A table with a heading line; cells by `str`, lines end with LF alone."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def cohort_tables(
    outcome: str, scans: Sequence[Sequence[object]], truth_columns: Sequence[str], truth: Sequence[Sequence[object]]
) -> tuple[str, str]:
    """Text of `scans.csv` and of `truth.tsv`.

    Args:
        outcome: name of the column behind `SCAN_COLUMNS`.
        scans: a row a scan.
        truth_columns: of the other table.
        truth: its rows.
    """
    listed = table_text((*SCAN_COLUMNS, outcome), scans, delimiter=",")
    return listed, table_text(truth_columns, truth, delimiter="\t")


def npy_bytes(values: npt.NDArray[np.generic]) -> bytes:
    """An array as a `.npy` file."""
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def write_cohort(
    out: Path,
    *,
    parameters: Mapping[str, object],
    files: Sequence[PlannedFile],
    scans: str,
    truth: str,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a cohort, or finish one that an earlier call with the same parameters left unfinished.

    Args:
        out: folder; new, empty, or a cohort of the same parameters.
        parameters: what the bytes depend on, JSON values.
        files: the scans.
        scans: text of `scans.csv`, written last.
        truth: text of `truth.tsv`.
        progress: called with (files done, files in all) after each file that was looked at.

    Returns:
        How many scans this call wrote; 0 when all were there.

    Raises:
        UsageError: `out` holds something else.
    """
    num_written = 0
    with claimed(out, parameters):
        for done, file in enumerate(files, start=1):
            if not (out / file.path).exists():
                put(out / file.path, file.content())
                num_written += 1
            if progress is not None:
                progress(done, len(files))
        for name, text in ((TRUTH, truth), (TABLE, scans)):
            if not (out / name).exists():
                put(out / name, text.encode())
    return num_written


@contextmanager
def claimed(out: Path, parameters: Mapping[str, object]) -> Iterator[None]:
    """Make `out` ours while the block runs, or refuse it.

    Args:
        out: folder; new, empty, or claimed before by the same parameters.
        parameters: what the bytes depend on, JSON values; None for one that is not named.

    Raises:
        UsageError: `out` holds something else.
        StorageError: another process writes this cohort.
    """
    # Looked at before it is held, so that nothing is put beside what somebody else keeps there, and while it is: two
    # calls may find one empty folder.
    _refuse_others(out, parameters)
    with held(Location(out), COHORT):
        _refuse_others(out, parameters)
        marker = out / _MARKER
        if not marker.exists():
            named = {name: value for name, value in parameters.items() if value is not None}
            put(marker, (json.dumps(named, indent=2) + "\n").encode())
        yield


def _refuse_others(out: Path, parameters: Mapping[str, object]) -> None:
    """Refuse a folder that holds anything but a cohort of these parameters."""
    marker = out / _MARKER
    if marker.exists():
        found = json.loads(marker.read_text())
        for name, value in parameters.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{out} holds a cohort of {name} {found.get(name)}, not {value}; "
                    "choose another folder or the same arguments"
                )
        return
    if out.exists() and (not out.is_dir() or any(not _is_ours(path.name) for path in out.iterdir())):
        raise UsageError(f"{out} is not empty and holds no cohort of this program; choose a new or empty folder")


def _is_ours(name: str) -> bool:
    """Whether a file is of the lease, or a marker that is not whole yet."""
    return name in (LEASE_NAME, f".{_MARKER}.partial") or name.startswith(("writer-claim-", f".{LEASE_NAME}."))


def put(path: Path, content: bytes) -> None:
    """Write a file so that it exists whole or not at all.

    Raises:
        StorageError: the disk is full or refuses.
    """
    partial = path.with_name(f".{path.name}.partial")
    with refusals(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)  # on a full disk it would be in the way of whatever comes next
            raise
