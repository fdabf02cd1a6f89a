"""What a source yields, and what all sources share: the account of its files, and reads of small text files."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from preprocess.errors import StorageError
from preprocess.file_types import READ_BY, has_ending, impostor, kind_advice, unread_reason
from preprocess.sources.files import Files
from preprocess.sources.names import suffix_of
from preprocess.sources.reconciliation import CODES, Reconciliation
from preprocess.storage import Location
from preprocess.types import Kind, Scan

ASIDE = {
    "derivatives": ("derivatives", "made from scans, and no scan itself; a table that names it can take it"),
    "sourcedata": ("sourcedata", "as it came from the scanner; give sourcedata/... itself to list it"),
    "code": ("code_folder", "lies in code, which holds no scans"),
}
"""Folders at the top of a data set whose images are not its scans (BIDS, common principles)."""


@dataclass(slots=True)
class Listing:
    """What a source holds.

    Attributes:
        root: folder that relative scan names lie under.
        scans: each scan with its name relative to the root and its size in bytes (0 where it is missing).
        other_modalities: kinds of scan that are there but were not requested.
        account: what became of everything else there.
        cohort: the data set's own name, empty where it gives none.
        cohort_given: whether the user named the cohort, and so answers for its subjects being those of that name.
        in_tables: everybody whom a study's tables name; empty for other sources.
        people: what became of each person of a study, by id; empty for other sources.
        names: every file of the source (of a table: every path it names), whether listed as a scan or not.
        by_person: whether entries of the account are named by person, session and series, and not by file.
        key_check: check value of the key by which names are pseudonyms; empty where they are the true ones.
    """

    root: Location
    scans: list[tuple[Scan, str, int]] = field(default_factory=list)
    other_modalities: set[str] = field(default_factory=set)
    account: Reconciliation = field(default_factory=Reconciliation)
    cohort: str = ""
    cohort_given: bool = False
    in_tables: frozenset[str] = frozenset()
    people: dict[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    by_person: bool = False
    key_check: str = ""

    @property
    def notes(self) -> list[str]:
        """One line for each table, row or cell that could not be used as it stands, with value and remedy."""
        parts = ("cells", "rows_not_used", "remarks")
        return [
            one.message
            for one in self.account.remarks
            if (CODES[one.code][0] in parts and one.code != "row_modality") or one.code == "table_unreadable"
        ]

    def uri_of(self, name: str) -> str:
        """Where a file below the root lies."""
        return self.root.key(name) if self.root.is_local else f"{self.root.uri}/{name}"


def looks_like_scan(name: str, kinds: Collection[Kind]) -> bool:
    """Whether a file's name is that of a scan of these kinds, or of one in a format that nothing here reads."""
    return any(has_ending(name, kind) for kind in {"volume", *kinds}) or unread_reason(name) is not None


def set_aside(listing: Listing, name: str, kinds: Collection[Kind]) -> bool:
    """Account for a file that no way of listing takes: hidden, or in a folder that holds no scans; false for others."""
    parts = name.split("/")
    is_scan = looks_like_scan(name, kinds)
    if any(part.startswith(".") for part in parts):
        # Version control keeps scans under names of its own; those are copies of what lies beside it.
        if is_scan and not {".git", ".datalad"} & set(parts):
            listing.account.pass_over("hidden", name, "a hidden file; rename it if it is a scan")
        else:
            listing.account.others.append(name)
        return True
    # BIDS has these folders at the top; what was made from a scan lies beside it in some data sets.
    made = next(
        (part.lower() for part in parts[:-1] if part.lower() in ("derivatives", "sourcedata")), parts[0].lower()
    )
    if len(parts) > 1 and (aside := ASIDE.get(made)):
        if is_scan:
            listing.account.pass_over(aside[0], name, aside[1])
        else:
            listing.account.others.append(name)
        return True
    named_as_scan = next((part for part in parts[:-1] if has_ending(part, "volume")), "")
    if named_as_scan and is_scan:
        why = f"lies in a folder that is named like a scan ({named_as_scan}); rename the folder"
        listing.account.pass_over("folder_named_as_scan", name, why)
        return True
    return False


def add_unlisted(listing: Listing, files: Files, modalities: Collection[str], kinds: Mapping[str, Kind]) -> None:
    """Account for links to nothing, folders that cannot be read, and the like.

    Where a name says that a scan of the requested modalities is lost, it counts as left out.
    """
    for one in files.unlisted:
        suffix = suffix_of(one.name)
        top = one.name.split("/")[0].lower()
        is_requested = suffix in modalities and has_ending(one.name, kinds.get(suffix, "volume"), is_named=True)
        is_lost = is_requested and top not in ASIDE and one.code != "link_repeated"
        listing.account.pass_over(one.code, one.name, one.why, leaves_out=is_lost or one.code == "folder_unreadable")


def pass_over_unread(listing: Listing, name: str, kind: Kind, modality: str, *, leaves_out: bool = False) -> bool:
    """Account for a file of a format or kind that this listing does not read; false for one that looks like no scan.

    Args:
        listing: whose account it is.
        name: the file.
        kind: what was looked for.
        modality: likewise.
        leaves_out: whether a requested scan is lost with it.
    """
    reason = unread_reason(name)
    if reason is not None:
        listing.account.pass_over("unread_format", name, reason, leaves_out=leaves_out)
        listing.other_modalities.add(f"{reason.split(',')[0]}")
        return True
    others = [other for other in READ_BY if other != kind and has_ending(name, other)]
    if not others or name.lower().endswith(".csv"):
        return False
    why = f"could be a scan of another kind; {kind_advice(others, kind, modality)}"
    listing.account.pass_over("other_kind", name, why)
    return True


def leave_out_twins(listing: Listing) -> None:
    """Two files for one row: nothing says which one is meant, so neither is taken, and each is named."""
    claims: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for scan, name, _ in listing.scans:
        claims[*scan.visit, scan.modality].append(name)
    twins = {identity: names for identity, names in claims.items() if len(names) > 1}
    if not twins:
        return
    for scan, name, _ in listing.scans:
        names = twins.get((*scan.visit, scan.modality), [])
        if name in names:
            shown = f"{names[0]} and {names[1]}"
            more = f" (and {len(names) - 2} more)" if len(names) > 2 else ""
            why = f"{shown}{more} are both {scan.name}; keep one, or tell them apart by run-1 and run-2"
            listing.account.pass_over("twin", name, why, leaves_out=True)
    listing.scans = [entry for entry in listing.scans if (*entry[0].visit, entry[0].modality) not in twins]


def read_text(source: Location, name: str) -> str:
    """A small text file below the source.

    Raises:
        TextError: it cannot be read; the message says why and what to do.
        StorageError: a bucket refuses.
    """
    try:
        data = source.read(name)
    except FileNotFoundError as error:
        raise TextError("listed but not there; copy it again") from error
    except StorageError as error:
        if not source.is_local:
            raise
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else "refused"
        raise TextError(f"cannot be read ({reason}); check its permissions") from error
    lie = None if name.lower().endswith(".json") else impostor(data)
    if lie is not None:
        raise TextError(lie.replace(", not the scan;", " and passed over;").replace("scan", "table"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError("not UTF-8 text and passed over; save the table as UTF-8") from error


class TextError(ValueError):
    """A small text file cannot be used; the message says why and what to do."""
