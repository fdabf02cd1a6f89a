"""OASIS-3: sessions as XNAT gives them or as its scripts rearrange them, with the clinical visit nearest to each.

A session is labelled `OAS30001_MR_d0129` or lies in `sub-OAS30001/ses-d0129`; d is the number of days since that
person's entry, which is the day of the store. File names follow BIDS, and where folder and file differ the file is
believed: an old script garbled folders. Tables are read by `oasis3_tables`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from preprocess.file_types import has_ending, without_ending
from preprocess.sources.bids_tables import scanner_of
from preprocess.sources.clinical import DAYS_OF_A_YEAR, ClinicalVisit, Imaged, nearest_visits, say_diagnoses
from preprocess.sources.listing import Listing, add_unlisted, looks_like_scan, pass_over_unread, set_aside
from preprocess.sources.names import BidsName, is_modality_word, nearest, read_bids_name
from preprocess.sources.oasis3_tables import DIAGNOSES, read_clinical
from preprocess.sources.study_tables import TABLE_ENDINGS, StudyDownload, read_study_tables
from preprocess.types import Kind, Scan

WINDOW_DAYS = 365.0
"""The README of the study's own scripts joins within a year; a narrower one loses people, the first of them among them:
OAS30001's first MR lies 129 days from the nearest visit."""
_SESSION = re.compile(r"(OAS3\d{4})_([A-Za-z0-9]+)_(?:sess?-)?d(\d{4,5})")
_SUBJECT = re.compile(r"(?:sub[-_])?(OAS3\d{4})", re.IGNORECASE)
_ANY_SUBJECT = re.compile(r"OAS3\d{4}")
_VISIT = re.compile(r"(?:ses|sess)[-_](d\d{4,5})", re.IGNORECASE)
_DAY = re.compile(r"ses-d(\d{4,5})")
_SCAN_FOLDER = re.compile(r"[a-z]+\d+(?:-\w+)?", re.IGNORECASE)
_TABLE_FOLDERS = re.compile(r"0AS_data_files|OASIS3_data_files", re.IGNORECASE)
_OTHER_SUFFIXES = re.compile(
    r"(?:phase|magnitude)\w*|phasediff|fieldmap|epi|sbref|minip|gre|pet|ct|fdg|pib|av45|av1451|angio\w*|asl\w*|cbf|\w*map",
    re.IGNORECASE,
)
"""Suffixes of the release that are no structural scan."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies: its person and session as BIDS writes them, and what the folders call session and scan."""

    subject: str
    session: str
    session_kind: str
    scan_folder: str


def list_oasis3(download: StudyDownload) -> Listing:
    """List the scans of an OASIS-3 download.

    Raises:
        UsageError: the folder of the tables is not there.
        StorageError: a bucket refuses.
    """
    files, modalities, kinds = download.files, download.modalities, download.kinds
    listing = Listing(download.root, cohort="OASIS-3")
    add_unlisted(listing, files, modalities, kinds)
    beside: list[str] = []
    sidecars: dict[tuple[_Place, str], str] = {}
    found: list[tuple[Scan, str, _Place]] = []
    for name in files.sizes:
        if set_aside(listing, name, set(kinds.values())):
            continue
        place = _place_of(name)
        if name.lower().endswith(TABLE_ENDINGS):
            (beside if name.lower().endswith(".csv") else listing.account.others).append(name)
        elif place is not None and name.lower().endswith(".json"):
            key = (place, name.rpartition("/")[2][: -len(".json")])
            # Of two for one scan the first is read.
            if sidecars.setdefault(key, name) != name:
                listing.account.others.append(name)
        elif not looks_like_scan(name, set(kinds.values())):
            listing.account.others.append(name)
        elif place is None:
            why = "no folder or name of the form OAS3dddd_MR_dNNNN or sub-OAS3dddd; name it in a table of scans"
            listing.account.pass_over("id_grammar", name, why, leaves_out=True)
        elif (scan := _scan(listing, name, place, modalities, kinds)) is not None:
            found.append((scan, name, place))
    _say_table_folders(listing, beside)
    scans = _tell_apart(listing, found)
    listing.scans = [
        (replace(scan, scanner=_scanner(listing, sidecars.get((place, without_ending(name)), ""), name)), name, size)
        for scan, name, place in scans
        for size in (files.sizes[name],)
    ]
    listing.account.others += sorted(name for name in sidecars.values() if name not in listing.account.read)
    _add_scores(listing, beside, download)
    return listing


