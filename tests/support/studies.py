"""Small made-up downloads of OASIS-3, with the release's own folders, headings, codes and irregularities.

    python -m tests.support.studies oasis3 FOLDER

writes FOLDER/scans and FOLDER/tables. People, days and scores are made up; only the form is the study's.
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from tests.support.images import head_file

Release = Literal["new", "old"]
B4_HEADINGS = (
    "OASISID", "OASIS_session_label", "days_to_visit", "age at visit", "MMSE", "memory", "orient", "judgment", "commun",
    "homehobb", "perscare", "CDRSUM", "CDRTOT", "dx1", "dx2", "dx3", "dx4", "dx5", "dx1_code", "dx2_code", "dx3_code",
    "dx4_code", "dx5_code",
)  # fmt: skip
D1_HEADINGS = (
    "OASISID", "OASIS_session_label", "days_to_visit", "NORMCOG", "DEMENTED", "MCIAMEM", "PROBAD", "POSSAD", "alzdis",
    "alzdisif",
)  # fmt: skip
ENTRY_HEADINGS = ("OASISID", "AgeatEntry", "GENDER", "EDUC", "SES", "HAND", "APOE")
OLD_HEADINGS = (
    "ADRC_ADRCCLINICALDATA ID", "Subject", "Date", "Age", "mmse", "ageAtEntry", "cdr", "commun", "dx1", "homehobb",
    "judgment", "memory", "orient", "perscare", "apoe", "sumbox", "acsparnt", "height", "weight",
)  # fmt: skip


@cache
def made_up_head(number: int) -> bytes:
    """A head of its own for each number, so that no two scans have equal content."""
    return head_file(0.9 + 0.01 * (number % 10), seed=number)


def put(root: Path, name: str, content: bytes | str = "{}") -> Path:
    """Write one file and the folders above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(headings: Sequence[str], rows: Iterable[Mapping[str, object]], *, bom: bool = False) -> str:
    """A CSV table; cells that a row does not name stay empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, headings, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(row) for row in rows)
    return ("\ufeff" if bom else "") + text.getvalue()


def b4(subject: str, day: int | str, mmse: object, cdr: object, box_sum: object, **more: object) -> dict[str, object]:
    """A row of UDSb4; `more` overrides cells by heading."""
    label = f"{subject}_UDSb4_d{int(day):04d}"
    row = {"OASISID": subject, "OASIS_session_label": label, "days_to_visit": day, "MMSE": mmse}
    return {**row, "CDRTOT": cdr, "CDRSUM": box_sum, "dx1": "Cognitively normal", **more}


def old(subject: str, day: int, mmse: object, cdr: object, box_sum: object, **more: object) -> dict[str, object]:
    """A row of the older release's clinical sheet."""
    row = {"ADRC_ADRCCLINICALDATA ID": f"{subject}_ClinicalData_d{day:04d}", "Subject": subject, "mmse": mmse}
    return {**row, "ageAtEntry": 70.5, "cdr": cdr, "sumbox": box_sum, "dx1": "Cognitively normal", **more}


