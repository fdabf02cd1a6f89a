"""BIDS folders: which files are scans, and why each other image there is not; identity from the whole path.

Facts about the scans come from `bids_tables`. What a path says twice must agree: a file of one subject in the folder of
another is left out, since nothing tells which of them it shows.
"""

import json
from collections.abc import Mapping, Sequence

from preprocess.file_types import has_ending
from preprocess.sources.bids_tables import BidsTables, Found, read_facts, sidecar_scanner
from preprocess.sources.files import Files
from preprocess.sources.listing import (
    Listing,
    TextError,
    add_unlisted,
    looks_like_scan,
    pass_over_unread,
    read_text,
    set_aside,
)
from preprocess.sources.names import BidsName, is_oasis_day_slip, nearest, read_bids_name, readable, suffix_of
from preprocess.sources.sentinels import Choice
from preprocess.storage import Location
from preprocess.types import Kind, Scan

DESCRIPTION = "dataset_description.json"


def list_bids(
    source: Location, files: Files, modalities: Sequence[str], kinds: Mapping[str, Kind], choice: Choice
) -> Listing:
    """List the scans of a BIDS folder.

    Args:
        source: the folder.
        files: what lies in it.
        modalities: BIDS suffixes to keep.
        kinds: kinds of the modalities that are no volumes; their files have other endings.
        choice: what the user says about codes for missing scores.
    """
    listing = Listing(source)
    add_unlisted(listing, files, modalities, kinds)
    found: list[Found] = []
    tables = BidsTables()
    for name in files.sizes:
        if name == DESCRIPTION:
            listing.cohort = _data_set_name(source, listing)
        elif set_aside(listing, name, set(kinds.values())) or tables.take(name, listing.account):
            continue
        elif name.startswith("sub-") and "/" in name:
            _sort_file(listing, name, modalities, kinds, found)
        else:
            _sort_outside(listing, name, modalities, kinds)
    facts = read_facts(source, tables, found, files.sizes, modalities, listing.account, choice)
    for one in found:
        cells = facts.scans.get(one.name, {})
        session = (one.path.subject_id, one.path.session_id)
        scan = Scan(
            subject_id=one.path.subject_id,
            session_id=one.path.session_id,
            run=one.path.run,
            modality=one.path.suffix,
            day=facts.days.get(session),
            uri=listing.uri_of(one.name),
            site=facts.sites.get(one.path.subject_id, ""),
            scanner=cells.get("scanner")
            or facts.scanners.get(session, "")
            or sidecar_scanner(source, one.name, files.sizes, listing.account),
            outcomes={**facts.personal.get(one.path.subject_id, {}), **facts.scores.get(session, {})},
        )
        listing.scans.append((scan, one.name, files.sizes[one.name]))
    # A sidecar is only opened where no table names the scanner; one that was not is a file beside the others.
    listing.account.others = [name for name in listing.account.others if name not in listing.account.read]
    return listing


def _sort_file(
    listing: Listing, name: str, modalities: Sequence[str], kinds: Mapping[str, Kind], found: list[Found]
) -> None:
    """A file of a subject: a scan, or passed over with the reason."""
    account = listing.account
    path = read_bids_name(name)
    kind = kinds.get(path.suffix, "volume")
    requested = nearest(path.suffix, modalities)
    is_requested = path.suffix.partition(".")[0] in modalities  # of T1w.mgz, too
    if requested and has_ending(name, kinds.get(requested, "volume"), is_named=True):
        if path.derived or any(part in path.run for part in ("part-phase", "part-imag", "part-real")):
            why = f"{path.derived or path.run} says that it is not the scan itself"
            account.pass_over("derived", name, why)
        elif requested != path.suffix:
            why = f"the suffix {path.suffix} is not {requested}; rename the file, or give --modality {path.suffix}"
            account.pass_over("suffix_case", name, why, leaves_out=True)
            listing.other_modalities.add(path.suffix)
        elif len(path.subjects) > 1:
            who = " and ".join(path.subjects)
            why = f"the path names two subjects, {who}; rename the file after the person it shows"
            account.pass_over("two_subjects", name, why, leaves_out=True)
        elif len(path.sessions) > 1 and not is_oasis_day_slip(path):
            when = " and ".join(path.sessions)
            why = f"the path names two sessions, {when}; rename the file after the session it is from"
            account.pass_over("two_sessions", name, why, leaves_out=True)
        else:
            _say_spelling(listing, name, path)
            found.append(Found(name, path))
    elif has_ending(name, "volume"):
        if path.derived:
            account.pass_over("derived", name, f"{path.derived} says that it was made from a scan")
        else:
            listing.other_modalities.add(path.suffix)
            account.pass_over("other_modality", name, f"{path.suffix} was not asked for; give --modality to add it")
    elif not pass_over_unread(
        listing, name, kind, requested or modalities[0], leaves_out=is_requested and not _is_half(name)
    ):
        account.others.append(name)


