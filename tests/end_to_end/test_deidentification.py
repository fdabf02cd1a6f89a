"""No name gets through: canaries in every place of every kind of source, and the store, output and log without them."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import pyarrow.parquet as pq
import pytest

from interscan.cli import run
from preprocess.store import Store
from tests.support.series import files_of, fine_slices
from tests.support.studies import made_up_head, put, write_adni, write_oasis3

TINY = ("--set", "grid=[16,16,16]", "--set", "spacing_mm=12")
KEY = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Tree:
    """A source, and what must not be found of it."""

    line: tuple[str, ...]
    canaries: tuple[str, ...]


def scan_file(number: int, canary: str = "") -> bytes:
    """A NIfTI head whose header is full of a canary."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(made_up_head(number)))
    image.header["descrip"] = image.header["aux_file"] = canary[:20]
    image.header["db_name"] = canary[:15]
    image.header["intent_name"] = canary[:15]
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", canary.encode()))
    return gzip.compress(image.to_bytes(), mtime=0)


def bids(root: Path) -> Tree:
    for number, (subject, session) in enumerate(
        [("Birdie", "20110317"), ("Birdie", "20120317"), ("Sparrow", "20110318")]
    ):
        name = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_T1w.nii.gz"
        put(root, name, scan_file(number, "Tweety Canary"))
        put(root, name.replace(".nii.gz", ".json"), '{"PatientName": "Tweety", "Manufacturer": "Siemens"}')
    put(root, "sub-Sparrow/ses-20130318/anat/sub-Sparrow_ses-20130318_T1w.nii.gz", b"Tweety Canary is no scan" * 30)
    put(root, "sub-Tweety_20110317.nii.gz", b"loose")
    rows = ["participant_id\tage\tname\tmmse", "sub-Birdie\t91.5\tTweety\tTweety", "sub-Finch\t70\tTweety\t28"]
    put(root, "participants.tsv", "\n".join([*rows, "sub-Sparrow\t70\tTweety\t27"]))
    put(root, "dataset_description.json", '{"Name": "Study", "BIDSVersion": "1.8.0", "Authors": ["Tweety"]}')
    return Tree((str(root),), ("Birdie", "Sparrow", "Finch", "Tweety", "2011031", "20120317", "20130318", "Canary"))


def table(root: Path) -> Tree:
    for number in range(3):
        put(root, f"tweety_{number}.nii.gz", scan_file(number))
    rows = [f"tweety_{number}.nii.gz,Sparrow,visit-{number},{15340 + 100 * number},St Mary" for number in range(3)]
    rows.append("gone_tweety.nii.gz,Sparrow,visit-9,15900,St Mary")
    put(root, "scans.csv", "\n".join(["path,subject_id,session_id,day,site", *rows]))
    return Tree((str(root / "scans.csv"),), ("tweety", "Sparrow", "St Mary", "15340", "15440", "15540"))


def dicom(root: Path) -> Tree:
    for visit, days in enumerate((0, 400), start=1):
        for number, content in enumerate(files_of(fine_slices(patient="SPARROW-77", visit=visit, days=days))):
            put(root, f"Sparrow Jane/{visit}/IM{number}", content)
    put(root, "Sparrow Jane/broken.dcm", bytes(128) + b"DICM" + b"Sparrow Jane")
    return Tree((str(root),), ("SPARROW", "Sparrow", "Canary", "20110317", "19500101", "1.2.826"))


def oasis3(root: Path) -> Tree:
    scans, tables = write_oasis3(root)
    line = (str(scans), "--source-kind", "oasis3", "--tables", str(tables))
    return Tree(line, ("OAS3000", "d0129", "d0757", "d1184", "d2000"))


def adni(root: Path) -> Tree:
    scans, tables = write_adni(root)
    line = (str(scans), "--source-kind", "adni", "--tables", str(tables))
    return Tree(line, ("_S_0413", "_S_0907", "I14032", "I40683", "S13893", "RID 413", "2006"))


