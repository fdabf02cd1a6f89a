"""The folder that a cohort is written to: claimed, filled file by file, and finished by its table.

A cohort is planned purely (paths, tables, and a function for the bytes of each file), then written here. A folder that
holds `scans.csv` is complete; one without it is finished by the same call.
"""

import csv
import io
import json
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
        truth_columns: the columns of `truth.tsv`.
        truth: the rows of `truth.tsv`.
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
