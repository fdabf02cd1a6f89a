"""Reads the files of stored scans again: which changed, and which that were left out would be kept today.

Content decides: an uncompressed scan that is replaced keeps its size, a copied cohort has other times, and a bucket
other tags. A scan that was left out is judged anew, since a missing decoder may be there now, or another limit.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from preprocess.errors import ScanError
from preprocess.forms import stored_form
from preprocess.index import IndexRecord
from preprocess.kinds import prepare_scan
from preprocess.machine import available_bytes
from preprocess.plan import Found, Identity, Reread, identity_of
from preprocess.pseudonyms import sayable
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import memory_of, require_memory
from preprocess.sources.reach import read_mask_file, read_scan
from preprocess.storage import Location
from preprocess.types import Finding, Scan

Read = Callable[[Scan], bytes]
"""The whole file of a scan; raises ScanError where it is not there."""
Judge = Callable[[bytes, Scan], tuple[Finding, ...] | None]
"""What is wrong with a file today; None when it would be kept."""
_READERS = 8
"""As a disk or a bucket answers several at once; each holds one file in memory."""


def reread(scans: Sequence[Found], stored: Sequence[IndexRecord], read: Read, judged: Judge) -> Reread:
    """Hold the source's files against the digests in the index.

    Args:
        scans: what the source lists.
        stored: the store's index.
        read: gives the whole file of a scan; see `Read`.
        judged: says what is wrong with a file's content today; see `Judge`.

    Raises:
        StorageError: the source refuses.
        UsageError: a scan that was left out needs an extra that is not installed.
    """
    known = {identity_of(record): record for record in stored}
    pairs = [(known[identity_of(found[0])], found) for found in scans if identity_of(found[0]) in known]
    turn = Lock()

    def judge_alone(data: bytes, scan: Scan) -> tuple[Finding, ...] | None:
        with turn:  # a whole head in float32 is 64 MB and more, several times over
            return judged(data, scan)

    with ThreadPoolExecutor(_READERS) as pool:
        answers = list(pool.map(lambda pair: _hold(pair[0], pair[1], read, judge_alone), pairs))
    return Reread(
        changed=frozenset(answer.identity for answer in answers if answer.is_changed),
        mended=frozenset(answer.identity for answer in answers if answer.is_mended),
        findings={answer.identity: answer.findings for answer in answers if answer.findings is not None},
    )


def digest_of(data: bytes) -> str:
    """SHA-256 of a file, as the index has it; empty for a file that could not be read."""
    return hashlib.sha256(data).hexdigest() if data else ""


def judge(data: bytes, scan: Scan, *, store: Location, recipe: VolumeRecipe) -> tuple[Finding, ...] | None:
    """What is wrong with a file today; None when it would be kept.

    Args:
        data: the whole file.
        scan: whose it is.
        store: whose arrays have a form that the file must have too.
        recipe: kinds, sizes and limits.

    Raises:
        UsageError: an extra that reads this type of file is not installed.
    """
    try:
        require_memory(memory_of(data, len(data), scan, recipe), available_bytes(), name=scan.name)
        prepared = prepare_scan(data, scan, recipe, mask=read_mask_file(scan))
        if prepared.values is None:
            return tuple(sayable(finding, scan) for finding in prepared.findings)
        form = stored_form(store, scan.modality) if recipe.kind_of(scan.modality) == "array" else None
        if form is not None:
            form.check(prepared, name=scan.name)
    except ScanError as error:
        return (sayable(error.finding, scan),)
    return None


def source_digest(source: Location, name: str, uri: str) -> str:
    """SHA-256 of a file of the source; empty where there is none.

    Args:
        source: its folder.
        name: relative to the folder, or absolute.
        uri: the whole path or URL where it is known, else empty.

    Raises:
        StorageError: the source refuses.
    """
    try:
        if "://" in (uri or name):
            return digest_of(Location(uri or name, source.options).read())
        return digest_of(Location(uri or source.key(name)).read() if source.is_local else source.read(name))
    except FileNotFoundError:
        return ""


def digest_reader(source: Location, scans: Sequence[Found]) -> Callable[[str, str], str]:
    """`source_digest` for one source, which also knows scans of several files, and those whose names are pseudonyms.

    Args:
        source: its folder.
        scans: what it lists.
    """
    known = {name: scan for scan, name, _ in scans if scan.parts or scan.shown}

    def digest(name: str, uri: str) -> str:
        if name not in known:
            return source_digest(source, name, uri)
        try:
            return digest_of(read_scan(source, known[name]))
        except ScanError:
            return ""

    return digest


@dataclass(frozen=True, slots=True)
class _Answer:
    identity: Identity
    is_changed: bool = False
    is_mended: bool = False
    findings: tuple[Finding, ...] | None = None


def _hold(record: IndexRecord, found: Found, read: Read, judged: Judge) -> _Answer:
    scan, _, num_bytes = found
    identity = identity_of(record)
    if num_bytes not in (0, record.source_bytes):  # 0 where the listing does not know
        return _Answer(identity, is_changed=True)
    try:
        data = read(scan)
    except ScanError:
        # Not there: what is stored stays, and is named as gone; what was missing is missing still.
        return _Answer(identity)
    if digest_of(data) != record.source_sha256 or not has_mask_of(record, scan):
        return _Answer(identity, is_changed=True)
    if record.present:
        return _Answer(identity)
    findings = judged(data, scan)
    return _Answer(identity, is_mended=findings is None, findings=findings)


def has_mask_of(record: IndexRecord, scan: Scan) -> bool:
    """Whether the mask that was applied is the one that is given today, or is not there any more, as a scan's file."""
    if record.preparation is None or not record.preparation.mask_sha256:
        return True
    try:
        return digest_of(read_mask_file(scan)) in ("", record.preparation.mask_sha256)
    except ScanError:
        return True