TREES: dict[str, Callable[[Path], Tree]] = {
    "bids": bids,
    "table": table,
    "dicom": dicom,
    "oasis3": oasis3,
    "adni": adni,
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERSCAN_DEIDENTIFY_KEY", KEY)


def held(store: Path) -> Iterator[tuple[str, str]]:
    """Everything that a store says, by where."""
    for path in sorted(store.rglob("*")):
        yield str(path.relative_to(store)), str(path.relative_to(store))
        if path.is_file():
            yield str(path), path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                yield str(path), str(pq.read_table(path).to_pylist())


def found(canaries: tuple[str, ...], texts: Iterator[tuple[str, str]], root: Path) -> list[str]:
    """Which canaries are said where, as text or in hexadecimal; the root of the source is the user's own word."""
    hits = []
    for where, text in texts:
        clean = text.replace(str(root), "")
        for canary in canaries:
            spelt = (canary, canary.encode().hex())
            hits += [f"{canary} in {where}" for one in spelt if one in clean]
    return hits


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_no_name_reaches_the_store_the_output_or_the_log(kind: str, workers: str, tmp_path: Path) -> None:
    tree = TREES[kind](tmp_path / "raw")
    store = tmp_path / "store"
    line = ["preprocess", tree.line[0], str(store), *tree.line[1:], *TINY, "--workers", workers, "--deidentify"]
    texts = []
    for more in (["--dry-run"], [], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "interscan", *line, *more], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        texts += [("stdout", done.stdout), ("stderr", done.stderr)]
    assert Store.open(store).manifest.num_kept > 0
    assert found(tree.canaries, iter([*texts, *held(store)]), tmp_path) == []


@pytest.mark.parametrize("kind", TREES)
def test_without_it_the_canaries_are_there(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = TREES[kind](tmp_path / "raw")
    run(["preprocess", tree.line[0], str(tmp_path / "store"), *tree.line[1:], *TINY, "--workers", "0"])
    said = capsys.readouterr()
    assert found(tree.canaries, iter([("out", said.out), ("err", said.err), *held(tmp_path / "store")]), tmp_path)


def preprocess(tree: Tree, store: Path, *more: str) -> int:
    return run(["preprocess", tree.line[0], str(store), *tree.line[1:], *TINY, "--workers", "0", *more])


def test_people_visits_and_intervals_stay_what_they_are(tmp_path: Path) -> None:
    for kind in ("bids", "table", "adni"):
        tree = TREES[kind](tmp_path / kind / "raw")
        for name, more in (("plain", ()), ("hidden", ("--deidentify",))):
            preprocess(tree, tmp_path / kind / name, *more)
        true, made = (Store.open(tmp_path / kind / name).records for name in ("plain", "hidden"))
        by_content = {record.content_sha256: record for record in made if record.present}
        pairs = [(record, by_content[record.content_sha256]) for record in true if record.present]
        assert len(pairs) == len(by_content) > 1
        for one, hidden_one in pairs:
            for other, hidden_other in pairs:
                assert (one.person == other.person) == (hidden_one.person == hidden_other.person)
                if one.person == other.person and one.day is not None and other.day is not None:
                    assert hidden_one.day is not None
                    assert hidden_other.day is not None
                    assert one.day - other.day == hidden_one.day - hidden_other.day
            assert {**one.outcomes, "age": 0} == {**hidden_one.outcomes, "age": 0}


def test_an_age_above_89_is_left_empty_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = bids(tmp_path / "raw")
    preprocess(tree, tmp_path / "store", "--deidentify", "--json")
    result = json.loads(capsys.readouterr().out)
    assert "age_hidden" in json.dumps(result["reconciliation"])
    ages = [record.outcomes.get("age") for record in Store.open(tmp_path / "store").records]
    assert max(age for age in ages if age is not None) <= 89


def test_again_with_the_same_key_changes_nothing_and_a_new_visit_joins_its_person(tmp_path: Path) -> None:
    tree, store = bids(tmp_path / "raw"), tmp_path / "store"
    preprocess(tree, store, "--deidentify")
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    preprocess(tree, store, "--deidentify")
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    put(tmp_path / "raw", "sub-Birdie/ses-20140317/anat/sub-Birdie_ses-20140317_T1w.nii.gz", scan_file(9))
    preprocess(tree, store, "--deidentify")
    people = [record.subject_id for record in Store.open(store).records if record.present]
    assert sorted(people.count(person) for person in set(people)) == [1, 3]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((), ("--deidentify",), "its scans are stored under their true names; de-identify into a new store"),
        (("--deidentify",), (), "its scans are de-identified; give --deidentify with the same key"),
        (("--deidentify",), ("--deidentify", "--key-file", "KEY"), "de-identified with another key"),
    ],
)
def test_true_names_and_pseudonyms_of_two_keys_never_share_a_store(
    first: tuple[str, ...], second: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "key"
    other.write_text("another key of 16 bytes and more")
    other.chmod(0o600)
    tree = bids(tmp_path / "raw")
    preprocess(tree, tmp_path / "store", *first)
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert preprocess(tree, tmp_path / "store", *(word.replace("KEY", str(other)) for word in second)) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_without_a_key_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("INTERSCAN_DEIDENTIFY_KEY")
    assert run(["preprocess", str(tmp_path / "gone"), str(tmp_path / "store"), "--deidentify"]) == 2
    assert "--deidentify needs a key" in capsys.readouterr().err


def test_the_linking_table_says_who_is_who_to_its_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, store = bids(tmp_path / "raw"), tmp_path / "store"
    links = tmp_path / "links.tsv"
    preprocess(tree, store, "--deidentify", "--linking-table", str(links))
    assert links.stat().st_mode & 0o777 == 0o600
    rows = [line.split("\t") for line in links.read_text().splitlines()]
    people = {pseudonym: name for what, pseudonym, name in rows if what == "person"}
    assert {people[record.subject_id].rpartition("/")[2] for record in Store.open(store).records} == {
        "sub-Birdie",
        "sub-Sparrow",
    }
    files = {pseudonym: name for what, pseudonym, name in rows if what == "file or entry"}
    for record in Store.open(store).records:
        assert (tmp_path / "raw" / files[record.source_uri]).is_file()
    capsys.readouterr()
    for place in (f"{store}/links.tsv", "memory://links.tsv"):
        assert preprocess(tree, store, "--deidentify", "--linking-table", place) == 2
    assert "lies in the store" in capsys.readouterr().err
    assert not (store / "links.tsv").exists()


def test_shards_and_their_commit_make_the_same_store(tmp_path: Path) -> None:
    tree = bids(tmp_path / "raw")
    preprocess(tree, tmp_path / "whole", "--deidentify")
    for more in (("--shard", "0/2"), ("--shard", "1/2"), ("--commit",)):
        preprocess(tree, tmp_path / "parts", "--deidentify", *more)
    assert Store.open(tmp_path / "parts").records == Store.open(tmp_path / "whole").records


def test_an_error_while_listing_says_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "raw", "sub-Birdie/anat/sub-Birdie_T1w.nii.gz", b"")
    put(tmp_path / "raw", "sub-Birdie/anat/sub-Birdie_T1w.nii", b"")
    code = run(["preprocess", str(tmp_path / "raw"), str(tmp_path / "store"), "--deidentify"])
    said = capsys.readouterr()
    assert code != 0
    assert "Birdie" not in said.out + said.err


def test_options_for_it_are_refused_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--key-file", "--linking-table"):
        assert run(["preprocess", str(tmp_path), str(tmp_path / "store"), option, str(tmp_path / "x")]) == 2
        assert f"{option} is for --deidentify" in capsys.readouterr().err
