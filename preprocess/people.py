"""Whether a source's subjects are the people the store already has under their ids; refuses two people under one.

A subject's id says who somebody is only within its cohort. That a source is the one stored before, grown or read for
another modality, is recognised by equal files, never by equal names: every cohort has a `sub-01`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from preprocess.errors import UsageError
from preprocess.index import IndexRecord, listed
from preprocess.plan import Found, Identity, identity_of
from preprocess.types import Scan

Digest = Callable[[str, str], str]
"""SHA-256 of a file by its name relative to the source and, where it is a listed scan, its row; else empty."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a source beside its scans.

    Attributes:
        uri: for messages.
        cohort: its name, empty where it has none.
        is_claimed: whether the user said that its subjects are those of that name.
        names: names of all its files.
    """

    uri: str
    cohort: str
    is_claimed: bool
    names: frozenset[str]


def refuse_other_people(
    source: Source, scans: Sequence[Found], stored: Sequence[IndexRecord], changed: frozenset[Identity], digest: Digest
) -> None:
    """Refuse a source whose subjects have ids that the store knows from scans that are not this source's.

    Args:
        source: where the scans come from.
        scans: what it lists.
        stored: the store's index.
        changed: stored scans whose file holds other bytes there.
        digest: reads a file of the source; called only where nothing else decides.

    Raises:
        UsageError: names the subjects and both remedies.
    """
    if source.is_claimed:
        return
    mine: dict[str, list[IndexRecord]] = defaultdict(list)
    for record in stored:
        if record.cohort == source.cohort:
            mine[record.subject_id].append(record)
    found: dict[str, list[Found]] = defaultdict(list)
    for one in scans:
        if any(record.present for record in mine[one[0].subject_id]):
            found[one[0].subject_id].append(one)
    others = [
        subject_id
        for subject_id in sorted(found)
        if not _is_known(found[subject_id], mine[subject_id], source, changed, digest)
    ]
    if others:
        what = "a subject has an id" if len(others) == 1 else f"{len(others)} subjects have ids"
        raise UsageError(
            f"{source.uri}: {what} that the store has from scans that are not here: {listed(others)}; if they are "
            f"other people, name their cohort with --cohort NAME; if they are the same people, say so with --cohort "
            f"{source.cohort!r}"
        )


def refuse_another_name(source: Source, scans: Sequence[Found], stored: Sequence[IndexRecord], digest: Digest) -> None:
    """Refuse a cohort that the store has under another name: each of its people would become two.

    Args:
        source: where the scans come from.
        scans: what it lists.
        stored: the store's index.
        digest: reads a file of the source; called where name and size are those of a stored scan.

    Raises:
        UsageError: half or more of the scans that both have are the same files; names the stored name and the remedy.
    """
    known = {identity_of(record) for record in stored}
    elsewhere: dict[tuple[str, ...], list[IndexRecord]] = defaultdict(list)
    for record in stored:
        if record.source_sha256:
            elsewhere[identity_of(record)[1:]].append(record)
    alike = [one for one in scans if identity_of(one[0]) not in known and identity_of(one[0])[1:] in elsewhere]
    equal = [
        record
        for scan, name, num_bytes in alike
        for record in elsewhere[identity_of(scan)[1:]]
        if (record.source_uri, record.source_bytes) == (name, num_bytes)
        and digest(name, scan.uri) == record.source_sha256
    ]
    # A few files that two cohorts share are copies, and named as such when they are stored.
    if equal and 2 * len(equal) >= len(alike):
        stored_as = f"as cohort {equal[0].cohort!r}" if equal[0].cohort else "without the name of a cohort"
        raise UsageError(
            f"{source.uri}: {listed([record.name for record in equal])}: in the store already, {stored_as}, and "
            f"{source.cohort!r} would make two people of each subject; go on with --cohort {equal[0].cohort!r}, or "
            "preprocess into a new store"
        )


def gone_from(
    source: Source, scans: Sequence[Found], stored: Sequence[IndexRecord]
) -> tuple[tuple[IndexRecord, ...], str]:
    """Stored scans of the source's cohort whose file it no longer has, and a line that says so; empty without any.

    A source that the user calls a part of a cohort, or that has less than half of the stored scans, is a part: what it
    lacks is not gone. Files of other modalities are there, whether they are requested or not.

    Args:
        source: where the scans come from.
        scans: what it lists.
        stored: the store's index.
    """
    sizes = {identity_of(scan): num_bytes for scan, _, num_bytes in scans}
    mine = [record for record in stored if record.cohort == source.cohort and record.source_bytes]
    gone = [record for record in mine if not sizes.get(identity_of(record), record.source_uri in source.names)]
    if not gone or source.is_claimed:
        return (), ""
    if 2 * len(gone) > len(mine):
        num_there = len(mine) - len(gone)
        return (), f"the source has {num_there} of the {len(mine)} stored scans of its cohort; the others stay"
    names = listed([record.name for record in gone])
    what = "1 stored scan is" if len(gone) == 1 else f"{len(gone)} stored scans are"
    stay = "it stays" if len(gone) == 1 else "they stay"
    return tuple(gone), f"{what} no longer in the source: {names}; {stay}; to drop any, preprocess into a new store"


def alike_ids(scans: Iterable[Scan | IndexRecord]) -> list[str]:
    """One line for each set of ids that differ only in case or in leading zeros, as `sub-1` and `sub-01` do.

    Args:
        scans: found and stored ones of one cohort.
    """
    alike: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for scan in scans:
        alike["subjects", _plain(scan.subject_id)].add(scan.subject_id)
        alike[f"visits of {scan.subject_id}", _plain(scan.session_id)].add(scan.session_id)
    return [
        f"{listed(sorted(ids))}: {what} whose ids differ only in case or zeros are kept apart; if they are one, write "
        "the id alike and preprocess into a new store"
        for (what, _), ids in sorted(alike.items())
        if len(ids) > 1
    ]


def _is_known(
    found: Sequence[Found],
    records: Sequence[IndexRecord],
    source: Source,
    changed: frozenset[Identity],
    digest: Digest,
) -> bool:
    """Whether a file of the subject, listed or not, is one that the store has of it."""
    known = {identity_of(record) for record in records} - changed
    if any(num_bytes and identity_of(scan) in known for scan, _, num_bytes in found):
        return True
    by_name = (record for record in records if record.source_sha256 and record.source_uri in source.names)
    if any(digest(record.source_uri, "") == record.source_sha256 for record in by_name):
        return True
    by_size = {record.source_bytes: record for record in records if record.source_sha256}
    moved = ((name, scan.uri, by_size[num_bytes]) for scan, name, num_bytes in found if num_bytes in by_size)
    return any(digest(name, uri) == record.source_sha256 for name, uri, record in moved)


def _plain(identifier: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", identifier.casefold())
