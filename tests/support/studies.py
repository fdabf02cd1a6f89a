"""Small made-up downloads of OASIS-3 and ADNI, with the studies' own folders, headings, codes and irregularities.

    python -m tests.support.studies oasis3 FOLDER
    python -m tests.support.studies adni FOLDER

writes FOLDER/scans and FOLDER/tables. People, days and scores are made up; only the form is the study's.
"""

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from tests.support.images import head_file
from tests.support.series import FIRST_DAY, files_of, fine_slices

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


ADNIMERGE_HEADINGS = (
    "RID", "COLPROT", "ORIGPROT", "PTID", "SITE", "VISCODE", "EXAMDATE", "DX_bl", "AGE", "PTGENDER", "PTEDUCAT",
    "APOE4", "ABETA", "TAU", "PTAU", "CDRSB", "ADAS13", "MMSE", "FLDSTRENG", "IMAGEUID", "DX", "EXAMDATE_bl",
    "CDRSB_bl", "MMSE_bl", "LDELTOTAL_BL", "Month", "M",
)  # fmt: skip
REGISTRY_HEADINGS = ("Phase", "ID", "RID", "VISCODE", "VISCODE2", "USERDATE", "EXAMDATE")
MMSE_HEADINGS = ("Phase", "ID", "RID", "VISCODE", "VISCODE2", "USERDATE", "EXAMDATE", "MMSCORE")
QUALITY_HEADINGS = ("RID", "LONI_IMAGE", "LONI_STUDY", "SERIES_QUALITY", "SERIES_COMMENTS")


def merged(person: str, code: str, day: str, mmse: object, box_sum: object, **more: object) -> dict[str, object]:
    """A row of ADNIMERGE; `more` overrides cells by heading."""
    row = {"RID": int(person.rpartition("_")[2]), "PTID": person, "COLPROT": "ADNI1", "VISCODE": code, "EXAMDATE": day}
    return {**row, "MMSE": mmse, "CDRSB": box_sum, "AGE": 76.3, "DX": "CN", "FLDSTRENG": "1.5 Tesla MRI", **more}


def adni_scan(
    person: str,
    description: str,
    day: str,
    image: int,
    *,
    series: int = 0,
    raw: bool = True,
    ending: str = ".nii",
    machine: str = "MR",
    time: str = "12_31_52.0",
) -> str:
    """Where LONI puts a scan; the leaf is the series where one is given, as in older downloads, else the image."""
    plain = description.replace("-", "_")
    archived = f"{day.replace('-', '')}091122333"
    middle = "br_raw" if raw else "Br"
    of_series = series or image + 7
    base = f"ADNI_{person}_{machine}_{plain}_{middle}_{archived}_1_S{of_series}_I{image}{ending}"
    leaf = f"S{series}" if series else f"I{image}"
    return f"ADNI/{person}/{description}/{day}_{time}/{leaf}/{base}"


