"""Deletes one person from a store on request: objects first, then the index, and a digest that keeps the person out.

Cut off anywhere, the same call again ends it: as long as the index names the person, there is something left to delete.
What lies at the source, in backups and in copies elsewhere is not reached from here.
"""

from collections.abc import Set
from dataclasses import dataclass

from preprocess.errors import UsageError
from preprocess.index import listed, person_digest, person_of
from preprocess.lease import STORE, held
from preprocess.plan import Found
from preprocess.schema import Forgotten
from preprocess.sources.listing import Listing
from preprocess.sources.reconciliation import CODES, Remark
from preprocess.storage import Location
from preprocess.store import Store, read_manifest
from preprocess.writer import commit, roll_forward

_DELETED = "its person was deleted from the store on request"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted of a person.

    Attributes:
        num_rows: scans, in all modalities, that the index had.
        num_objects: how many of those scans had an object.
        content_sha256: digests of their voxels, by which caches name their copies.
    """

    num_rows: int
    num_objects: int
    content_sha256: tuple[str, ...]


def forget_person(store: Location, subject_id: str, *, cohort: str = "") -> Deleted:
    """Delete all rows of a person; rows of others keep their numbers and their bytes.

    Args:
        store: where the store is.
        subject_id: the person's id, for example `sub-03`.
        cohort: the data set within which the id is unique; empty where the store has one without a name.

    Raises:
        UsageError: the store has no such person, or nobody else.
        StoreError: it is none, or another process writes to it.
    """
    with held(store, STORE, does="deletes a person from") as leased:
        roll_forward(leased)
        opened = Store.open(leased)
        person = person_of(cohort, subject_id)
        mine = [record for record in opened.records if record.person == person]
        others = [record for record in opened.records if record.person != person]
        if not mine:
            known = sorted({record.cohort for record in opened.records if record.subject_id == subject_id})
            hint = f"; give --cohort, one of {', '.join(map(repr, known))}" if known else ""
            raise UsageError(f"{store.uri}: no person {person!r} in the index{hint}")
        if not others:
            raise UsageError(f"{store.uri}: {person!r} is the only person in it; delete the whole store instead")
        for record in mine:
            if record.modality in opened.manifest.arrays:
                leased.delete(opened.layout(record.modality).key(record.row))
        # The account of a source names its files, and with them the person; the next run writes a new one.
        accounts = {name: entry for name, entry in opened.manifest.reconciliation.items() if name != cohort}
        gone = Forgotten(person_sha256=person_digest(person), index_sha256=opened.manifest.index_sha256)
        commit(leased, opened.manifest.recipe, others, accounts, forgotten=(gone,))
        for name, entry in opened.manifest.reconciliation.items():
            if name not in accounts:
                leased.delete(entry.name)
    present = [record for record in mine if record.present]
    return Deleted(len(mine), len(present), tuple(sorted({record.content_sha256 for record in present})))


def leave_forgotten(listing: Listing, store: Location) -> list[str]:
    """Take scans of people who were deleted from the store out of a listing; returns a line about them, if any."""
    manifest = read_manifest(store)
    gone = {one.person_sha256 for one in (manifest.forgotten if manifest is not None else ())}
    if not gone:
        return []
    taken: list[Found] = []
    left: list[Found] = []
    for entry in listing.scans:
        person = person_of(entry[0].cohort, entry[0].subject_id)
        (left if person_digest(person) in gone else taken).append(entry)
    listing.scans = taken
    for number, (scan, _, _) in enumerate(left, start=1):
        # Without the name: the account stays in the store.
        listing.account.pass_over("forgotten", f"scan {number}", _DELETED, count=scan.num_files)
        listing.account.num_scan_files -= scan.num_files
    if listing.by_person:
        _hide_remarks(listing, gone)
    if not left:
        return []
    people = listed(sorted({scan.subject_id for scan, _, _ in left}))
    return [
        f"{len(left)} scans of {people} are not taken: deleted from the store on request; delete them at the source"
    ]


def _hide_remarks(listing: Listing, gone: Set[str]) -> None:
    """Take the people who were deleted out of an account whose entries begin with a person's id; files stay counted."""
    kept: list[Remark] = []
    for remark in listing.account.remarks:
        subject_id, slash, _ = remark.name.partition("/")
        if not slash or person_digest(person_of(listing.cohort, subject_id)) not in gone:
            kept.append(remark)
        elif CODES[remark.code][0] == "passed_over":
            name = f"entry {len(kept) + 1}"
            kept.append(Remark("forgotten", name, f"{name}: {_DELETED}", count=remark.count))
    listing.account.remarks = kept
