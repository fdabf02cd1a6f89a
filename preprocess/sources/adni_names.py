"""What the folders and names of an ADNI download say: person, acquisition, image, contrast, and steps of processing.

A download is `ADNI/002_S_0413/MPRAGE/2006-05-02_12_31_52.0/S13893/` with files such as
`ADNI_002_S_0413_MR_MPRAGE_br_raw_20060503091122333_1_S13893_I14032.nii`; the last folder is the series or the image,
the 17 digits are the time of archiving. Dates leave this module as numbers of days only: names that are stored or
printed have `DATE` and `TIME` in their place. Pure.
"""

import re
from dataclasses import dataclass
from datetime import date

from preprocess.file_types import without_ending
from preprocess.sources.files import Files, Unlisted
from preprocess.sources.names import derived_word, modalities_of, words_of

_SUBJECT = re.compile(r"\d{3}_S_\d{4,5}")
"""Four digits, and five from ADNI4 on; a pattern of four drops all of that phase."""
_DATE_FOLDER = re.compile(r"(\d{4})-(\d{2})-(\d{2})([_T ]\d{2}_\d{2}_\d{2}(?:\.\d+)?)?")
_TIME = re.compile(r"(?<![\dIS])(?:\d{17}|(?:19|20)\d\d-?[01]\d-?[0-3]\d(?:\d{6})?)(?!\d)")
"""The 17 digits of archiving, and the date or time that dcm2niix puts into names; no number of an image or series."""
_IMAGE = re.compile(r"I\d+")
_SERIES = re.compile(r"S\d+")
_STEPS = re.compile(r"gradwarp|b1[ _]correction|n3m?(?![a-z0-9])|scaled", re.IGNORECASE)
_OTHER_MACHINE = re.compile(r"_(PT|PET|CT|NM)_")
_T1 = re.compile(r"mp[-_ ]?rage|mpr(?![a-z])|mt1(?![a-z0-9])|f?spgr", re.IGNORECASE)
"""`MPR` is MPRAGE in ADNI's descriptions, `MT1` the same of its second phase."""
_NO_SCAN = re.compile(
    r"locali[sz]er|scout|survey|plane|calibration|cal_scan|b1[-_ ]?cal|field[-_ ]?map|phantom|mosaic|moco|reformat|"
    r"rage.*_mpr",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"perfusion|cbf|asl|fcmri|fmri|resting|hippo|hhr|dti|diffusion|fse|gre|star|pcasl|swi|tensor|\bfa\b|adc|flair|proton",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AdniName:
    """What the path of a file says.

    Attributes:
        subject_id: such as `002_S_0413`; empty where the path names none.
        other_subject: another person whom the path names too; else empty.
        description: what the folder or the name calls the series.
        acquired: folder of the acquisition's date and time; empty where there is none.
        ordinal: proleptic day of that date; None without one.
        series: such as `S13893`; empty where unknown.
        image: such as `I45126`; empty where unknown.
        machine: `PT` and the like where the name says another machine than MR; else empty.
    """

    subject_id: str
    other_subject: str
    description: str
    acquired: str
    ordinal: int | None
    series: str
    image: str
    machine: str

    @property
    def steps(self) -> float:
        """How much processed the image is: steps of its description, and half a one without distortion correction."""
        return len(set(_STEPS.findall(self.description.lower()))) + 0.5 * self.is_without_distortion_correction

    @property
    def is_without_distortion_correction(self) -> bool:
        """Whether it is the ND twin of a series that was corrected for distortion (DIS3D)."""
        return self.description.upper().endswith("_ND")

    @property
    def rid(self) -> str:
        """What the tables call the person."""
        return rid_of(self.subject_id)


def person_of(text: str) -> str:
    """The person whom a path names, as the tables call people, such as `RID 413`; empty for none."""
    found = _SUBJECT.search(text)
    return rid_of(found[0]) if found else ""


def is_subject(text: str) -> bool:
    """Whether a text is a person's id, such as `002_S_0413`, and nothing else."""
    return _SUBJECT.fullmatch(text) is not None


def rid_of(subject_id: str) -> str:
    """What the tables call a person: the last part of the id is the number RID."""
    return f"RID {int(subject_id.rpartition('_')[2])}"


def read_adni_name(name: str) -> AdniName:
    """Read the path of a file.

    Args:
        name: relative to the source, with its date.
    """
    *folders, base = name.split("/")
    stem = without_ending(base)
    subjects = [part for part in folders if _SUBJECT.fullmatch(part)]
    subjects += [found for found in _SUBJECT.findall(base) if found not in subjects]
    acquired = next((part for part in reversed(folders) if _DATE_FOLDER.fullmatch(part)), "")
    description = ""
    if acquired and (index := folders.index(acquired)) > 0 and not _SUBJECT.fullmatch(folders[index - 1]):
        description = folders[index - 1]
    elif found := re.search(r"_(?:MR|PT|CT)_(.+?)(?:_br_raw)?_\d{17}_", stem, re.IGNORECASE):
        description = re.sub(r"_Br$", "", found[1])
    leaf = folders[-1] if folders else ""
    images = [part for part in stem.split("_") if _IMAGE.fullmatch(part)]
    series = [part for part in stem.split("_") if re.fullmatch(r"S\d+", part)]
    machine = _OTHER_MACHINE.search(stem)
    return AdniName(
        subject_id=subjects[0] if subjects else "",
        other_subject=subjects[1] if len(subjects) > 1 else "",
        description=description,
        acquired=acquired,
        ordinal=_ordinal(acquired),
        series=series[-1] if series else leaf if _SERIES.fullmatch(leaf) else "",
        image=images[-1] if images else leaf if _IMAGE.fullmatch(leaf) else "",
        machine=machine[1] if machine else "",
    )


def _ordinal(acquired: str) -> int | None:
    found = _DATE_FOLDER.fullmatch(acquired)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])).toordinal() if found else None
    except ValueError:
        return None


def contrast_of(description: str) -> str:
    """The modality that a description says, as a BIDS suffix; `derived`, `localizer` or `other`; empty if unclear."""
    words = words_of(description)
    if derived_word(words):
        return "derived"
    if _NO_SCAN.search(description):
        return "localizer"
    said = modalities_of(words)
    if _T1.search(description) and said <= {"T1w"}:
        return "T1w"
    if len(said) == 1:
        return next(iter(said))
    return "other" if said or _OTHER.search(description) else ""


def without_dates(files: Files) -> tuple[Files, dict[str, str]]:
    """The files under names without dates, and the true name of each.

    Two files whose names differ by a date alone stay two: the later in order has `DATE~2`.
    """
    true_names: dict[str, str] = {}
    for name in files.sizes:
        number, label = 1, _undated(name, "DATE")
        while label in true_names:
            number += 1
            label = _undated(name, f"DATE~{number}")
        true_names[label] = name
    unlisted = [Unlisted(one.code, _undated(one.name, "DATE"), one.why) for one in files.unlisted]
    return Files({label: files.sizes[name] for label, name in true_names.items()}, unlisted), true_names


def _undated(name: str, date_word: str) -> str:
    *folders, base = name.split("/")
    folders = [date_word if _DATE_FOLDER.fullmatch(folder) else folder for folder in folders]
    if not any(folder.startswith("DATE") for folder in folders) and date_word != "DATE":
        folders.append(date_word)
    return "/".join((*folders, _TIME.sub("TIME", base)))
