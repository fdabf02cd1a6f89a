"""Studies from download to store: the examples of their pages as they stand, and what the store holds of people."""

import json
import re
import shlex
from pathlib import Path

import fsspec
import pytest

from interscan.cli import run
from preprocess.accounts import read_account
from preprocess.manifest import OutcomeSpec
from preprocess.sources import list_scans
from preprocess.store import Store
from tests.support.studies import ADNI_SCANS, ADNIMERGE, WRITERS, adni_scan, made_up_head, put
from trainer.data.cohort import read_cohort
from trainer.data.pairs import rescan_pairs, visit_pairs

PAGES = Path(__file__).resolve().parents[2] / "docs"
TINY = ("--set", "grid=[24,24,24]", "--set", "spacing_mm=8", "--workers", "0")


@pytest.mark.parametrize("kind", ["oasis3", "adni"])
def test_the_example_of_the_page_runs_as_it_stands(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (PAGES / f"{kind}.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (expected,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for line in commands.splitlines():
        words = shlex.split(line)
        if words[0] == "python":
            assert words[1:3] == ["-m", "tests.support.studies"]
            WRITERS[words[3]](Path(words[4]))
        else:
            code = run(words[1:])
    assert _on_any_machine(capsys.readouterr().out) == _on_any_machine(expected)
    assert code == ("exit code is 1" in page)


def _on_any_machine(printed: str) -> str:
    """The text without the memory that is free, which differs from one machine to the next."""
    return re.sub(r"[0-9.]+ GB free$", "? GB free", printed, count=1, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", ["oasis3", "adni"])
def test_a_store_of_a_study_is_made_verified_and_found_whole_again(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, tables = WRITERS[kind](tmp_path / "raw")
    line = ["preprocess", str(scans), str(tmp_path / "store"), "--source-kind", kind, "--tables", str(tables), *TINY]
    run([*line, "--json"])
    first = json.loads(capsys.readouterr().out)
    assert first["found"] == first["kept"] + first["left_out"]
    assert first["people"]["found"] == sum(len(who) for text, who in first["people"].items() if text != "found")
    assert run(["verify", str(tmp_path / "store")]) == 0
    capsys.readouterr()
    run([*line, "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again == first
    store = Store.open(tmp_path / "store")
    assert read_account(store.location, store.manifest, first["cohort"]) == first["reconciliation"]


def test_repeats_of_one_day_are_rescans_and_visits_are_pairs_of_a_training_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, tables = WRITERS["adni"](tmp_path / "raw")
    (tables / "MAYOADIRL_MRI_IMAGEQC_18Oct2024.csv").unlink()  # which fails the repeat
    run(["preprocess", str(scans), str(tmp_path / "store"), "--source-kind", "adni", "--tables", str(tables), *TINY])
    cohort = read_cohort(Store.open(tmp_path / "store"), "T1w", "mmse")
    mmse = OutcomeSpec(name="mmse", higher_is_better=True, threshold=2.0)
    assert len(rescan_pairs(cohort, mmse)) == 1
    assert sorted(visit_pairs(cohort, mmse, which="consecutive").gap_days_P.tolist()) == [197, 203]


def test_scans_and_tables_may_lie_in_buckets(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    scans, tables = WRITERS["oasis3"](tmp_path)
    fs.put(str(tmp_path), "/studies", recursive=True)
    try:
        there = list_scans("memory://studies/scans", ("T1w",), source_kind="oasis3", tables="memory://studies/tables")
        one = "memory://studies/tables/OASIS3_UDSb4_cdr.csv"
        alone = list_scans("memory://studies/scans", ("T1w",), source_kind="oasis3", tables=one)
    finally:
        fs.rm("/studies", recursive=True)
    here = list_scans(str(scans), ("T1w",), source_kind="oasis3", tables=str(tables))
    assert [(scan.name, scan.outcomes) for scan, _, _ in there.scans] == [
        (scan.name, scan.outcomes) for scan, _, _ in here.scans
    ]
    assert there.account.remarks == here.account.remarks
    assert [scan.outcomes.get("mmse") for scan, _, _ in alone.scans] == [29, 29, 24, None, 29, None]


def test_no_date_of_adni_reaches_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, tables = WRITERS["adni"](tmp_path / "raw")
    run(["preprocess", str(scans), str(tmp_path / "store"), "--source-kind", "adni", "--tables", str(tables), *TINY])
    said = capsys.readouterr()
    held = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    names = " ".join(str(path) for path in (tmp_path / "store").rglob("*"))
    records = " ".join(str(record) for record in Store.open(tmp_path / "store").records)
    text = f"{said.out} {said.err} {names} {records}"
    dates = {str(row["EXAMDATE"]) for row in ADNIMERGE} | set(re.findall(r"\d{4}-\d\d-\d\d", " ".join(ADNI_SCANS)))
    for one in dates:
        for spelt in (one, one.replace("-", "")):
            assert spelt not in text
            assert spelt.encode() not in held


def test_an_earlier_scan_that_is_downloaded_later_moves_days_and_keeps_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["preprocess", str(tmp_path / "raw"), str(tmp_path / "store"), "--source-kind", "adni", *TINY]
    put(tmp_path / "raw", adni_scan("002_S_0413", "MPRAGE", "2007-05-02", 12, ending=".nii.gz"), made_up_head(1))
    assert run(line) == 0
    put(tmp_path / "raw", adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 99, ending=".nii.gz"), made_up_head(2))
    assert run(line) == 0
    capsys.readouterr()
    assert {(record.row, record.run, record.day) for record in Store.open(tmp_path / "store").records} == {
        (0, "run-12", 365.0), (1, "run-99", 0.0),
    }  # fmt: skip