def person_of(text: str) -> str:
    """The person whom a path names, such as `OAS30001`; empty for none."""
    found = _ANY_SUBJECT.search(text)
    return found[0] if found else ""


def _place_of(name: str) -> _Place | None:
    """Person and session of a file, by the deepest folder that says them; the file's own name where none does."""
    *folders, base = name.split("/")
    subject = session = kind = scan_folder = ""
    for folder in folders:
        if label := _SESSION.fullmatch(folder):
            subject, kind, session, scan_folder = label[1], label[2], f"ses-d{label[3]}", ""
        elif person := _SUBJECT.fullmatch(folder):
            subject, scan_folder = person[1].upper(), ""
        elif _VISIT.fullmatch(folder):
            session, scan_folder = folder, ""
        elif not scan_folder and _SCAN_FOLDER.fullmatch(folder):
            scan_folder = folder
    if not subject and (person := _SUBJECT.match(base)):
        subject = person[1].upper()
    if not subject:
        return None
    return _Place(f"sub-{subject}", session, kind, scan_folder)


def _scan(
    listing: Listing, name: str, place: _Place, modalities: Sequence[str], kinds: Mapping[str, Kind]
) -> Scan | None:
    """The scan that a file is; None where it is passed over."""
    account = listing.account
    base = name.rpartition("/")[2]
    path = read_bids_name("/".join(part for part in (place.subject, place.session, base) if part))
    requested = nearest(path.suffix, modalities)
    if place.session_kind and not place.session_kind.startswith("MR"):
        why = f"a session of {place.session_kind}, which holds no MR scan; nothing to do"
        account.pass_over("not_mr", name, why)
        return None
    if not has_ending(name, kinds.get(requested or modalities[0], "volume"), is_named=bool(requested)):
        if not pass_over_unread(listing, name, "volume", requested or modalities[0], leaves_out=bool(requested)):
            account.others.append(name)
        return None
    if path.derived:
        account.pass_over("derived", name, f"{path.derived} says that it was made from a scan")
    elif not requested:
        _pass_over_other(listing, name, path.suffix, place)
    elif requested != path.suffix:
        why = f"the suffix {path.suffix} is not {requested}; rename the file, or give --modality {path.suffix}"
        account.pass_over("suffix_case", name, why, leaves_out=True)
    elif len(path.subjects) > 1:
        why = f"the path names two subjects, {' and '.join(path.subjects)}; rename the file after the person it shows"
        account.pass_over("two_subjects", name, why, leaves_out=True)
    else:
        _say_session(listing, name, path)
        return Scan(
            path.subject_id, path.session_id, path.suffix, listing.uri_of(name), path.run, _day_of(path.session_id)
        )
    return None


def _pass_over_other(listing: Listing, name: str, suffix: str, place: _Place) -> None:
    if is_modality_word(suffix) or _OTHER_SUFFIXES.fullmatch(suffix) or not place.scan_folder.startswith("anat"):
        listing.other_modalities.add(suffix)
        why = f"{suffix} was not asked for; give --modality to add it"
        listing.account.pass_over("other_modality", name, why)
    else:
        why = f"{suffix} says no contrast, and {place.scan_folder} may be any; let the name end in _T1w if it is one"
        listing.account.pass_over("modality_unclear", name, why, leaves_out=True)


def _say_session(listing: Listing, name: str, path: BidsName) -> None:
    account = listing.account
    if path.misspelt:
        read_as = path.subject_id if path.misspelt.lower().startswith("sub") else path.session_id
        message = f"{name}: {path.misspelt} is read as {read_as}; rename it for other tools"
        account.add("name_misspelt", name, message)
    if len(path.sessions) > 1:
        message = (
            f"{name}: the folder says {path.sessions[0]}, the file {path.session_id}; the file is believed (an old "
            "script garbled folders, and copies regroup files by visit): fetch it again"
        )
        account.add("folder_day_disagrees", name, message)
    if _day_of(path.session_id) is None:
        message = f"{name}: no session of the form d0129, so the scan has no day and no scores; restore its folder"
        account.add("days_missing", name, message)