def _is_half(name: str) -> bool:
    """Whether the file is the header of a pair: its voxels lie beside it, and one scan is lost, not two."""
    return name.lower().removesuffix(".gz").endswith((".hdr", ".head", ".par", ".mhd", ".nhdr"))


def _say_spelling(listing: Listing, name: str, path: BidsName) -> None:
    if path.misspelt:
        message = f"{name}: {path.misspelt} is read as {path.session_id or path.subject_id}; rename it for other tools"
        if path.misspelt.lower().startswith("sub"):
            message = f"{name}: {path.misspelt} is read as {path.subject_id}; rename it for other tools"
        listing.account.add("name_misspelt", name, message)
    if path.illegal:
        message = f"{name}: label {path.illegal!r} holds more than letters, digits and +; read as it stands"
        listing.account.add("label_grammar", name, message)
    if len(path.sessions) > 1:
        message = (
            f"{name}: the folder says {path.sessions[0]}, the file {path.session_id}; the file is believed (an old "
            "OASIS-3 script garbled folders): fetch it again"
        )
        listing.account.add("folder_day_disagrees", name, message)


def _sort_outside(listing: Listing, name: str, modalities: Sequence[str], kinds: Mapping[str, Kind]) -> None:
    """A file that lies in no subject's folder."""
    if not looks_like_scan(name, set(kinds.values())):
        listing.account.others.append(name)
        return
    if not has_ending(name, "volume") and pass_over_unread(listing, name, "volume", modalities[0]):
        return
    suffix = suffix_of(name)
    top = name.split("/")[0]
    is_subject = top.lower().startswith(("sub-", "sub_"))
    if "/" in name and is_subject:
        why = f"folders of subjects are called sub-*, this one {top}; rename it to sub-{top[4:]}"
    elif is_subject:
        why = f"lies beside the folders of the subjects; move it to {suffix_folder(name)}"
    else:
        why = "lies outside the folders sub-* of the subjects; move it there if it is a scan"
    listing.account.pass_over("outside_subjects", name, why, leaves_out=is_subject and suffix in modalities)


def suffix_folder(name: str) -> str:
    """Where a file at the top of a data set belongs, for example `sub-01/ses-02/anat`."""
    path = read_bids_name(f"{name.split('_')[0]}/{name}")
    return "/".join(part for part in (path.subject_id, path.session_id, "anat") if part)


def _data_set_name(source: Location, listing: Listing) -> str:
    """The data set's own name from its description, blanks made single; empty where there is none."""
    account = listing.account
    try:
        fields = json.loads(read_text(source, DESCRIPTION))
    except TextError as error:
        account.pass_over("table_unreadable", DESCRIPTION, str(error))
        return ""
    except (json.JSONDecodeError, RecursionError) as error:
        account.read.add(DESCRIPTION)
        message = f"{DESCRIPTION}: not JSON ({error}), so the data set has no name; mend it, or give --cohort"
        account.add("description_unreadable", DESCRIPTION, message)
        return ""
    account.read.add(DESCRIPTION)
    name = fields.get("Name", "") if isinstance(fields, dict) else None
    if not isinstance(name, str):
        message = f"{DESCRIPTION}: its Name is no text, so the data set has no name; mend it, or give --cohort"
        account.add("description_unreadable", DESCRIPTION, message)
        return ""
    return readable(" ".join(name.split()))