_PROCESSED = "MPR__GradWarp__B1_Correction__N3__Scaled"
ADNI_SCANS = (
    adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 14032, series=13893),
    adni_scan("002_S_0413", _PROCESSED, "2006-05-02", 45126, series=13893, raw=False),
    adni_scan("002_S_0413", "MPRAGE_REPEAT", "2006-05-02", 14033, time="12_41_10.0"),
    adni_scan("002_S_0413", "MPRAGE", "2006-11-15", 40683),
    adni_scan("002_S_0413", "3_Plane_Localizer", "2006-11-15", 40680),
    adni_scan("002_S_0413", "FDG_Brain", "2006-05-20", 50001, machine="PT"),
    adni_scan("003_S_0907", "MP-RAGE", "2006-09-11", 23456),
    adni_scan("003_S_0907", "MPR__GradWarp", "2007-04-02", 61234, raw=False),
    adni_scan("003_S_0907", "Axial_PD-T2_FSE", "2007-04-02", 61230),
    adni_scan("100_S_10029", "Accelerated_Sagittal_MPRAGE", "2023-03-01", 10198501),
    adni_scan("100_S_10029", "Accelerated_Sagittal_MPRAGE_ND", "2023-03-01", 10198502, time="12_31_53.0"),
    adni_scan("005_S_0553", "MPRAGE", "2006-07-01", 30001),
    adni_scan("006_S_0681", "MPRAGE", "2006-08-31", 30500, ending=".dcm"),
    "ADNI/002_S_0413/ADNI_002_S_0413_MPRAGE_S13893_I14032.xml",
)
"""Both kinds of leaf, a processed twin, a repeat, an ND twin, five-digit people, DICOM, PET, and no visit in reach."""
ADNIMERGE = (
    merged("002_S_0413", "bl", "2006-05-19", 29, 0, IMAGEUID="45126.0", Month=0, ABETA=">1700"),
    merged("002_S_0413", "m06", "2006-11-15", 29, -1, Month=6, ABETA=812.3),
    merged("002_S_0413", "m12", "2009-05-29", -4, 0.5, Month=12),
    merged("003_S_0907", "bl", "2006-09-11", 27, 1.5, AGE=88.4, DX="MCI", IMAGEUID="61234.0"),
    merged("003_S_0907", "m06", "2007-03-13", 26, 2, AGE=88.4, DX="Dementia"),
    merged("003_S_0907", "f", "2006-08-01", 26, ""),
    merged("005_S_0553", "bl", "2005-11-28", 28, 0, DX=""),
    merged("006_S_0681", "bl", "2006-08-31", 30, 0),
    merged("098_S_0896", "bl", "2006-09-02", 25, 3.5, DX="AD"),
)
ADNI_MMSE = (
    {"Phase": "ADNI4", "RID": 10029, "VISCODE": "4_init", "USERDATE": "2023-04-01", "MMSCORE": 24},
    {"Phase": "ADNI4", "RID": 10030, "VISCODE": "4_sc", "USERDATE": "2023-04-01", "MMSCORE": 24},
    {"Phase": "ADNI1", "RID": 413, "VISCODE": "m06", "VISCODE2": "m06", "EXAMDATE": "2006-11-15", "MMSCORE": 29},
)
ADNI_REGISTRY = (
    {"Phase": "ADNI4", "RID": 10029, "VISCODE": "4_init", "EXAMDATE": "2023-03-10"},
    {"Phase": "ADNI2", "RID": 413, "VISCODE": "v06", "VISCODE2": "m72", "EXAMDATE": "2012-05-01"},
)
ADNI_QUALITY = (
    {"RID": 413, "LONI_IMAGE": "I14033", "SERIES_QUALITY": 4},
    {"RID": 413, "LONI_IMAGE": "I14032", "SERIES_QUALITY": 1},
    {"RID": 907, "LONI_IMAGE": "I23456", "SERIES_QUALITY": -1},
)


def _put_series(root: Path, name: str) -> None:
    """A DICOM series under names that count its slices before the series and the image, as LONI's do."""
    person, day = name.split("/")[1], date.fromisoformat(name.split("/")[3][:10])
    sets = fine_slices(patient=person, days=(day - FIRST_DAY).days, visit=day.toordinal())
    for index, content in enumerate(files_of(sets), start=1):
        put(root, name.replace("_1_S", f"_{index}_S"), content)


def write_adni(root: Path, *, scans: Sequence[str] = ADNI_SCANS) -> tuple[Path, Path]:
    """A download of ADNI with its tables; returns the folders of the scans and of the tables."""
    for number, name in enumerate(scans):
        if name.endswith(".dcm"):
            _put_series(root / "scans", name)
        else:
            put(root / "scans", name, "<xml/>" if name.endswith(".xml") else gzip.decompress(made_up_head(number)))
    put(root / "tables", "ADNIMERGE_18Oct2024.csv", table(ADNIMERGE_HEADINGS, ADNIMERGE))
    put(root / "tables", "MMSE_18Oct2024.csv", table(MMSE_HEADINGS, ADNI_MMSE))
    put(root / "tables", "REGISTRY_18Oct2024.csv", table(REGISTRY_HEADINGS, ADNI_REGISTRY))
    put(root / "tables", "MAYOADIRL_MRI_IMAGEQC_18Oct2024.csv", table(QUALITY_HEADINGS, ADNI_QUALITY))
    put(root / "tables", "MRILIST.csv", table(("TYPE", "SUBJECT", "SCANDATE", "IMAGEUID"), []))
    return root / "scans", root / "tables"


WRITERS = {"oasis3": write_oasis3, "adni": write_adni}

if __name__ == "__main__":
    _, which, folder = sys.argv
    WRITERS[which](Path(folder))
