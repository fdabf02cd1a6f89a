"""The studies: each finding of the layouts raised by its name, and nothing lost in silence whatever is changed."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from preprocess.sources import Listing, list_scans
from preprocess.sources.studies import STUDIES
from preprocess.types import SourceKind
from tests.support.studies import (
    ADNI_SCANS,
    B4_HEADINGS,
    OASIS3_SCANS,
    OLD_HEADINGS,
    adni_scan,
    b4,
    old,
    put,
    table,
    write_adni,
    write_oasis3,
)

WRITERS = {"oasis3": (write_oasis3, OASIS3_SCANS), "adni": (write_adni, ADNI_SCANS)}
FINDINGS = {
    "ID_GRAMMAR": "id_grammar",
    "FOLDER_DAY_DISAGREES": "folder_day_disagrees",
    "SESSION_NAME_MISSPELT": "name_misspelt",
    "NOT_A_PARTICIPANT": "not_a_participant",
    "SEVERAL_T1W": "several_runs",
    "SIDECAR_MISSING": "sidecar_missing",
    "NO_VISIT_IN_WINDOW": "no_visit_in_window",
    "VISIT_TIE": "visit_tie",
    "SENTINEL": "sentinel",
    "CENSORED": "censored",
    "IMPLAUSIBLE_DAY": "row_implausible",
    "UNKNOWN_DIAGNOSIS": "unknown_diagnosis",
    "DUPLICATE_VISIT": "duplicate_visit",
    "RELEASES_MIXED": "releases_mixed",
    "IMAGE_NOT_IN_TABLE": "image_not_in_table",
    "RAW_AND_PROCESSED": "raw_and_processed",
    "VISIT_CODE_UNKNOWN": "visit_code_unknown",
    "QC_FAILED": "qc_failed",
    "DAYS_MISSING": "days_missing",
    "DAYS_CONTRADICT": "days_contradict",
    "NOT_T1W": "other_modality",
}
"""Findings about folders and tables of studies, by the name that they were collected under. Those about DICOM headers
are raised where headers are read."""


def listed(kind: SourceKind, scans: Path, tables: Path) -> Listing:
    return list_scans(str(scans), ("T1w",), source_kind=kind, tables=str(tables))


def test_each_study_is_a_kind_that_can_be_named() -> None:
    assert set(STUDIES) <= set(get_args(SourceKind)) - {"auto"}


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A message of each code that the trees of both studies raise, with what they do not hold put in."""
    root = tmp_path_factory.mktemp("raised")
    oasis, oasis_tables = write_oasis3(root / "oasis3")
    put(oasis, "somebody/anat1/T1w.nii.gz")
    put(oasis, "sub-OAS30005/anat/sub-OAS30005_T1w.nii.gz")
    put(oasis, "0AS_data_files/old.csv", table(OLD_HEADINGS, [old("OAS30001", 0, 29, 0, 0)]))
    put(oasis_tables, "again.csv", table(B4_HEADINGS, [b4("OAS30001", 0, 25, 0, 0)]))
    adni, adni_tables = write_adni(root / "adni")
    account = [
        *listed("oasis3", oasis, oasis_tables).account.remarks,
        *listed("adni", adni, adni_tables).account.remarks,
    ]
    return {one.code: one.message for one in account}


@pytest.mark.parametrize(("finding", "code"), FINDINGS.items(), ids=list(FINDINGS))
def test_each_finding_about_studies_is_raised_by_its_name(finding: str, code: str, raised: dict[str, str]) -> None:
    assert code in raised, finding
    assert "\n" not in raised[code]


def unaccounted(listing: Listing, scans: Path, tables: Path) -> list[str]:
    """Files and rows that became neither a scan nor a use nor a remark; people who are neither."""
    account = listing.account
    said = " ".join(one.message for one in account.remarks)
    num_there = sum(path.is_file() for folder in (scans, tables) for path in folder.rglob("*"))
    lost = [] if account.files["there"] == num_there else [f"{account.files} of {num_there} files"]
    for path in sorted(tables.iterdir()):
        if path.name not in account.read:
            lost += [] if path.name in said or path.name in account.others else [path.name]
            continue
        for line, row in enumerate(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))), start=2):
            person = row.get("OASISID") or row.get("Subject") or row.get("RID") or ""
            names = {f"sub-{person}", person} if not person.isdigit() else {f"_S_{int(person):04d}"}
            has_scan = any(scan.subject_id.endswith(tuple(names)) for scan, _, _ in listing.scans)
            if f"{path.name} line {line}" not in said and not has_scan:
                lost.append(f"{path.name} line {line}: {row}")
            if person and not person_there(person, listing):
                lost.append(f"{person} is not among {sorted(listing.people)}")
    return lost


