"""ADNI: folders as LONI gives them, one image of each acquisition, with the clinical visit nearest to its date.

The day of a scan counts from the person's first scan; dates are read to count and join, and neither stored nor printed.
An acquisition is often there raw and after one or more steps of processing: the form with the fewest steps is kept,
since it is the one that every visit has, and the others are named. Tables are read by `adni_tables`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from preprocess.file_types import DICOM_ENDINGS, has_ending, without_ending
from preprocess.sources.adni_names import AdniName, contrast_of, read_adni_name, without_dates
from preprocess.sources.adni_series import Slices, group_slices, judge_slices
from preprocess.sources.adni_tables import DIAGNOSES, Clinical, is_same_visit, read_clinical, years_at
from preprocess.sources.bids_tables import scanner_of
from preprocess.sources.clinical import ClinicalVisit, Imaged, nearest_visits, say_diagnoses
from preprocess.sources.files import Files
from preprocess.sources.listing import Listing, looks_like_scan, pass_over_unread, set_aside
from preprocess.sources.names import nearest
from preprocess.sources.study_tables import TABLE_ENDINGS, StudyDownload, read_study_tables
from preprocess.types import Scan

WINDOW_DAYS = 90.0
"""The median gap between image and visit is 0 to 19 days, by phase; 0.5 to 8 % of scans lie further than 90 days from
every visit and stay without scores. Visits are planned half a year apart, so within 90 days one visit is meant."""


@dataclass(frozen=True, slots=True)
class _Image:
    """A file, or a folder of DICOM slices, that is a scan of a requested modality.

    Attributes:
        label: its name without dates.
        path: what its path says.
        modality: as requested.
        size: in bytes.
        forms: ids of all images of the same acquisition, its own among them.
        slices: the files of a DICOM series.
        scanner: what the headers of the slices say.
    """

    label: str
    path: AdniName
    modality: str
    size: int
    forms: tuple[str, ...] = ()
    slices: Slices | None = None
    scanner: str = ""

    @property
    def num_files(self) -> int:
        """Files that it is made of."""
        return 1 if self.slices is None else len(self.slices.names)


def list_adni(download: StudyDownload) -> Listing:
    """List the scans of an ADNI download.

    Raises:
        UsageError: the folder of the tables is not there.
        StorageError: a bucket refuses.
    """
    files, modalities, kinds = download.files, download.modalities, download.kinds
    listing = Listing(download.root, cohort="ADNI")
    undated, true_names = without_dates(files)
    _add_unlisted(listing, files, undated, modalities)
    beside: list[str] = []
    images: list[_Image] = []
    dicom: list[str] = []
    converted = {name.rpartition("/")[0] for name in true_names.values() if has_ending(name, "volume")}
    lost: set[str] = set()
    for label, size in undated.sizes.items():
        name = true_names[label]
        if set_aside(listing, label, set(kinds.values())):
            continue
        if label.lower().endswith(TABLE_ENDINGS):
            # A table in a dated folder belongs to a scan, and to no study; its name may not be printed.
            (beside if label == name else listing.account.others).append(label)
        elif label.lower().endswith(DICOM_ENDINGS):
            dicom.append(label)
        elif not looks_like_scan(label, set(kinds.values())):
            listing.account.others.append(label)
        else:
            path = read_adni_name(name)
            modality = _modality(listing, label, path, modalities)
            if modality and has_ending(label, kinds.get(modality, "volume")):
                images.append(_Image(label, path, modality, size))
            elif modality:
                # One image of many files is one scan that is lost, and none where its volume lies beside it.
                folder = name.rpartition("/")[0]
                is_lost = folder not in converted | lost
                lost.add(folder)
                if not pass_over_unread(listing, label, "volume", modality, leaves_out=is_lost):
                    listing.account.others.append(label)
    for slices in group_slices(dicom, true_names, undated.sizes):
        images += _dicom_image(listing, slices, modalities, is_converted=slices.folder in converted)
    clinical = read_clinical(read_study_tables(listing, beside, download.tables), listing.account, download.choice)
    listing.in_tables = frozenset(clinical.people)
    kept = _least_processed(listing, _without_failed(listing, images, clinical))
    _add_scans(listing, kept, true_names, clinical, download.window_days)
    listing.names = frozenset((*undated.sizes, *(one.name for one in undated.unlisted)))
    return listing


def _add_unlisted(listing: Listing, files: Files, undated: Files, modalities: Sequence[str]) -> None:
    """Account for links to nothing and the like; one that would be a scan of a requested modality is lost."""
    # Both are in the order of the true names.
    for one, shown in zip(files.unlisted, undated.unlisted, strict=True):
        contrast = contrast_of(read_adni_name(one.name).description)
        is_scan = has_ending(one.name, "volume") and bool(nearest(contrast, modalities))
        is_lost = (is_scan and one.code != "link_repeated") or one.code == "folder_unreadable"
        listing.account.pass_over(shown.code, shown.name, shown.why, leaves_out=is_lost)


def _dicom_image(listing: Listing, slices: Slices, modalities: Sequence[str], *, is_converted: bool) -> list[_Image]:
    """The scan that slices are; none, with the reason in the account, for those that are none."""
    account, count = listing.account, len(slices.names)
    modality = _modality(listing, slices.label, slices.path, modalities, count=count)
    if not modality:
        return []
    if is_converted:
        why = "DICOM slices beside the volume that was made of them, which is kept; delete it to read the slices"
        account.pass_over("raw_and_processed", slices.label, why, count=count)
        return []
    verdict = judge_slices(listing.root, slices)
    if verdict.code:
        account.pass_over(verdict.code, slices.label, verdict.why, count=count, leaves_out=verdict.code != "not_mr")
        return []
    if verdict.days_apart:
        message = f"{slices.label}: its headers and its folder are {verdict.days_apart} days apart"
        account.add("days_contradict", slices.label, f"{message}; the folder is believed, correct it if it is wrong")
    return [_Image(slices.label, slices.path, modality, slices.packed_size, slices=slices, scanner=verdict.scanner)]


def _modality(listing: Listing, label: str, path: AdniName, modalities: Sequence[str], *, count: int = 1) -> str:
    """The requested modality of `count` files; empty, with the reason in the account, for every other."""
    account = listing.account
    if not path.subject_id:
        why = "no folder or name of the form 002_S_0413; name it in a table of scans"
        account.pass_over("id_grammar", label, why, count=count, leaves_out=True)
        return ""
    if path.other_subject:
        why = f"the path names two subjects, {path.subject_id} and {path.other_subject}; rename the wrong one"
        account.pass_over("two_subjects", label, why, count=count, leaves_out=True)
        return ""
    contrast = contrast_of(path.description)
    if path.machine:
        account.pass_over("not_mr", label, f"an image of {path.machine}, and no MR scan; nothing to do", count=count)
    elif contrast == "derived":
        account.pass_over("derived", label, f"{path.description} says that it was made from a scan", count=count)
    elif not contrast:
        shown = path.description or "no description"
        why = f"{shown} says no contrast that is known; name it in a table of scans if it is one of {modalities[0]}"
        account.pass_over("modality_unclear", label, why, count=count, leaves_out=True)
    elif requested := nearest(contrast, modalities):
        return requested
    else:
        listing.other_modalities.add(contrast)
        why = f"{path.description} is {contrast}, which was not asked for; give --modality to add it"
        account.pass_over("other_modality", label, why, count=count)
    return ""


def _without_failed(listing: Listing, images: Sequence[_Image], clinical: Clinical) -> list[_Image]:
    account = listing.account
    whose = {image.path.image: image.path.rid for image in images}
    failed = set()
    for rated, rating in clinical.ratings.items():
        where = rating.where
        if rated not in whose:
            account.add("row_without_scan", where, f"{where}: {rated} is no scan here")
        elif rating.person != whose[rated]:
            message = f"{where}: {rated} is of {whose[rated]}, and not of {rating.person or 'nobody'}; correct the row"
            account.add("bad_id", where, message)
        elif rating.is_failed:
            failed.add(rated)
    for image in images:
        if image.path.image in failed:
            where = clinical.ratings[image.path.image].where
            why = f"the study's quality control failed it ({where}: series_quality 4); delete that row to keep it"
            account.pass_over("qc_failed", image.label, why, count=image.num_files, leaves_out=True)
    return [image for image in images if image.path.image not in failed]


def _least_processed(listing: Listing, images: Sequence[_Image]) -> list[_Image]:
    """One image of each acquisition: that with the fewest steps of processing, of equal ones the lowest number."""
    corrected = {(one.path.subject_id, one.path.ordinal, one.path.description.upper()) for one in images}
    forms: dict[tuple[str, ...], list[_Image]] = defaultdict(list)
    for image in images:
        path = image.path
        twin = path.description.upper().removesuffix("_ND")
        if path.is_without_distortion_correction and (path.subject_id, path.ordinal, twin) in corrected:
            why = f"{path.description}, not corrected for distortion, beside {twin} of that day, which is kept"
            why += f"; delete {twin} to keep this one"
            listing.account.pass_over("raw_and_processed", image.label, why, count=image.num_files)
            continue
        acquisition = path.acquired or path.series or image.label
        forms[path.subject_id, image.modality, acquisition].append(image)
    kept = []
    for group in forms.values():
        for first, *others in _acquisitions(group):
            kept.append(replace(first, forms=tuple(one.path.image for one in (first, *others))))
            for image in others:
                what = f"{image.path.description or image.label}, another form of {first.label}"
                why = f"{what} ({first.path.description}), which has no more steps of processing and is kept"
                why += "; delete the form that is not meant"
                listing.account.pass_over("raw_and_processed", image.label, why, count=image.num_files)
    _say_mixed(listing, kept)
    return sorted(kept, key=lambda one: one.label)


def _acquisitions(group: Sequence[_Image]) -> list[list[_Image]]:
    """Images of one time by acquisition, the one to keep first.

    Times may be blank or shared by repeats: two images of two series are two acquisitions where neither is processed
    further than the other.
    """
    found: list[list[_Image]] = []
    for image in sorted(group, key=lambda one: (one.path.steps, _number(one.path.image), one.label)):
        series, steps = image.path.series, image.path.steps
        same = [one for one in found if one[0].path.series == series]
        same += [one for one in found if steps > one[0].path.steps or not (series and one[0].path.series)]
        if same:
            same[0].append(image)
        else:
            found.append([image])
    return found


def _number(image: str) -> int:
    return int(image[1:]) if image else 0


def _say_mixed(listing: Listing, kept: Sequence[_Image]) -> None:
    steps: dict[str, dict[float, str]] = defaultdict(dict)
    for image in kept:
        steps[image.path.subject_id].setdefault(int(image.path.steps), image.path.description)
    for subject, found in steps.items():
        if len(found) > 1:
            which = " and ".join(found[number] for number in sorted(found))
            message = f"{subject}: scans of several ways of processing ({which}), which can look like a change"
            listing.account.add("processing_mixed", subject, f"{message}; download one form of all visits")


def _add_scans(
    listing: Listing, kept: Sequence[_Image], true_names: Mapping[str, str], clinical: Clinical, window_days: float
) -> None:
    """Days from the person's first scan, sessions by day, and the scores of the nearest visit."""
    account = listing.account
    firsts: dict[str, int] = {}
    for image in kept:
        ordinal = image.path.ordinal
        if ordinal is not None:
            firsts[image.path.subject_id] = min(ordinal, firsts.get(image.path.subject_id, ordinal))
    sessions: dict[tuple[str, object], list[_Image]] = defaultdict(list)
    for image in kept:
        sessions[image.path.subject_id, image.label if image.path.ordinal is None else image.path.ordinal].append(image)
    names = {key: f"{key[0]}_{_session_id(group)}" for key, group in sessions.items()}
    imaged = {
        names[key]: Imaged(names[key], group[0].path.rid, group[0].path.ordinal) for key, group in sessions.items()
    }
    taken: dict[str, ClinicalVisit] = {}
    if clinical.visits:
        taken = nearest_visits(list(imaged.values()), clinical.visits, window_days=window_days, account=account)
        say_diagnoses(taken.values(), DIAGNOSES, "DX", account)
    for key, group in sessions.items():
        _say_session(listing, names[key], group, clinical, taken.get(names[key]))
        for image in group:
            path = image.path
            day = None if path.ordinal is None else float(path.ordinal - firsts[path.subject_id])
            scores = dict(taken[names[key]].scores) if names[key] in taken else {}
            if path.ordinal is not None and (birth := clinical.birth.get(path.rid)) is not None:
                scores["age"] = round(years_at(birth, path.ordinal), 2)
            scan = Scan(
                subject_id=path.subject_id,
                session_id=_session_id(group),
                modality=image.modality,
                uri=listing.uri_of(true_names[image.label]) if image.slices is None else listing.root.uri,
                # As BIDS numbers repeats, so that two of one day count as a rescan of each other.
                run=path.image.replace("I", "run-"),
                day=day,
                site=path.subject_id[:3],
                scanner=image.scanner or _scanner(listing, true_names, image.label),
                outcomes=scores,
                parts=() if image.slices is None else image.slices.names,
            )
            listing.scans.append((scan, image.label, image.size))
    listing.account.others = [label for label in listing.account.others if label not in listing.account.read]


