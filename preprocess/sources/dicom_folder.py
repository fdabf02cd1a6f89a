"""A folder or bucket of DICOM files: people, studies in the order of their dates, and the one series of each modality.

Every file is accounted for: it belongs to a chosen series, to a series that is passed over with a reason, or is no
image. Dates become days since a person's first study and are dropped. Entries are named by person, session and
SeriesNumber; names of files, UIDs and descriptions, in which people hide, stay out of messages and of the store.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time

from preprocess.dicom_geometry import Stack, plane_of
from preprocess.dicom_series import check_series
from preprocess.dicom_zip import packed_size
from preprocess.errors import ScanError, UsageError
from preprocess.sources.days import is_placeholder
from preprocess.sources.dicom_files import DicomFiles, Series, read_files
from preprocess.sources.files import Files
from preprocess.sources.listing import Listing
from preprocess.sources.series_rules import SeriesFacts, SeriesRule, SeriesRules
from preprocess.storage import Location
from preprocess.types import Finding, Scan

_SPLIT = 3
"""From so many series of one image that differ in their UID alone, an anonymiser made them."""
_MOST_SHOWN = 5
_UNLOST = frozenset({"localizer", "derived_series", "series_unlike", "scanner_other"})
"""Reasons by which a series is not the one that was asked for; any other one loses a scan."""


@dataclass(slots=True)
class _Study:
    """A person's visit.

    Attributes:
        uid: tells it from the person's others.
        when: its date and time; None where the date was removed.
        series: all its series.
    """

    uid: str = field(repr=False)
    when: datetime | None = None
    series: list[Series] = field(default_factory=list)


@dataclass(slots=True)
class _Candidate:
    """A series, where its slices lie, or why nowhere."""

    series: Series
    facts: SeriesFacts
    stack: Stack | None
    finding: Finding | None


def list_dicom(source: Location, files: Files, modalities: Sequence[str], rules: SeriesRules, *, where: str) -> Listing:
    """List the chosen series of every study.

    Args:
        source: the folder.
        files: what lies in it.
        modalities: BIDS suffixes, each with a rule.
        rules: which series is one of them.
        where: what messages call the rules.

    Raises:
        UsageError: no DICOM image there, no rule for a modality, or pydicom is not installed.
        StorageError: the bucket refuses.
    """
    chosen = rules.of(modalities, where=where)
    listing = Listing(source, by_person=True)
    found = read_files(source, files.sizes)
    _account(listing, found, files)
    if not found.series:
        why = next(iter(found.unreadable.values()), "give the folder of an export")
        raise UsageError(f"{source.uri}: no DICOM image among {len(files.sizes)} files; {why}")
    people: dict[str, dict[str, _Study]] = defaultdict(dict)
    for series in found.series.values():
        person, uid, _ = series.group
        if not person:
            why = "no PatientID, so nobody knows whose it is; export it with one"
            _pass_over(listing, "patient_unknown", f"series {series.first.series_number}", series, why, is_lost=True)
        elif "/" in person or not person.isprintable():
            why = "PatientID holds a slash or an unprintable character; correct it"
            _pass_over(listing, "patient_unknown", f"series {series.first.series_number}", series, why, is_lost=True)
        else:
            people[person].setdefault(uid, _Study(uid)).series.append(series)
    for studies in people.values():
        for study in studies.values():
            study.when = min((when for one in study.series if (when := _when(one))), default=None)
    is_one_date = is_placeholder(
        [{study.uid: study.when for study in studies.values() if study.when} for studies in people.values()]
    )
    if is_one_date:
        message = "all studies carry one date, so no scan gets a day; export them with dates shifted by one number"
        listing.account.add("days_contradict", "StudyDate", message)
    for person in sorted(people):
        _list_person(listing, person, list(people[person].values()), chosen, is_one_date)
    return listing


def _account(listing: Listing, found: DicomFiles, files: Files) -> None:
    account = listing.account
    account.others += found.others
    for number, one in enumerate(files.unlisted, start=1):
        is_lost = one.code == "folder_unreadable"
        account.pass_over(one.code, f"entry {number} that is no file", one.why, leaves_out=is_lost)
    if found.indexes:
        account.pass_over("dicom_index", "DICOMDIR", "an index of files, not needed", count=len(found.indexes))
    for sort, names in sorted(found.objects.items()):
        account.pass_over("dicom_object", f"modality {sort}", "no picture in it", count=len(names))
    numbers = {name: number for number, name in enumerate(files.sizes, start=1)}
    by_reason: dict[str, list[int]] = defaultdict(list)
    for name, why in found.unreadable.items():
        by_reason[why].append(numbers[name])
    for why, places in sorted(by_reason.items()):
        shown = ", ".join(map(str, places[:_MOST_SHOWN])) + (" and more" if len(places) > _MOST_SHOWN else "")
        which = f"{'file' if len(places) == 1 else 'files'} {shown} of {len(numbers)} in the order of their names"
        account.pass_over("dicom_unreadable", which, why, count=len(places), leaves_out=True)


def _when(series: Series) -> datetime | None:
    """Date and time of a series' study; None where no date can be read."""
    for written in series.first.dates:
        try:
            day = date.fromisoformat(f"{written[:4]}-{written[4:6]}-{written[6:8]}")
        except ValueError:
            continue
        try:
            clock = time(int(series.first.time[:2]), int(series.first.time[2:4]))
        except ValueError:
            clock = time(0)
        return datetime.combine(day, clock)
    return None


