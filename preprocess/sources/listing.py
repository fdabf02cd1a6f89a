"""What a source yields, and the small reads that all sources share."""

from dataclasses import dataclass, field

from preprocess.storage import Location, refusals
from preprocess.types import Scan


@dataclass(slots=True)
class Listing:
    """What a source holds.

    Attributes:
        root: folder that relative scan names lie under.
        scans: each scan with its name relative to the root and its size in bytes (0 where it is missing).
        other_modalities: kinds of scan that are there but were not asked for.
        notes: one line for each table cell or file that could not be used, with value and remedy.
        cohort: the data set's own name, empty where it gives none.
        cohort_given: whether the user named the cohort, and so answers for its subjects being those of that name.
        names: every file of the source (of a table: every path it names), whether listed as a scan or not.
    """

    root: Location
    scans: list[tuple[Scan, str, int]] = field(default_factory=list)
    other_modalities: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    cohort: str = ""
    cohort_given: bool = False
    names: frozenset[str] = frozenset()


def file_sizes(source: Location) -> dict[str, int]:
    """Every file below a folder with its size in bytes, sorted by name; hidden files and derivatives left out."""
    with refusals(source.uri):
        source.fs.invalidate_cache()  # a bucket listed before may have grown since
        try:
            found = source.fs.find(source.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
    start = len(source.path.rstrip("/")) + 1
    sizes = {path[start:]: int(info.get("size") or 0) for path, info in found.items()}
    return {
        name: sizes[name]
        for name in sorted(sizes)
        if name and not any(part.startswith(".") for part in name.split("/")) and not name.startswith("derivatives/")
    }


def read_text(source: Location, name: str) -> str | None:
    """A small text file below the source, or None where it is missing or unreadable as UTF-8."""
    try:
        return source.read(name).decode("utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
