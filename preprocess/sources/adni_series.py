"""DICOM in an ADNI download: the slices of a folder that say one image are one scan, judged by their headers.

LONI's "original" collections are DICOM, a folder for each image. What its path says is believed, as for converted
images; headers must be those of one series of that person, or the scan is left out by name.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from preprocess.dicom_series import check_series
from preprocess.dicom_zip import packed_size
from preprocess.errors import ScanError
from preprocess.sources.adni_names import AdniName, is_subject, read_adni_name
from preprocess.sources.dicom_files import Series, read_files
from preprocess.storage import Location


@dataclass(frozen=True, slots=True)
class Slices:
    """Files of one folder that are slices of one image.

    Attributes:
        label: what messages and the store call it, without dates.
        path: what its path says.
        names: the files', with their dates.
        sizes: the files', in bytes.
    """

    label: str
    path: AdniName
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Where they lie, with its date."""
        return self.names[0].rpartition("/")[0]

    @property
    def packed_size(self) -> int:
        """Bytes of the archive that is made of it."""
        return packed_size(self.sizes)


@dataclass(frozen=True, slots=True)
class SeriesVerdict:
    """What the headers of slices say.

    Attributes:
        code: why they are no scan; empty where they are one.
        why: the same in words, with the remedy.
        scanner: maker and model.
        days_apart: days between the date in the headers and that of the path; None where one is missing.
    """

    code: str = ""
    why: str = ""
    scanner: str = ""
    days_apart: int | None = None


def group_slices(labels: Iterable[str], true_names: Mapping[str, str], sizes: Mapping[str, int]) -> list[Slices]:
    """Files by folder, and within it by the person and the image that their paths name, in the order of their labels.

    Args:
        labels: names of the DICOM files, without dates.
        true_names: with dates, by label.
        sizes: in bytes, by label.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for label in labels:
        name = true_names[label]
        path = read_adni_name(name)
        groups[name.rpartition("/")[0], path.subject_id, path.other_subject, path.image].append(label)
    found: list[Slices] = []
    taken: set[str] = set()
    for group in groups.values():
        path = read_adni_name(true_names[group[0]])
        folder = group[0].rpartition("/")[0]
        label = group[0] if not folder or folder in taken else folder
        taken.add(label)
        found.append(Slices(label, path, tuple(true_names[one] for one in group), tuple(sizes[one] for one in group)))
    return found


def judge_slices(root: Location, slices: Slices) -> SeriesVerdict:
    """Whether slices are one volume of the person whom their path names, by their headers alone.

    Raises:
        StorageError: the bucket refuses.
        UsageError: pydicom is not installed.
    """
    found = read_files(root, dict(zip(slices.names, slices.sizes, strict=True)))
    num_files, num_read = len(slices.names), sum(len(one.names) for one in found.series.values())
    if num_read < num_files:
        why = next(iter(found.unreadable.values()), "no DICOM image; download it again")
        return SeriesVerdict("dicom_unreadable", f"{num_files - num_read} of its {num_files} files: {why}")
    if len(found.series) > 1:
        why = f"{len(found.series)} series in one folder by their headers; give each a folder as LONI does"
        return SeriesVerdict("uids_untrusted", why)
    series = next(iter(found.series.values()))
    first = series.first
    subject = slices.path.subject_id
    if is_subject(first.patient_id) and first.patient_id != subject:
        return SeriesVerdict(
            "two_subjects", f"the path names {subject} and the headers {first.patient_id}; correct one"
        )
    if first.modality != "MR":
        said = first.modality if first.modality.isalnum() else "unknown"
        return SeriesVerdict("not_mr", f"DICOM of modality {said}, and no MR scan; nothing to do")
    try:
        check_series(series.whole, name=slices.label)
    except ScanError as error:
        return SeriesVerdict(error.finding.code, error.finding.message.partition(": ")[2])
    return SeriesVerdict(scanner=first.scanner, days_apart=_days_apart(series, slices.path.ordinal))


def _days_apart(series: Series, ordinal: int | None) -> int | None:
    for written in series.first.dates:
        try:
            day = date.fromisoformat(f"{written[:4]}-{written[4:6]}-{written[6:8]}")
        except ValueError:
            continue
        return None if ordinal is None else abs(day.toordinal() - ordinal)
    return None
