"""Looks at a source and picks the way to list it: BIDS folder, plain folder, folder of DICOM series, or table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from preprocess.errors import StorageError, UsageError
from preprocess.file_types import DICOM_ENDINGS, READ_BY, has_ending, is_own_object, unread_reason
from preprocess.sources.bids import DESCRIPTION, list_bids
from preprocess.sources.dicom_folder import list_dicom
from preprocess.sources.files import Files, list_files
from preprocess.sources.folder import list_folder
from preprocess.sources.layouts import refuse_misplaced
from preprocess.sources.listing import ASIDE, Listing, leave_out_twins
from preprocess.sources.names import readable, suffix_of
from preprocess.sources.people_account import sort_people
from preprocess.sources.reconciliation import CODES
from preprocess.sources.scan_table import list_table
from preprocess.sources.sentinels import Choice
from preprocess.sources.series_rules import read_rules
from preprocess.sources.studies import STUDIES, Study
from preprocess.sources.study_tables import StudyDownload
from preprocess.storage import Location
from preprocess.types import Kind, Scan, SourceKind

_ALL_VOLUMES: Mapping[str, Kind] = MappingProxyType({})
_NO_CHOICE = Choice()
_MOST_LOOKED_INTO = 20
"""Files that are opened to see whether they are DICOM."""
_START_BYTES = 1024


def list_scans(
    source_uri: str,
    modalities: Sequence[str],
    *,
    kinds: Mapping[str, Kind] = _ALL_VOLUMES,
    cohort: str | None = None,
    choice: Choice = _NO_CHOICE,
    source_kind: SourceKind = "auto",
    tables: str | None = None,
    window_days: float | None = None,
    series_rules: Path | None = None,
) -> Listing:
    """List the scans of a source.

    Args:
        source_uri: BIDS folder, plain folder of files, or CSV/TSV table; path or URL.
        modalities: BIDS suffixes to keep.
        kinds: kinds of the modalities that are no volumes; in folders, their files are recognised by their endings.
        cohort: name within which subjects are unique; the data set's own name when None.
        choice: what the user says about codes for missing scores.
        source_kind: `dicom` lists a folder as DICOM series whatever else lies there; `auto` does so where DICOM files
            that may be slices lie there and no NIfTI file; a study's name says whose layout the source has.
        tables: a study's folder of clinical tables, or one of them; those among the scans when None.
        window_days: greatest distance of a study's clinical visit from a scan in days; the study's own when None.
        series_rules: TOML file with the rules by which series are chosen; those of interscan when None.

    Raises:
        UsageError: nothing there, a folder whose layout is not understood, a table without the columns it needs, or
            no file that can be told from another one of the same row.
        StorageError: the bucket refuses.
    """
    source = Location(source_uri)
    if source_kind not in STUDIES and (tables is not None or window_days is not None):
        option = "--tables" if tables is not None else "--window-days"
        raise UsageError(f"{option}: only a study has them; give --source-kind {' or '.join(STUDIES)} too")
    if window_days is not None and not 0 <= window_days < float("inf"):
        raise UsageError(f"--window-days {window_days:g}: below 0, or not finite; give days, such as 90")
    is_table = source_uri.lower().endswith((".csv", ".tsv"))
    if series_rules is not None and (is_table or source_kind in STUDIES):
        raise UsageError(f"{source_uri}: --series-rules choose DICOM series, and none is here; leave them out")
    if source_kind in STUDIES:
        study, files = STUDIES[source_kind], _files(source, source_uri)
        window = study.window_days if window_days is None else window_days
        listing = _list_study(study, StudyDownload(source, files, modalities, kinds, choice, tables, window))
    elif is_table:
        listing = list_table(source_uri, modalities, choice, kinds)
    else:
        files = _files(source, source_uri)
        first = kinds.get(modalities[0], "volume")
        if source_kind == "dicom" or (first == "volume" and _is_dicom(source, files)):
            listing = _list_series(source, files, modalities, series_rules)
        elif series_rules is not None:
            raise UsageError(f"{source_uri}: --series-rules choose DICOM series, and none is here; leave them out")
        else:
            listing = _list_folder(source, files, modalities, kinds, choice)
    name = listing.cohort if cohort is None else " ".join(cohort.split())
    listing.cohort = name
    listing.cohort_given = cohort is not None
    listing.scans = [_named(listing, replace(scan, cohort=name), file, size) for scan, file, size in listing.scans]
    listing.names = frozenset(readable(file) for file in listing.names)
    return listing


def _named(listing: Listing, scan: Scan, file: str, size: int) -> tuple[Scan, str, int]:
    """A scan as the store can hold it: only where its file lies may be no UTF-8."""
    if readable(file) == file:
        return scan, file, size
    message = f"{file}: the name is no UTF-8 text; stored as it is written here, rename the file for other tools"
    listing.account.add("name_not_text", file, message)
    spelt = replace(
        scan,
        subject_id=readable(scan.subject_id),
        session_id=readable(scan.session_id),
        run=readable(scan.run),
    )
    return spelt, readable(file), size


def _files(source: Location, source_uri: str) -> Files:
    files = list_files(source)
    if not files.sizes and not files.unlisted:
        raise UsageError(
            f"{source_uri}: no such folder, or an empty one; give a BIDS folder, a folder of NIfTI files or of DICOM "
            "series, or a table"
        )
    return files


def _is_dicom(source: Location, files: Files) -> bool:
    """Whether a folder holds DICOM files that may be slices, and no NIfTI file."""
    if any(has_ending(name, "volume") for name in files.sizes):
        return False
    named = [name for name in files.sizes if name.lower().endswith(DICOM_ENDINGS)]
    bare = [name for name in files.sizes if "." not in name.rpartition("/")[2] or unread_reason(name) is not None]
    return any(_is_slice(source, name) for name in islice(named or bare, _MOST_LOOKED_INTO))


def _is_slice(source: Location, name: str) -> bool:
    """Whether a file is DICOM and no examination of its own."""
    try:
        start = source.read_part(name, 0, _START_BYTES)
    except (FileNotFoundError, StorageError):
        return False
    return start[128:132] == b"DICM" and not is_own_object(start)


def _list_series(source: Location, files: Files, modalities: Sequence[str], series_rules: Path | None) -> Listing:
    where = "the rules of interscan" if series_rules is None else str(series_rules)
    return _not_empty(list_dicom(source, files, modalities, read_rules(series_rules), where=where))


def _list_folder(
    source: Location, files: Files, modalities: Sequence[str], kinds: Mapping[str, Kind], choice: Choice
) -> Listing:
    first = kinds.get(modalities[0], "volume")
    if not any(name.startswith("sub-") and "/" in name for name in (*files.sizes, *_names(files))):
        scans = (name for name in files.sizes if has_ending(name, first) and not _is_aside(name))
        refuse_misplaced(source.uri, scans)
    if _is_bids(files, modalities, first):
        listing = list_bids(source, files, modalities, kinds, choice)
    else:
        listing = list_folder(source, files, modalities, kinds)
        if not listing.scans:
            _say_other_kinds(listing, files.sizes, modalities[0], first)
    return _settled(listing, frozenset((*files.sizes, *_names(files))))


def _list_study(study: Study, download: StudyDownload) -> Listing:
    listing = study.lister(download)
    files = download.files
    _settled(listing, listing.names or frozenset((*files.sizes, *_names(files))))
    scans = [scan for scan, _, _ in listing.scans]
    listing.people = sort_people(scans, listing.account, listing.in_tables, study.person_of)
    return listing


def _settled(listing: Listing, names: frozenset[str]) -> Listing:
    """The listing without twins, with its files counted; refused where every scan of it is left out."""
    leave_out_twins(listing)
    listing.account.num_scan_files = sum(scan.num_files for scan, _, _ in listing.scans)
    listing.names = names
    if not listing.scans:
        passed_over = listing.account.counts().get("passed_over", {})
        reported = {"other_modality", "unread_format", "suffix_case"}  # these are there by name already
        listing.other_modalities |= {
            f"{count} {CODES[code][1]}" for code, count in passed_over.items() if code not in reported
        }
    return _not_empty(listing)


def _not_empty(listing: Listing) -> Listing:
    """The listing; refused where every scan of it is left out."""
    left_out = listing.account.left_out
    if not listing.scans and left_out:
        more = f" (and {len(left_out) - 1} more left out)" if len(left_out) > 1 else ""
        raise UsageError(f"{listing.root.uri}: no scan is left: {left_out[0].message}{more}")
    return listing


def _names(files: Files) -> list[str]:
    return [one.name for one in files.unlisted]


def _is_aside(name: str) -> bool:
    """Whether a file is hidden, or lies in a folder of a data set that holds no scans of its own."""
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or bool({part.lower() for part in parts[:-1]} & ASIDE.keys())


def _is_bids(files: Files, modalities: Sequence[str], first: Kind) -> bool:
    """Whether a folder follows BIDS; without its description file, clips and the like must carry BIDS suffixes too."""
    named = [name for name in (*files.sizes, *_names(files)) if name.startswith("sub-") and "/" in name]
    if DESCRIPTION in files.sizes or first == "volume":
        return DESCRIPTION in files.sizes or bool(named)
    return any(suffix_of(name) in modalities for name in named)


def _say_other_kinds(listing: Listing, sizes: Mapping[str, int], modality: str, kind: Kind) -> None:
    """What a plain folder without any file of the requested kind holds instead."""
    slices = [name for name in sizes if kind == "volume" and _may_be_slice(listing.root, name)]
    if slices:
        message = f"{len(slices)} files there are {unread_reason(slices[0])}"
        listing.account.add("kind_unset", "volume", message)
    names = sizes.keys() - slices
    counts = {other: sum(has_ending(name, other) for name in names) for other in READ_BY if other != kind}
    for other, count in counts.items():
        if count:
            # A picture, unlike a recording or a table, may be one slice of a volume.
            condition = "if each is a whole visit and no slice of a volume" if other == "image" else "if they are"
            message = f'{count} files there could be {other}s; {condition}, set kinds.{modality} = "{other}"'
            listing.account.add("kind_unset", other, message)


def _may_be_slice(root: Location, name: str) -> bool:
    """Whether a file is DICOM and may be one slice of many, which as an image would be a visit of its own."""
    if not name.lower().endswith(DICOM_ENDINGS):
        return False
    try:
        return not is_own_object(root.read(name))
    except (FileNotFoundError, StorageError):
        return True
