"""A table that names the scans of a source, one a line.

Columns (CSV or TSV): path and subject_id required; session_id, day (or acq_time), run, modality, scanner and site
optional; every other numeric column is an outcome score. Paths are relative to the table, absolute, or URLs.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from preprocess.errors import StorageError, UsageError
from preprocess.sources.days import believable, count_days, is_placeholder, read_times
from preprocess.sources.files import Files, list_files
from preprocess.sources.listing import Listing, TextError, add_unlisted, looks_like_scan, read_text, set_aside
from preprocess.sources.names import nearest
from preprocess.sources.reach import is_whole, label_of, size_of
from preprocess.sources.scores import Source, read_scores
from preprocess.sources.sentinels import Choice
from preprocess.sources.tables import Row, TableError, read_table
from preprocess.storage import Location
from preprocess.types import Kind, Scan

_NO_CHOICE = Choice()
_ALL_VOLUMES: Mapping[str, Kind] = MappingProxyType({})


def list_table(
    table_uri: str, modalities: Sequence[str], choice: Choice = _NO_CHOICE, kinds: Mapping[str, Kind] = _ALL_VOLUMES
) -> Listing:
    """List the scans a table names.

    Args:
        table_uri: the table.
        modalities: to keep; the first one is that of lines without a modality.
        choice: what the user says about codes for missing scores.
        kinds: kinds of the modalities that are no volumes; tells which files beside the table look like scans.

    Raises:
        UsageError: no such table, or one without the columns path and subject_id, or no line names a scan of its own.
        StorageError: a bucket refuses, for the table or for all its scans.
    """
    folder, slash, table_name = table_uri.rpartition("/")
    root = Location(folder or slash or ".")
    listing = Listing(root)
    account = listing.account
    try:
        table = read_table(table_name, read_text(root, table_name), account, loses_scans=True)
    except (TextError, TableError) as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        is_link = is_missing and root.is_local and os.path.lexists(root.key(table_name))
        if is_link:
            raise UsageError(f"{table_uri}: a link to nothing; run git annex get on it, or restore the file") from error
        raise UsageError(f"{table_uri}: {'no such table; check the path' if is_missing else error}") from error
    for column in ("path", "subject_id"):
        if table.columns and column not in table.columns:
            shown = ", ".join(table.columns)
            remedy = "add it" if len(table.columns) > 1 or ";" not in shown else "save the table with commas"
            raise UsageError(f"{table_uri}: no column {column!r} (columns: {shown}); {remedy}")
    files = list_files(root) if any(not is_whole(row.get("path")) for row in table.rows) else Files()
    named = _usable(table_name, table.rows, modalities, files, listing)
    days = _days(table_name, named, listing)
    scores = read_scores(
        [Source(f"{table_name} line {row.line}", table_name, row.cells) for row, _ in named], account, choice
    )
    scans = [
        (_scan(listing, row, modality, days.get(row.line), outcomes), row)
        for (row, modality), outcomes in zip(named, scores, strict=True)
    ]
    _add(table_name, scans, files, listing)
    if not listing.scans and account.left_out:
        more = len(account.left_out) - 1
        also = f" (and {more} more like it)" if more else ""
        raise UsageError(f"{table_uri}: {account.left_out[0].message.removeprefix(f'{table_name} ')}{also}")
    _account_for_files(table_name, table.rows, files, modalities, kinds, listing)
    return listing


def _usable(
    table_name: str, rows: Sequence[Row], modalities: Sequence[str], files: Files, listing: Listing
) -> list[tuple[Row, str]]:
    """Lines that name a scan of a requested modality, with that modality."""
    named = []
    account = listing.account
    for row in rows:
        where = f"{table_name} line {row.line}"
        modality = row.get("modality") or modalities[0]
        ids = row.get("subject_id") + row.get("session_id") + row.get("run")
        if modality not in modalities:
            listing.other_modalities.add(modality)
            near = nearest(modality, modalities)
            if near:
                message = f"{where}: modality {modality} is not {near}; correct it, or give --modality {modality}"
                account.add("row_modality", where, message, leaves_out=True)
            elif (name := _plain_path(row)) in files.sizes:
                why = f"{where} says {modality}, which was not asked for; give --modality to add it"
                account.pass_over("other_modality", name, why)
            else:
                message = f"{where}: modality {modality} was not asked for; give --modality to add it"
                account.add("row_modality", where, message)
        elif not row.get("path") or not row.get("subject_id"):
            message = f"{where}: empty path or subject_id; the line is passed over"
            account.add("empty_key", where, message, leaves_out=True)
        elif not ids.isprintable() or "/" in ids:
            message = f"{where}: an id holds a slash or an unprintable character ({ids[:60]!r}); correct it"
            account.add("bad_id", where, message, leaves_out=True)
        else:
            named.append((row, modality))
    return named


def _days(table_name: str, named: Sequence[tuple[Row, str]], listing: Listing) -> dict[int, float]:
    """Day by line."""
    by_subject: dict[str, list[Row]] = defaultdict(list)
    for row, _ in named:
        by_subject[row.get("subject_id")].append(row)
    where = f"{table_name} line "
    account = listing.account
    times = {
        subject: read_times(((str(row.line), row.cells) for row in rows), where=where, account=account)
        for subject, rows in by_subject.items()
    }
    dates: list[dict[str, datetime]] = []
    for subject, rows in by_subject.items():
        session_of = {str(row.line): row.get("session_id") or str(row.line) for row in rows}
        dates.append({session_of[line]: dated for line, dated in times[subject].dates.items()})
    placeholder = is_placeholder(dates)
    days: dict[int, float] = {}
    for subject, rows in by_subject.items():
        known = count_days(times[subject], where=where, account=account)
        sessions = {str(row.line): row.get("session_id") for row in rows}
        believed = believable(
            known, times[subject], placeholder=placeholder, where=subject, account=account, sessions=sessions
        )
        days |= {int(line): day for line, day in believed.items()}
    return days


def _scan(listing: Listing, row: Row, modality: str, day: float | None, outcomes: dict[str, float]) -> Scan:
    path = _plain_path(row)
    return Scan(
        subject_id=row.get("subject_id"),
        session_id=row.get("session_id") or ("" if day is None else f"day-{day:g}"),
        run=row.get("run"),
        modality=modality,
        day=day,
        uri=path if is_whole(path) else listing.uri_of(path),
        site=row.get("site"),
        scanner=row.get("scanner"),
        outcomes=outcomes,
    )


def _plain_path(row: Row) -> str:
    """The path with slashes only and without `./`, where it is relative."""
    path = row.get("path")
    return path if is_whole(path) else "/".join(part for part in path.replace("\\", "/").split("/") if part != ".")


def _add(table_name: str, scans: Sequence[tuple[Scan, Row]], files: Files, listing: Listing) -> None:
    """Put the scans into the listing; lines that name one scan twice leave it out, since they may contradict."""
    account = listing.account
    lines: dict[tuple[str, ...], list[tuple[Scan, Row]]] = defaultdict(list)
    for scan, row in scans:
        lines[*scan.visit, scan.modality].append((scan, row))
    refused: list[StorageError] = []
    for twins in lines.values():
        first, first_row = twins[0]
        differ = any(row.cells != first_row.cells for _, row in twins)
        for scan, row in twins if differ else twins[1:]:
            if len(twins) == 1:
                break
            where = f"{table_name} line {row.line}"
            if differ:
                numbers = [str(one.line) for _, one in twins]
                which = f"{', '.join(numbers[:-1])} and {numbers[-1]}" if len(numbers) < 9 else f"{numbers[0]} and more"
                message = f"{where}: lines {which} both name {scan.name}; tell them apart by session_id or run"
                account.add("duplicate_visit", where, message, leaves_out=True)
            else:
                message = f"{where}: the same as line {first_row.line} ({scan.name}); delete it"
                account.add("duplicate_row", where, message)
        if differ:
            continue
        inside = _inside(first.uri, listing.root)
        if inside in files.sizes:
            size = files.sizes[inside]
        else:
            try:
                size = size_of(first.uri)
            except StorageError as error:
                size = 0
                if "://" in first.uri:
                    refused.append(error)
        listing.scans.append((first, inside or label_of(first_row.get("path"), first.name), size))
    if refused and len(refused) == len(listing.scans):
        raise refused[0]  # not one bad path, but a bucket or a network that refuses all


def _inside(uri: str, root: Location) -> str:
    """The file's name below the table's folder; empty where it lies elsewhere."""
    start = f"{root.uri.rstrip('/')}/"
    name = uri.removeprefix(start)
    return name if uri.startswith(start) and ".." not in name.split("/") else ""


def _account_for_files(
    table_name: str,
    rows: Sequence[Row],
    files: Files,
    modalities: Sequence[str],
    kinds: Mapping[str, Kind],
    listing: Listing,
) -> None:
    """Files in the table's folder that no line names, where that folder was listed."""
    account = listing.account
    taken = {name for _, name, _ in listing.scans} & files.sizes.keys()
    account.num_scan_files = len(taken)
    add_unlisted(listing, files, modalities, kinds)
    requested = {kinds.get(modality, "volume") for modality in modalities}
    mentioned = {_plain_path(row) for row in rows}
    reported = {one.name for one in account.part("passed_over")}
    for name in files.sizes:
        if name == table_name:
            account.read.add(name)
        elif name in taken or name in reported or set_aside(listing, name, requested):
            continue
        elif name in mentioned:
            account.pass_over("not_in_table", name, "named by a line that is not used; see there")
        elif looks_like_scan(name, requested) and not name.lower().endswith(".csv"):
            account.pass_over("not_in_table", name, f"{table_name} has no line for it; add one if it is a scan")
        else:
            account.others.append(name)
    listing.names = frozenset({*(name for _, name, _ in listing.scans), *(row.get("path") for row in rows)})