def person_there(person: str, listing: Listing) -> bool:
    """Whether the account of people has a table's person; a row with two ids, or none of the study's, names nobody."""
    name = f"RID {person}" if person.isdigit() else person
    return name in listing.people or any(one.code == "bad_id" for one in listing.account.remarks)


def seen(listing: Listing) -> object:
    """All that a user can see of a listing."""
    return (
        sorted(
            (scan.name, scan.day, scan.site, scan.scanner, sorted(scan.outcomes.items()))
            for scan, _, _ in listing.scans
        ),
        sorted((one.code, one.message) for one in listing.account.remarks),
        listing.account.files,
        sorted(listing.account.others),
    )


WITHOUT_EFFECT = {
    *(f"MAYOADIRL_MRI_IMAGEQC_18Oct2024.csv without line {line}" for line in (3, 4)),
    *(f"rename {name}" for name in ADNI_SCANS if name.endswith(".dcm")),
}
"""An image that was rated good, or not at all, is listed like one without a rating; a slice belongs to its folder."""

Change = Callable[[Path, Path], None]


def file_changes(names: tuple[str, ...]) -> Iterator[tuple[str, Change]]:
    for name in names:

        def remove(scans: Path, _: Path, name: str = name) -> None:
            (scans / name).unlink()

        def rename(scans: Path, _: Path, name: str = name) -> None:
            (scans / name).rename((scans / name).with_name(f"x{''.join((scans / name).suffixes[-2:])}"))

        def move(scans: Path, _: Path, name: str = name) -> None:
            put(scans, f"elsewhere/{Path(name).name}", (scans / name).read_bytes())
            (scans / name).unlink()

        yield f"remove {name}", remove
        yield f"rename {name}", rename
        yield f"move {name}", move


def table_changes(kind: SourceKind, tables: Path) -> Iterator[tuple[str, Change]]:
    for path in sorted(tables.iterdir()):

        def remove(_: Path, folder: Path, name: str = path.name) -> None:
            (folder / name).unlink()

        yield f"remove {path.name}", remove
        headings, *rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))

        def write(lines: list[list[str]], name: str = path.name) -> Change:
            def change(_: Path, folder: Path) -> None:
                text = io.StringIO()
                csv.writer(text).writerows(lines)
                (folder / name).write_text(text.getvalue())

            return change

        for index in range(len(rows)):
            yield f"{path.name} without line {index + 2}", write([headings, *rows[:index], *rows[index + 1 :]])
            # The column of ids, under the name that each table has for it.
            person = next(n for n, heading in enumerate(headings) if heading in ("OASISID", "Subject", "RID"))
            other = [*rows[index][:person], "OAS39999" if kind == "oasis3" else "9999", *rows[index][person + 1 :]]
            yield (
                f"{path.name} line {index + 2} of another",
                write([headings, *rows[:index], other, *rows[index + 1 :]]),
            )
        for index, heading in enumerate(headings):
            renamed = [*headings[:index], f"{heading} renamed", *headings[index + 1 :]]
            yield f"{path.name} heading {heading}", write([renamed, *rows])


@pytest.mark.parametrize("kind", ["oasis3", "adni"])
def test_whatever_is_removed_or_renamed_is_seen_and_nothing_is_lost_in_silence(
    kind: SourceKind, tmp_path: Path
) -> None:
    writer, names = WRITERS[kind]
    scans, tables = writer(tmp_path / "before", scans=())
    # Listing opens no scan, so empty files are enough.
    for name in names:
        put(scans, name)
    before = listed(kind, scans, tables)
    assert unaccounted(before, scans, tables) == []
    for title, change in [*file_changes(names), *table_changes(kind, tables)]:
        root = tmp_path / "after"
        shutil.copytree(tmp_path / "before", root)
        change(root / "scans", root / "tables")
        after = listed(kind, root / "scans", root / "tables")
        assert unaccounted(after, root / "scans", root / "tables") == [], title
        assert (seen(after) == seen(before)) == (title in WITHOUT_EFFECT), title
        shutil.rmtree(root)


def test_people_without_a_scan_and_scans_without_a_person_are_named(tmp_path: Path) -> None:
    scans, tables = write_adni(tmp_path, scans=(adni_scan("009_S_0999", "MPRAGE", "2006-05-02", 5),))
    messages = [one.message for one in listed("adni", scans, tables).account.remarks]
    assert "009_S_0999_ses-I5: no visit with scores of RID 999 in the tables; add one" in messages
    for rid in (413, 907, 553, 681, 896, 10029):
        assert any(f"RID {rid} " in one and "no scan of this person here" in one for one in messages), rid