OASIS3_SCANS = (
    "OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
    "OAS30001_MR_d0129/anat2/BIDS/sub-OAS30001_ses-d0129_run-01_T1w.json",
    "OAS30001_MR_d0129/anat3/NIFTI/sub-OAS30001_ses-d0129_run-02_T1w.nii.gz",
    "OAS30001_MR_d0129/anat3/BIDS/sub-OAS30001_ses-d0129_run-02_T1w.json",
    "OAS30001_MR_d0129/anat4/NIFTI/sub-OAS30001_ses-d0129_acq-TSE_T2w.nii.gz",
    "OAS30001_MR_d0757/anat2/NIFTI/sub-OAS30001_sess-d0757_T1w.nii.gz",
    "OAS30001_PIB_d0423/pet1/NIFTI/sub-OAS30001_ses-d0423_acq-PIB_pet.nii.gz",
    "OAS30001_CT_d0423/CT1/NIFTI/sub-OAS30001_ses-d0423_ct.nii.gz",
    "OAS30002_MR_d1182/scans/anat3-T1w/resources/NIFTI/files/sub-OAS30002_ses-d1184_T1w.nii.gz",
    "OAS30002_MR_d1182/scans/anat3-T1w/resources/BIDS/files/sub-OAS30002_ses-d1184_T1w.json",
    "OAS30003_MR_d0300/anat1/sub-OAS30003_ses-d0300_T1w.nii.gz",
    "OAS30003_MR_d0300/anat1/sub-OAS30003_ses-d0300_T1w.json",
    "OAS30004_MR_d2000/anat1/sub_OAS30004_ses_d2000_T1w.nii.gz",
    "README.txt",
)
"""All three XNAT layouts with a misspelt session, a regrouped copy, repeats, and sessions of PET and CT."""
OASIS3_B4 = (
    b4("OAS30001", "0", 29, 0, 0, **{"age at visit": 65.1}),
    b4("OAS30001", "339", 28, 0.5, 0.5, dx1="uncertain dementia"),
    b4("OAS30001", "0722", 24, 1, 4.5, dx1="AD Dementia"),
    b4("OAS30002", 1100, 99, 0, 0),
    b4("OAS30002", 1268, 30, 0, 0, dx1="."),
    b4("OAS30003", 200, 29, 0, 0, dx1="retarAD demion"),
    b4("OAS30003", 400, 27, 0, 0),
    b4("OAS30003", -39520, 27, 0, 0, **{"age at visit": -47}),
    b4("OAS30004", 100, 26, 0.5, 1),
    b4("OAS30009", 0, 30, 0, 0),
)
OASIS3_ENTRY = (
    {"OASISID": "OAS30001", "AgeatEntry": 65.2, "GENDER": 1, "EDUC": 12, "APOE": 23},
    {"OASISID": "OAS30002", "AgeatEntry": 67.3, "GENDER": 2, "EDUC": 0, "APOE": "#N/A"},
    {"OASISID": "OAS30003", "AgeatEntry": 58.8, "GENDER": 2},
)
OASIS3_D1 = (
    {"OASISID": "OAS30002", "OASIS_session_label": "OAS30002_USDd1_d1268", "days_to_visit": "1268", "DEMENTED": 1,
     "alzdis": 1, "alzdisif": 1},
)  # fmt: skip
OASIS3_OLD = (
    old("OAS30001", 0, 29, 0, 0),
    old("OAS30001", 339, 28, 0.5, 0.5),
    old("OAS30001", 722, 24, 1, 4.5, dx1="AD Dementia"),
    old("OAS30002", 1268, 30, 0, 0, dx1=".", ageAtEntry=67.3),
)


def as_bids(name: str) -> str:
    """Where the scripts of OASIS-3 put a file of the XNAT layout; the name of the file stays."""
    base = name.rpartition("/")[2]
    if not base.startswith("sub"):
        return base
    subject, session = name.split("/")[0].split("_")[::2]
    return f"sub-{subject}/ses-{session}/anat/{base}"


def write_oasis3(
    root: Path, *, release: Release = "new", is_bids: bool = False, scans: Sequence[str] = OASIS3_SCANS
) -> tuple[Path, Path]:
    """A download of OASIS-3 with the tables of one release; returns the folders of the scans and of the tables."""
    for number, name in enumerate(scans):
        content = made_up_head(number) if name.endswith(".nii.gz") else '{"Manufacturer": "Siemens"}'
        put(root / "scans", as_bids(name) if is_bids else name, content)
    if release == "old":
        put(root / "tables", "ADRC Clinical Data.csv", table(OLD_HEADINGS, OASIS3_OLD))
    else:
        put(root / "tables", "OASIS3_UDSb4_cdr.csv", table(B4_HEADINGS, OASIS3_B4, bom=True))
        put(root / "tables", "OASIS3_UDSd1_diagnoses.csv", table(D1_HEADINGS, OASIS3_D1))
        put(root / "tables", "OASIS3_demographics.csv", table(ENTRY_HEADINGS, OASIS3_ENTRY))
        put(root / "tables", "OASIS3_UDSa3.csv", table(("OASISID", "days_to_visit", "MOMAGE"), []))
    return root / "scans", root / "tables"


WRITERS = {"oasis3": write_oasis3}

if __name__ == "__main__":
    _, which, folder = sys.argv
    WRITERS[which](Path(folder))