def _list_person(
    listing: Listing, person: str, studies: list[_Study], rules: Sequence[SeriesRule], is_one_date: bool
) -> None:
    studies.sort(key=lambda study: (study.when is None, study.when or datetime.min, study.uid))
    first = studies[0].when
    for number, study in enumerate(studies, start=1):
        session = f"ses-{number:02d}"
        if study.when is None:
            message = f"{person}_{session}: its study has no date, so it gets no day and stands last; give it its date"
            listing.account.add("study_date_missing", f"{person}/{session}", message)
        day = None
        if study.when is not None and first is not None and not is_one_date:
            day = float((study.when.date() - first.date()).days)
        _list_study(listing, study, rules, person=person, session=session, day=day)


def _list_study(
    listing: Listing, study: _Study, rules: Sequence[SeriesRule], *, person: str, session: str, day: float | None
) -> None:
    num_before, num_lost = len(listing.scans), listing.account.num_lost
    label = f"{person}/{session}"
    candidates = []
    for series in _trusted(listing, study.series, label):
        name = f"{person}_{session} series {series.first.series_number}"
        stack, finding = _judge(series, name)
        candidates.append(_Candidate(series, _facts(series, stack), stack, finding))
    taken: set[int] = set()
    reasons: dict[int, list[tuple[str, str, bool]]] = defaultdict(list)
    for rule in rules:
        best = _choose(candidates, rule, reasons)
        if best is None:
            continue
        series = candidates[best].series
        if best not in taken:
            listing.account.num_scan_files += len(series.names)
        taken.add(best)
        scan = Scan(
            person,
            session,
            rule.modality,
            listing.root.uri,
            day=day,
            scanner=series.first.scanner,
            parts=tuple(series.names),
        )
        name = f"{label}/series-{series.first.series_number}-{rule.modality}"
        listing.scans.append((scan, name, packed_size(series.sizes)))
    why_not = ""
    for index, candidate in enumerate(candidates):
        if index not in taken:
            code, why, is_lost = _heaviest(reasons[index])
            number = candidate.facts.number
            _pass_over(listing, code, f"{label} series {number}", candidate.series, why, is_lost=is_lost)
            if code not in ("localizer", "scanner_other") or not why_not:
                why_not = f"series {number}: {why}"
    if len(listing.scans) == num_before and listing.account.num_lost == num_lost:
        sought = " or ".join(rule.modality for rule in rules)
        message = (
            f"{person}_{session}: none of its {len(study.series)} series is a {sought} by the rules ({why_not}); "
            "--series-rules gives other rules"
        )
        listing.account.add("session_without_scan", label, message, leaves_out=True)


