"""A source that lives on: what changed gets new rows, old rows stay byte for byte, and readers see the present."""

import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from interscan.cli import run
from preprocess.engine import preprocess
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from tests.support.images import RECIPE
from tests.support.studies import made_up_head, put
from trainer.data.cohort import read_cohort

TINY = ("--set", "grid=[16,16,16]", "--set", "spacing_mm=12", "--workers", "0")


def name_of(subject: str, session: int) -> str:
    return f"sub-{subject}/ses-{session:02d}/anat/sub-{subject}_ses-{session:02d}_T1w.nii.gz"


def write_source(root: Path) -> Path:
    rows = ["participant_id\tmmse"]
    for number, subject in enumerate(("a", "b", "c")):
        rows.append(f"sub-{subject}\t{25 + number}")
        for session in (1, 2):
            put(root, name_of(subject, session), made_up_head(2 * number + session - 1))
    put(root, "participants.tsv", "\n".join(rows))
    put(root, "dataset_description.json", '{"Name": "Living", "BIDSVersion": "1.8.0"}')
    return root


def bytes_of(store: Location) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_changed_file_gets_a_new_row_and_nothing_that_was_there_is_written_again(kind: str, tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    store = Location(f"memory://living-{uuid.uuid4().hex}" if kind == "memory" else str(tmp_path / "store"))
    preprocess(str(raw), store.uri, RECIPE, workers=0)
    before = bytes_of(store)
    put(raw, name_of("b", 2), made_up_head(7))
    manifest = preprocess(str(raw), store.uri, RECIPE, workers=0)
    after = bytes_of(store)
    assert (manifest.num_found, manifest.num_kept, manifest.num_left_out, manifest.num_rows) == (6, 6, 0, 7)
    chunks = {name: data for name, data in before.items() if "/c/" in name}
    assert {name: after[name] for name in chunks} == chunks
    assert sum("/c/" in name for name in after) == 7
    records = Store.open(store).records
    (old,) = [record for record in records if record.superseded_by is not None]
    new = next(record for record in records if record.row == old.superseded_by)
    assert (old.name, old.present, new.row, new.present) == (new.name, False, 6, True)
    assert old.content_sha256 != new.content_sha256
    assert set(verify_rows(Store.open(store))) == {None}
    preprocess(str(raw), store.uri, RECIPE, workers=0)
    assert bytes_of(store) == after
    if kind == "memory":
        store.delete("")


def test_readers_see_the_new_row_and_never_the_old_one(tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    preprocess(str(raw), str(tmp_path / "store"), RECIPE, workers=0)
    put(raw, name_of("b", 2), made_up_head(7))
    preprocess(str(raw), str(tmp_path / "store"), RECIPE, workers=0)
    cohort = read_cohort(Store.open(tmp_path / "store"), "T1w", "mmse")
    assert sorted(cohort.rows_N.tolist()) == [0, 1, 2, 4, 5, 6]
    assert cohort.subject_ids.count("Living/sub-b") == 2


def test_a_file_that_becomes_what_it_was_is_no_copy_of_itself(tmp_path: Path) -> None:
    raw, store = write_source(tmp_path / "raw"), tmp_path / "store"
    for number in (3, 7, 3):
        put(raw, name_of("b", 2), made_up_head(number))
        preprocess(str(raw), str(store), RECIPE, workers=0)
    records = [record for record in Store.open(store).records if record.name == "sub-b_ses-02_T1w"]
    assert [(record.row, record.superseded_by) for record in records] == [(3, 6), (6, 7), (7, None)]
    assert records[0].content_sha256 == records[2].content_sha256
    assert not any(finding.code == "equal_content" for finding in records[2].findings)


def test_the_verb_says_what_it_did_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store = write_source(tmp_path / "raw"), tmp_path / "store"
    line = ["preprocess", str(raw), str(store), *TINY]
    assert run(line) == 0
    put(raw, name_of("b", 2), made_up_head(7))
    capsys.readouterr()
    assert run([*line, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["to_do"], planned["superseded"]) == (1, ["Living/sub-b_ses-02_T1w"])
    assert run([*line, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["superseded"] == [[3, 6, "Living/sub-b_ses-02_T1w"]]
    assert "stored anew in new rows, the old rows are marked" in said.err
    assert run(line) == 0
    assert "6 kept + 0 left out = 6 found; 1 rows superseded by newer ones" in capsys.readouterr().out


def test_shards_give_the_same_rows(tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    run(["preprocess", str(raw), str(tmp_path / "whole"), *TINY])
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    put(raw, name_of("a", 1), made_up_head(8))
    put(raw, name_of("c", 1), made_up_head(9))
    run(["preprocess", str(raw), str(tmp_path / "whole"), *TINY])
    for more in (("--shard", "0/2"), ("--shard", "1/2"), ("--commit",)):
        assert run(["preprocess", str(raw), str(tmp_path / "parts"), *TINY, *more]) == 0
    assert bytes_of(Location(tmp_path / "parts")) == bytes_of(Location(tmp_path / "whole"))


KILLED = """
import os, sys
import preprocess.engine as engine
from interscan.cli import run

def end(*_, **__):
    os._exit(9)

setattr(engine, sys.argv[1], end)
run(sys.argv[2:])
"""


@pytest.mark.parametrize("at", ["commit_plan", "commit", "drop_replaced"])
def test_a_run_that_is_killed_on_the_way_ends_like_one_that_is_not(at: str, tmp_path: Path) -> None:
    raw = write_source(tmp_path / "raw")
    run(["preprocess", str(raw), str(tmp_path / "whole"), *TINY])
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    put(raw, name_of("b", 2), made_up_head(7))
    run(["preprocess", str(raw), str(tmp_path / "whole"), *TINY])
    line = ["preprocess", str(raw), str(tmp_path / "cut"), *TINY]
    done = subprocess.run([sys.executable, "-c", KILLED, at, *line], check=False, capture_output=True)
    assert done.returncode == 9, done.stderr
    assert run(line) == 0
    kept = {name: data for name, data in bytes_of(Location(tmp_path / "cut")).items() if name != "writer.json"}
    whole = bytes_of(Location(tmp_path / "whole"))
    assert {name: data for name, data in kept.items() if name in whole} == whole


def test_a_person_is_deleted_with_all_rows_that_ever_were(tmp_path: Path) -> None:
    raw, store = write_source(tmp_path / "raw"), tmp_path / "store"
    preprocess(str(raw), str(store), RECIPE, workers=0)
    put(raw, name_of("b", 2), made_up_head(7))
    preprocess(str(raw), str(store), RECIPE, workers=0)
    assert run(["forget", str(store), "--subject", "sub-b", "--cohort", "Living"]) == 0
    opened = Store.open(store)
    assert not [record for record in opened.records if record.subject_id == "sub-b"]
    chunks = [name for name in opened.location.names() if "/c/" in name]
    assert len(chunks) == 4
    np.testing.assert_array_equal(sorted({record.row for record in opened.records}), [0, 1, 4, 5])
