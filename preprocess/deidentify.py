"""A listing without names: the one place through which every source passes when de-identification is asked for.

People, sessions, runs, sites and files get pseudonyms; entries of the account keep their code and lose their words,
which may quote cells and names; ages over 89 are left empty. Files are still read where they lie, so what is said of
them later is said by pseudonym too. What faces and rare values give away is beyond this; docs/deidentification.md.
"""

import csv
import io
import os
from dataclasses import replace

from preprocess.errors import InterscanError, ScanError, UsageError
from preprocess.people import alike_ids
from preprocess.plan import Found
from preprocess.pseudonyms import OLDEST_AGE, Pseudonyms, is_calendar_day
from preprocess.sources.listing import Listing
from preprocess.sources.reconciliation import CODES, PARTS, Reconciliation, Remark
from preprocess.storage import Location
from preprocess.types import Scan

_ITS_FILE = "its file"


class Deidentified:
    """A listing under pseudonyms, and what stands for what.

    Args:
        listing: as its source gives it; left as it is.
        pseudonyms: by the key.

    Attributes:
        listing: the listing under pseudonyms.
        notes: one line for each remark about the true names, without any.
    """

    def __init__(self, listing: Listing, pseudonyms: Pseudonyms) -> None:
        self._true = listing
        self._pseudonyms = pseudonyms
        self._by_name: dict[str, str] = {}
        alike = alike_ids(scan for scan, _, _ in listing.scans)
        again = "list the source without --deidentify to see which"
        self.notes = (
            [f"{len(alike)} groups of ids differ by zeros or case alone and may be one person; {again}"]
            if alike
            else []
        )
        has_dates = any(is_calendar_day(scan.day) for scan, _, _ in listing.scans)
        scans = [self._scan(found, has_dates=has_dates) for found in listing.scans]
        account = self._account(listing.account)
        for scan, _, _ in scans:
            _drop_high_age(scan, account)
        self.listing = replace(
            listing,
            scans=scans,
            account=account,
            in_tables=frozenset(pseudonyms.text(person) for person in listing.in_tables),
            people={pseudonyms.text(person): what for person, what in listing.people.items()},
            names=frozenset(map(self._file, listing.names)),
            key_check=pseudonyms.check,
        )

    def linking_table(self) -> str:
        """Tab-separated: what every name of the source became. Whoever has it can undo the pseudonyms."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(("what", "pseudonym", "name"))
        people = {(scan.cohort, scan.subject_id) for scan, _, _ in self._true.scans}
        rows = {("person", self._pseudonyms.subject(*person), "/".join(filter(None, person))) for person in people}
        rows |= {("person", self._pseudonyms.text(person), person) for person in self._true.people}
        for true, (made, _, _) in zip((scan for scan, _, _ in self._true.scans), self.listing.scans, strict=True):
            rows.add(("scan", made.name, true.name))
        rows |= {("file or entry", pseudonym, name) for name, pseudonym in self._by_name.items()}
        writer.writerows(sorted(rows))
        return text.getvalue()

    def hide(self, error: InterscanError) -> InterscanError:
        """The same error with every true name in its message replaced."""
        text = str(error)
        root = self._true.root.uri
        known = {name: self._file(name) for name in self._true.names if "/" in name or "." in name}
        for scan, name, _ in self._true.scans:
            known |= {
                name: self._file(name),
                **dict.fromkeys(filter(None, (*scan.parts, scan.uri, scan.mask_uri)), _ITS_FILE),
            }
        known.pop(root, None)
        for name in sorted((name for name in known if name in text), key=len, reverse=True):
            text = text.replace(name, known[name])
        return error if isinstance(error, ScanError) else type(error)(text)

    def _scan(self, found: Found, *, has_dates: bool) -> Found:
        scan, name, num_bytes = found
        made, cohort, subject = self._pseudonyms, scan.cohort, scan.subject_id
        day = scan.day
        if day is not None and has_dates:
            day += made.shift_days(cohort, subject)
        hidden = replace(
            scan,
            subject_id=made.subject(cohort, subject),
            session_id=made.session(cohort, subject, scan.session_id),
            run=made.run(cohort, subject, scan.session_id, scan.run),
            site=made.site(cohort, scan.site),
            day=day,
            outcomes=dict(scan.outcomes),
            shown=_ITS_FILE,
        )
        return hidden, self._file(name), num_bytes

    def _account(self, account: Reconciliation) -> Reconciliation:
        remarks = [self._remark(remark) for remark in account.remarks]
        return Reconciliation(
            remarks=remarks,
            read=set(map(self._file, account.read)),
            others=list(map(self._file, account.others)),
            num_scan_files=account.num_scan_files,
        )

    def _remark(self, remark: Remark) -> Remark:
        part, what = CODES[remark.code]
        name = self._file(remark.name)
        message = f"{name}: {what or PARTS[part][0]} ({remark.code}; docs/findings.md has the remedy)"
        return replace(remark, name=name, message=message)

    def _file(self, name: str) -> str:
        if name not in self._by_name:
            self._by_name[name] = self._pseudonyms.file(name)
        return self._by_name[name]


def _drop_high_age(scan: Scan, account: Reconciliation) -> None:
    for column in [column for column in scan.outcomes if column == "age" or column.endswith("_age")]:
        if scan.outcomes[column] > OLDEST_AGE:
            del scan.outcomes[column]
            message = f"{scan.name}: {column} above {OLDEST_AGE:g} identifies a person; left empty"
            account.add("age_hidden", scan.name, message)


def hidden_names(error: InterscanError, source: str) -> UsageError:
    """What may be said of an error while a source is listed, when names may not be.

    Args:
        error: whose message may quote names of files and cells.
        source: as the user gave it.
    """
    return UsageError(
        f"{source}: cannot be listed ({type(error).__name__}); its message may hold names: see it with --dry-run and "
        "without --deidentify, where names may be seen"
    )


def write_linking_table(deidentified: Deidentified, file: str, store: Location) -> None:
    """Write the linking table where only this user can read it.

    Raises:
        UsageError: not a local path, one within the store, or one that cannot be written.
    """
    target = Location(file)
    if not target.is_local:
        raise UsageError(f"--linking-table {file}: names leave this machine with it; give a local path")
    path, root = os.path.realpath(target.path), os.path.realpath(store.path) if store.is_local else ""
    if root and (path == root or path.startswith(f"{root}/")):
        raise UsageError(f"--linking-table {file}: lies in the store, which it would undo; give another path")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as sink:
            os.fchmod(descriptor, 0o600)
            sink.write(deidentified.linking_table())
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UsageError(f"--linking-table {file}: {reason}; give a path that can be written") from error


def require_same_key(stored: str, wanted: str, *, where: str) -> None:
    """Refuse to put scans under pseudonyms of one key beside others.

    Args:
        stored: check value of the store's key; empty where its names are true ones.
        wanted: the same of the listing.
        where: what messages call the store.

    Raises:
        UsageError: they differ.
    """
    if stored == wanted:
        return
    if not stored:
        said = "its scans are stored under their true names; de-identify into a new store"
    elif not wanted:
        said = "its scans are de-identified; give --deidentify with the same key"
    else:
        said = "its scans are de-identified with another key, so one person would become two; give that key"
    raise UsageError(f"{where}: {said}")
