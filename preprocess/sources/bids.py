"""BIDS folders: scans from file names, days and scores from sessions.tsv, scans.tsv and participants.tsv."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from preprocess.file_types import has_ending, without_ending
from preprocess.sources import tables
from preprocess.sources.listing import Listing, read_text
from preprocess.storage import Location
from preprocess.types import Kind, Scan

_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")
_Rows = dict[str, dict[str, str]]


def list_bids(
    source: Location, sizes: Mapping[str, int], modalities: Sequence[str], kinds: Mapping[str, Kind]
) -> Listing:
    """List the scans of a BIDS folder.

    Args:
        source: the folder.
        sizes: its files with their sizes in bytes.
        modalities: BIDS suffixes to keep.
        kinds: of the modalities that are no volumes; their files have other endings.
    """
    listing = Listing(source)
    by_subject: dict[str, list[str]] = defaultdict(list)
    scan_tables: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        if not (name.startswith("sub-") and "/" in name):
            continue
        if name.endswith("_scans.tsv"):
            scan_tables[name.split("/")[0]].append(name)
            continue
        suffix = suffix_of(name)
        if suffix in modalities and has_ending(name, kinds.get(suffix, "volume"), is_named=True):
            by_subject[name.split("/")[0]].append(name)
        elif suffix not in modalities and has_ending(name, "volume"):
            listing.other_modalities.add(suffix)
    participants = _keyed(source, "participants.tsv", "participant_id", sizes, listing.notes)
    for subject_id, names in by_subject.items():
        person = participants.get(subject_id, {})
        scan_rows = _scan_rows(source, scan_tables[subject_id], listing.notes)
        listing.scans.extend(_list_subject(source, subject_id, names, person, scan_rows, sizes, listing.notes))
    return listing


def _list_subject(
    source: Location,
    subject_id: str,
    names: Sequence[str],
    person: Mapping[str, str],
    scan_rows: _Rows,
    sizes: Mapping[str, int],
    notes: list[str],
) -> list[tuple[Scan, str, int]]:
    sessions = _keyed(source, f"{subject_id}/{subject_id}_sessions.tsv", "session_id", sizes, notes)
    dated = [(session_id, row) for session_id, row in sessions.items()]
    session_ids = {name: _session_id(name) for name in names}
    # The session's own table first; where it is silent, the acquisition time of its scans.
    from_scans = [(session_ids[name], scan_rows[name]) for name in names if name in scan_rows]
    days = tables.days([*dated, *from_scans], where=f"{subject_id}_", notes=notes)
    personal = tables.outcomes(person, where=subject_id, notes=notes)
    scores = {
        session_id: tables.outcomes(row, where=f"{subject_id}_{session_id}", notes=notes)
        for session_id, row in sessions.items()
    }
    found = []
    for name in names:
        session_id = session_ids[name]
        row = scan_rows.get(name, {})
        scan = Scan(
            subject_id=subject_id,
            session_id=session_id,
            run=_run(name),
            modality=suffix_of(name),
            day=days.get(session_id),
            uri=source.key(name) if source.is_local else f"{source.uri}/{name}",
            site=person.get("site", ""),
            scanner=row.get("scanner")
            or sessions.get(session_id, {}).get("scanner")
            or _sidecar_scanner(source, name, sizes),
            outcomes={**personal, **scores.get(session_id, {})},
        )
        found.append((scan, name, sizes[name]))
    return found


def _keyed(source: Location, name: str, key: str, sizes: Mapping[str, int], notes: list[str]) -> _Rows:
    rows = _table(source, name, notes) if name in sizes else []
    return {row[key]: row for row in rows if row.get(key)}


def _scan_rows(source: Location, names: Sequence[str], notes: list[str]) -> _Rows:
    """Rows of all scans.tsv of a subject, by the scan's name relative to the data set."""
    rows = {}
    for name in names:
        folder = name.rpartition("/")[0]
        for row in _table(source, name, notes):
            rows[f"{folder}/{row.get('filename', '')}"] = row
    return rows


def _table(source: Location, name: str, notes: list[str]) -> list[dict[str, str]]:
    text = read_text(source, name)
    if text is None:
        notes.append(f"{name}: not UTF-8 text and passed over; save the table as UTF-8")
        return []
    return tables.read_rows(text, "\t")


def _sidecar_scanner(source: Location, name: str, sizes: Mapping[str, int]) -> str:
    """Maker and model from the scan's JSON sidecar; empty where there is none."""
    sidecar = f"{name.removesuffix(name.rpartition('/')[2])}{without_ending(name)}.json"
    text = read_text(source, sidecar) if sidecar in sizes else None
    try:
        fields = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return ""
    if not isinstance(fields, dict):
        return ""
    return " ".join(str(fields[key]) for key in ("Manufacturer", "ManufacturersModelName") if fields.get(key))


def suffix_of(name: str) -> str:
    """The BIDS suffix of a file name: what stands behind its last underscore."""
    return without_ending(name).rpartition("_")[2]


def _session_id(name: str) -> str:
    """From the file name, or else from the session's folder; empty where there are no sessions."""
    found = dict(_ENTITY.findall(without_ending(name)))
    if "ses" in found:
        return f"ses-{found['ses']}"
    return next((folder for folder in name.split("/")[1:-1] if folder.startswith("ses-")), "")


def _run(name: str) -> str:
    """What tells two scans of one session and suffix apart: every entity but subject and session."""
    entities = without_ending(name).split("_")[:-1]
    return "_".join(entity for entity in entities if not entity.startswith(("sub-", "ses-")))