def _scanner(listing: Listing, true_names: Mapping[str, str], label: str) -> str:
    """What the JSON beside a converted image says, or nothing; LONI's own XML has no maker."""
    sidecar = f"{label.rpartition('/')[0]}/{without_ending(label)}.json"
    return (
        scanner_of(listing.root, true_names[sidecar], listing.account, label=sidecar) if sidecar in true_names else ""
    )


def _session_id(group: Sequence[_Image]) -> str:
    """The lowest image of the day: unlike a day from the first scan, it stays when an earlier scan is downloaded."""
    lowest = min(group, key=lambda one: (_number(one.path.image), one.label)).path
    return f"ses-{lowest.image or lowest.series}" if lowest.image or lowest.series else ""


def _say_session(
    listing: Listing, name: str, group: Sequence[_Image], clinical: Clinical, visit: ClinicalVisit | None
) -> None:
    account = listing.account
    by_modality: dict[str, list[_Image]] = defaultdict(list)
    for image in group:
        by_modality[image.modality].append(image)
        if image.path.ordinal is None:
            message = f"{image.label}: no folder says its date, so it has no day and no scores; restore the folder"
            account.add("days_missing", image.label, message)
        named = next((clinical.images[form] for form in image.forms if form in clinical.images), None)
        if named is None:
            if clinical.has_images:
                message = f"{image.label}: no IMAGEUID is {image.path.image or 'its image'}, as for most raw ones"
                account.add("image_not_in_table", image.label, f"{message}; joined by its date, nothing to do")
        elif named[0] != image.path.rid:
            message = f"{image.label}: IMAGEUID stands in a row of {named[0]}, and the image is of {image.path.rid}"
            account.add("bad_id", image.label, f"{message}; correct the row")
        elif visit is not None and not is_same_visit(named[1], visit.visit):
            message = f"{image.label}: IMAGEUID stands in the row of {named[1]}, by its date {visit.visit} is nearest"
            account.add("days_contradict", image.label, f"{message}; the date is believed, correct the row")
    for modality, images in by_modality.items():
        if len(images) > 1:
            message = f"{name}_{modality}: {len(images)} scans of one day ({images[0].label}, ...), all kept as runs"
            account.add("several_runs", f"{name}_{modality}", f"{message}; delete any not wanted")
