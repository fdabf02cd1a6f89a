"""BIDS folders: scans from file names, days and scores from sessions.tsv, scans.tsv and participants.tsv."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from preprocess.sources import tables
from preprocess.sources.listing import NIFTI_ENDINGS, Listing, read_text
from preprocess.storage import Location
from preprocess.types import Scan

_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")
_Rows = dict[str, dict[str, str]]


def list_bids(source: Location, sizes: Mapping[str, int], modalities: Sequence[str]) -> Listing:
    """List the scans of a BIDS folder.

    Args:
        source: the folder.
        sizes: its files with their sizes in bytes.
        modalities: BIDS suffixes to keep.
    """
    listing = Listing(source)
    by_subject: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        if name.endswith(NIFTI_ENDINGS) and name.startswith("sub-"):
            suffix = _stem(name).rpartition("_")[2]
            if suffix in modalities:
                by_subject[name.split("/")[0]].append(name)
            else:
                listing.other_modalities.add(suffix)
    participants = _keyed(source, "participants.tsv", "participant_id", sizes)
    for subject_id, names in by_subject.items():
        person = participants.get(subject_id, {})
        listing.scans.extend(_list_subject(source, subject_id, names, person, sizes, listing.notes))
    return listing


def _list_subject(
    source: Location,
    subject_id: str,
    names: Sequence[str],
    person: Mapping[str, str],
    sizes: Mapping[str, int],
    notes: list[str],
) -> list[tuple[Scan, str, int]]:
    sessions = _keyed(source, f"{subject_id}/{subject_id}_sessions.tsv", "session_id", sizes)
    scan_rows = _scan_rows(source, subject_id, sizes)
    dated = [(session_id, row) for session_id, row in sessions.items()]
    session_ids = {name: _session_id(name) for name in names}
    # The session's own table first; where it is silent, the acquisition time of its scans.
    from_scans = [(session_ids[name], scan_rows[name]) for name in names if name in scan_rows]
    days = {**tables.days(from_scans, notes=notes), **tables.days(dated, notes=notes)}
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
            modality=_stem(name).rpartition("_")[2],
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


def _keyed(source: Location, name: str, key: str, sizes: Mapping[str, int]) -> _Rows:
    text = read_text(source, name) if name in sizes else None
    return {row[key]: row for row in tables.read_rows(text or "", "\t") if row.get(key)}


def _scan_rows(source: Location, subject_id: str, sizes: Mapping[str, int]) -> _Rows:
    """Rows of all scans.tsv of a subject, by the scan's name relative to the data set."""
    rows = {}
    for name in sizes:
        if name.startswith(f"{subject_id}/") and name.endswith("_scans.tsv"):
            folder = name.rpartition("/")[0]
            for row in tables.read_rows(read_text(source, name) or "", "\t"):
                rows[f"{folder}/{row.get('filename', '')}"] = row
    return rows


def _sidecar_scanner(source: Location, name: str, sizes: Mapping[str, int]) -> str:
    """Maker and model from the scan's JSON sidecar; empty where there is none."""
    sidecar = f"{name.removesuffix('.gz').removesuffix('.nii')}.json"
    text = read_text(source, sidecar) if sidecar in sizes else None
    try:
        fields = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return ""
    if not isinstance(fields, dict):
        return ""
    return " ".join(str(fields[key]) for key in ("Manufacturer", "ManufacturersModelName") if fields.get(key))


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".gz").removesuffix(".nii")


def _session_id(name: str) -> str:
    found = dict(_ENTITY.findall(_stem(name)))
    return f"ses-{found['ses']}" if "ses" in found else ""


def _run(name: str) -> str:
    """What tells two scans of one session and suffix apart: every entity but subject and session."""
    entities = _stem(name).split("_")[:-1]
    return "_".join(entity for entity in entities if not entity.startswith(("sub-", "ses-")))
