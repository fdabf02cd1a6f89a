"""Plain folders: `<subject>.nii.gz`, `<subject>/<session>.nii.gz` or `<subject>/<visit>/<file>.nii.gz`.

What a file's own name says is believed: BIDS entities, the modality, a mask, the person. A folder whose names do not
say which part is the person is refused, with the layout that was seen and the line of a table that would say it: a
guess that takes visits for people puts one person on both sides of a split. Scores need a table or BIDS.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from preprocess.file_types import has_ending, without_ending
from preprocess.sources import names as naming
from preprocess.sources.files import Files
from preprocess.sources.layouts import refuse_unclear
from preprocess.sources.listing import Listing, add_unlisted, pass_over_unread, set_aside
from preprocess.storage import Location
from preprocess.types import Kind, Scan

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def list_folder(source: Location, files: Files, modalities: Sequence[str], kinds: Mapping[str, Kind]) -> Listing:
    """List a plain folder.

    Args:
        source: the folder.
        files: what lies in it.
        modalities: the first one names scans that do not say their own.
        kinds: kinds of the modalities that are no volumes; files with another kind's endings are passed over.

    Raises:
        UsageError: the names do not say which part is the person.
    """
    listing = Listing(source)
    add_unlisted(listing, files, modalities, kinds)
    kind = kinds.get(modalities[0], "volume")
    candidates = []
    for name in files.sizes:
        if set_aside(listing, name, {kind}):
            continue
        if has_ending(name, kind):
            candidates.append(name)
        elif not pass_over_unread(listing, name, kind, modalities[0]):
            listing.account.others.append(name)
    candidates = [name for name in candidates if not _pass_over_derived(listing, name, kind)]
    refuse_unclear(source.uri, candidates, kind, modalities)
    volumes = [one for one in modalities if kinds.get(one, "volume") == "volume"]
    for name in candidates:
        modality = _modality(listing, name, volumes) if kind == "volume" else modalities[0]
        if modality is not None:
            is_bids = naming.is_bids_name(without_ending(name), modalities)
            scan = _bids_named(listing, name, modality) if is_bids else _scan(listing, name, modality, kind)
            if scan is not None:
                listing.scans.append((scan, name, files.sizes[name]))
    _add_days(listing)
    return listing


def _pass_over_derived(listing: Listing, name: str, kind: Kind) -> bool:
    word = naming.derived_word(naming.words_of(without_ending(name))) if kind in ("volume", "image") else ""
    if word:
        listing.account.pass_over("derived", name, f"{word} says that it was made from a scan")
    return bool(word)


def _modality(listing: Listing, name: str, modalities: Sequence[str]) -> str | None:
    """What the file's name, or a folder named so, says; the first modality where nothing is said; else None."""
    folders = [part for part in name.split("/")[1:-1] if naming.is_modality_word(part)]
    said = naming.modalities_of(naming.words_of(without_ending(name))) or naming.modalities_of(folders)
    if not said:
        return modalities[0]
    if len(said) > 1:
        why = f"the name says {' and '.join(sorted(said))}; rename it after the one that it is"
        listing.account.pass_over("modality_unclear", name, why, leaves_out=True)
        return None
    (modality,) = said
    requested = next((one for one in modalities if one.lower() == modality.lower()), None)
    if requested is None:
        listing.other_modalities.add(modality)
        why = f"the name says {modality}, which was not asked for; give --modality to add it"
        listing.account.pass_over("other_modality", name, why)
    return requested


def _scan(listing: Listing, name: str, modality: str, kind: Kind) -> Scan | None:
    *folders, _ = name.split("/")
    stem = without_ending(name)
    rest = naming.without_modality(stem) if kind == "volume" else stem
    if not folders:
        return Scan(subject_id=rest or stem, session_id="", modality=modality, uri=listing.uri_of(name))
    subject = folders[0]
    person = naming.person_word(rest)
    if person and person.lower() not in (subject.lower(), *(word.lower() for word in naming.words_of(subject))):
        why = f"the folder says {subject}, the file {person}: two people; rename one of them"
        listing.account.pass_over("two_subjects", name, why, leaves_out=True)
        return None
    if rest.lower().startswith(subject.lower()) and rest[len(subject) : len(subject) + 1] in ("", "_", "-", ".", " "):
        rest = rest[len(subject) + 1 :]
    visits = [part for part in folders[1:] if not (kind == "volume" and naming.is_modality_word(part))]
    session = "_".join(part for part in (*visits, rest) if part)
    return Scan(subject_id=subject, session_id=session, modality=modality, uri=listing.uri_of(name))


def _bids_named(listing: Listing, name: str, modality: str) -> Scan | None:
    """A file with a BIDS name outside BIDS folders: its own entities say whose it is."""
    *folders, _ = name.split("/")
    stem = without_ending(name)
    subject = stem.split("_")[0]
    # Without a suffix the last entity would be taken for one.
    has_suffix = "-" not in stem.rpartition("_")[2]
    path = naming.read_bids_name(f"{subject}/{stem}" if has_suffix else f"{subject}/{stem}_{modality}")
    if folders and folders[0].startswith("sub-") and folders[0] != subject:
        why = f"the folder says {folders[0]}, the file {subject}: two people; rename one of them"
        listing.account.pass_over("two_subjects", name, why, leaves_out=True)
        return None
    if path.derived:
        listing.account.pass_over("derived", name, f"{path.derived} says that it was made from a scan")
        return None
    return Scan(subject, path.session_id, modality, listing.uri_of(name), run=path.run)


def _add_days(listing: Listing) -> None:
    """Days of people all of whose visits are named by a date."""
    dates: dict[str, list[date | None]] = defaultdict(list)
    for scan, _, _ in listing.scans:
        dates[scan.subject_id].append(_date(scan.session_id))
    firsts = {
        subject: min(known) for subject, found in dates.items() if len(known := [d for d in found if d]) == len(found)
    }
    listing.scans = [
        (replace(scan, day=float((when - firsts[scan.subject_id]).days)), name, size)
        if scan.subject_id in firsts and (when := _date(scan.session_id)) is not None
        else (scan, name, size)
        for scan, name, size in listing.scans
    ]


def _date(session: str) -> date | None:
    found = _ISO_DATE.match(session)
    try:
        return date.fromisoformat(found[0]) if found else None
    except ValueError:
        return None