def _day_of(session: str) -> float | None:
    found = _DAY.fullmatch(session)
    return float(found[1]) if found else None


def _tell_apart(listing: Listing, found: Sequence[tuple[Scan, str, _Place]]) -> list[tuple[Scan, str, _Place]]:
    """Several scans of a session are its runs; those without a run of their own take the number of their folder."""
    by_row: dict[tuple[str, ...], list[int]] = defaultdict(list)
    by_session: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for index, (scan, name, _) in enumerate(found):
        by_row[*scan.visit, scan.modality].append(index)
        by_session[scan.subject_id, scan.session_id, scan.modality].append(name)
    scans = list(found)
    for twins in by_row.values():
        if len({found[index][2].scan_folder for index in twins}) == len(twins) > 1:
            for index in twins:
                scan, name, place = found[index]
                number = re.search(r"\d+", place.scan_folder)
                own = f"run-{number[0]}" if number else place.scan_folder
                scans[index] = (replace(scan, run="_".join(part for part in (scan.run, own) if part)), name, place)
    for (subject, session, modality), names in by_session.items():
        if len(names) > 1:
            one = f"{subject}_{session}_{modality}"
            message = f"{one}: {len(names)} scans ({names[0]}, ...), all kept as runs of one day; delete any not wanted"
            listing.account.add("several_runs", one, message)
    return scans


def _scanner(listing: Listing, sidecar: str, name: str) -> str:
    if not sidecar:
        message = f"{name}: no JSON sidecar, so the scanner is unknown; fetch the BIDS resource of its scan too"
        listing.account.add("sidecar_missing", name, message)
        return ""
    return scanner_of(listing.root, sidecar, listing.account)


def _say_table_folders(listing: Listing, beside: Sequence[str]) -> None:
    folders = dict.fromkeys(part for name in beside for part in name.split("/")[:-1] if _TABLE_FOLDERS.fullmatch(part))
    for folder in folders:
        message = f"{folder}: a folder of tables among those of people; it is read as such, nothing to do"
        listing.account.add("not_a_participant", folder, message)


def _add_scores(listing: Listing, beside: Sequence[str], download: StudyDownload) -> None:
    """Scores of the nearest visit, and the age on the day of the scan."""
    account = listing.account
    clinical = read_clinical(read_study_tables(listing, beside, download.tables), account, download.choice)
    listing.in_tables = frozenset(clinical.people)
    sessions = {
        f"{scan.subject_id}_{scan.session_id}": Imaged(
            f"{scan.subject_id}_{scan.session_id}", scan.subject_id.removeprefix("sub-"), scan.day
        )
        for scan, _, _ in listing.scans
    }
    if not clinical.visits and not clinical.entry_ages:
        return
    scanned = {session.subject for session in sessions.values()}
    for subject, where in clinical.entries.items():
        if subject not in scanned:
            account.add("row_without_scan", where, f"{where}: {subject}: no scan of this person here")
    taken = nearest_visits(list(sessions.values()), clinical.visits, window_days=download.window_days, account=account)
    say_diagnoses(taken.values(), DIAGNOSES, "diagnosis", account)
    listing.scans = [
        (replace(scan, outcomes=_outcomes(scan, sessions, taken, clinical.entry_ages)), name, size)
        for scan, name, size in listing.scans
    ]


def _outcomes(
    scan: Scan, sessions: Mapping[str, Imaged], taken: Mapping[str, ClinicalVisit], ages: Mapping[str, float]
) -> dict[str, float]:
    session = sessions[f"{scan.subject_id}_{scan.session_id}"]
    scores = dict(taken[session.name].scores) if session.name in taken else {}
    if session.subject in ages and scan.day is not None:
        scores["age"] = round(ages[session.subject] + scan.day / DAYS_OF_A_YEAR, 2)
    return scores