def _trusted(listing: Listing, series: Iterable[Series], label: str) -> list[Series]:
    """Series whose UIDs can be those of the scanner; the others are passed over."""
    kept: list[Series] = []
    alike: dict[object, list[Series]] = defaultdict(list)
    for one in sorted(series, key=lambda one: (one.first.series_number, one.group)):
        if len({header.dates[:1] for header in one.headers}) > 1:
            why = "one UID for images of several studies; export them with UIDs of their own"
            name = f"{label} series {one.first.series_number}"
            _pass_over(listing, "uids_untrusted", name, one, why, is_lost=True)
            continue
        frames = one.frames
        if len(frames) == 1:
            alike[one.first.series_number, one.first.text, frames[0].size, frames[0].orientation].append(one)
        else:
            kept.append(one)
    for split in alike.values():
        if len(split) < _SPLIT:
            kept += split
            continue
        why = f"{len(split)} images of one series have a SeriesInstanceUID each; export it with one UID"
        name = f"{label} series {split[0].first.series_number}"
        listing.account.pass_over("uids_untrusted", name, why, count=len(split), leaves_out=True)
    return kept


def _judge(series: Series, name: str) -> tuple[Stack | None, Finding | None]:
    try:
        return check_series(series.whole, name=name), None
    except ScanError as error:
        return None, error.finding


def _facts(series: Series, stack: Stack | None) -> SeriesFacts:
    first = series.first
    frames = series.frames
    spacing = None if stack is None else stack.step_mm
    plane = frames[0]
    return SeriesFacts(
        modality=first.modality,
        texts=first.text,
        image_types=frozenset(word for header in series.headers for word in header.image_type),
        plane=plane_of(plane.orientation),
        num_slices=len(frames) if stack is None else len(stack.places),
        slice_spacing_mm=spacing,
        voxel_mm3=None if spacing is None else spacing * plane.spacing_mm[0] * plane.spacing_mm[1],
        acquisition=first.acquisition,
        echo_time_ms=first.echo_time_ms,
        has_contrast=any(header.has_contrast for header in series.headers),
        number=first.series_number,
    )


def _choose(
    candidates: Sequence[_Candidate], rule: SeriesRule, reasons: dict[int, list[tuple[str, str, bool]]]
) -> int | None:
    """Index of the series of a rule; None without any. Why each other one is not it goes into `reasons`."""
    fitting: list[int] = []
    broken: list[tuple[int, str, str]] = []
    for index, candidate in enumerate(candidates):
        facts, finding = candidate.facts, candidate.finding
        if facts.modality != rule.scanner:
            said = facts.modality if facts.modality.isalnum() and len(facts.modality) <= 16 else "unknown"
            reasons[index].append(("scanner_other", f"modality {said}, expected {rule.scanner}", False))
        elif (fault := rule.fault(facts)) is not None and fault[0] in _UNLOST:
            reasons[index].append((fault[0], f"no {rule.modality}: {fault[1]}", False))
        elif finding is not None:
            broken.append((index, finding.code, finding.message.partition(": ")[2]))
        elif fault is not None:
            broken.append((index, fault[0], f"no {rule.modality}: {fault[1]}"))
        else:
            fitting.append(index)
    best = min(fitting, key=lambda index: rule.rank(candidates[index].facts), default=None)
    for index, code, why in broken:
        reasons[index].append((code, why, best is None))
    for index in fitting:
        if best is not None and index != best:
            number = candidates[best].facts.number
            why = f"series {number} is the {rule.modality} of this session (prefer); the rules may say otherwise"
            reasons[index].append(("series_second", why, False))
    return best


def _heaviest(reasons: Sequence[tuple[str, str, bool]]) -> tuple[str, str, bool]:
    """The reason that is told of several: one that loses a scan before one that chose another."""
    return min(reasons, key=lambda one: (not one[2], one[0] in _UNLOST))


def _pass_over(listing: Listing, code: str, name: str, series: Series, why: str, *, is_lost: bool) -> None:
    num_files = len(series.names)
    many = "1 file" if num_files == 1 else f"{num_files} files"
    listing.account.add(code, name, f"{name} ({many}): {why}", count=num_files, leaves_out=is_lost)
