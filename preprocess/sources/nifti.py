"""Files without BIDS: a table that names them, or a plain folder with one folder a subject.

Table (CSV or TSV) columns: path and subject_id required; session_id, day (or acq_time), run, modality, scanner and site
optional; every other numeric column is an outcome score. Paths are relative to the table, absolute, or URLs.
A plain folder knows no days and no scores, so its scans serve methods that look at single scans; pairs need a table.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from preprocess.errors import UsageError
from preprocess.file_types import has_ending, without_ending
from preprocess.sources import tables
from preprocess.sources.listing import Listing, file_sizes
from preprocess.storage import Location, refusals
from preprocess.types import Kind, Scan


def list_folder(source: Location, sizes: Mapping[str, int], modalities: Sequence[str], kind: Kind) -> Listing:
    """List a plain folder: `<subject>/<session>.nii.gz`, or `<subject>.nii.gz`; all of the first modality asked for.

    Args:
        source: the folder.
        sizes: its files with their sizes in bytes.
        modalities: the first one names the scans.
        kind: of the first modality; files with another kind's endings are passed over.
    """
    listing = Listing(source)
    for name in sizes:
        if not has_ending(name, kind):
            continue
        *folders, _ = name.split("/")
        stem = without_ending(name)
        subject_id = folders[0] if folders else stem
        session_id = "_".join([*folders[1:], stem]) if folders else ""
        uri = source.key(name) if source.is_local else f"{source.uri}/{name}"
        scan = Scan(subject_id=subject_id, session_id=session_id, modality=modalities[0], uri=uri)
        listing.scans.append((scan, name, sizes[name]))
    return listing


def list_table(table_uri: str, modalities: Sequence[str]) -> Listing:
    """List the scans a table names.

    Raises:
        UsageError: no such table, or one without the columns path and subject_id, or with a scan named twice.
    """
    folder, slash, table_name = table_uri.rpartition("/")
    root = Location(folder or slash or ".")
    try:
        text = root.read(table_name).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{table_uri}: no such table; check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{table_uri}: not UTF-8 text; save the table as UTF-8") from error
    rows = tables.read_rows(text, "\t" if table_name.lower().endswith(".tsv") else ",")
    for column in ("path", "subject_id"):
        if rows and column not in rows[0]:
            raise UsageError(f"{table_uri}: no column {column!r} (columns: {', '.join(rows[0])}); add it")
    listing = Listing(root)
    by_subject: dict[str, list[tuple[str, dict[str, str]]]] = defaultdict(list)
    for position, row in enumerate(rows, start=2):
        modality = row.get("modality") or modalities[0]
        if modality not in modalities:
            listing.other_modalities.add(modality)
        elif not row["path"] or not row["subject_id"]:
            listing.notes.append(f"{table_name} line {position}: empty path or subject_id; the line is passed over")
        else:
            by_subject[row["subject_id"]].append((str(position), {**row, "modality": modality}))
    is_relative = any(not _is_whole(row["path"]) for lines in by_subject.values() for _, row in lines)
    sizes = file_sizes(root) if is_relative else {}
    seen: dict[tuple[str, ...], str] = {}
    for subject_id, lines in by_subject.items():
        days = tables.days(lines, where=f"{table_name} line ", notes=listing.notes)
        for line, row in lines:
            scan = _table_scan(root, subject_id, row, days.get(line), f"{table_name} line {line}", listing.notes)
            identity = (*scan.visit, scan.modality)
            if identity in seen:
                raise UsageError(
                    f"{table_uri}: lines {seen[identity]} and {line} both name {scan.name}; "
                    "tell them apart by session_id or run"
                )
            seen[identity] = line
            listing.scans.append((scan, row["path"], _size(scan.uri, row["path"], sizes)))
    return listing


def _table_scan(
    root: Location, subject_id: str, row: Mapping[str, str], day: float | None, where: str, notes: list[str]
) -> Scan:
    path = row["path"]
    return Scan(
        subject_id=subject_id,
        session_id=row.get("session_id", "") or ("" if day is None else f"day-{day:g}"),
        run=row.get("run", ""),
        modality=row["modality"],
        day=day,
        uri=path if _is_whole(path) else (root.key(path) if root.is_local else f"{root.uri}/{path}"),
        site=row.get("site", ""),
        scanner=row.get("scanner", ""),
        outcomes=tables.outcomes(row, where=where, notes=notes),
    )


def _is_whole(path: str) -> bool:
    """Whether the cell is a URL or an absolute path, and not relative to the table."""
    return "://" in path or path.startswith("/")


def _size(uri: str, path: str, sizes: Mapping[str, int]) -> int:
    if path in sizes:
        return sizes[path]
    location = Location(uri)
    with refusals(uri):
        try:
            return int(location.fs.info(location.path).get("size") or 0)
        except FileNotFoundError:
            return 0
