"""The verbs preprocess and verify: exit codes, one JSON object on stdout, and one line for each error."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interscan.cli import run
from preprocess.store import Store
from tests.support.clips import moving_block, npy
from tests.support.images import gz, head, head_file, nifti, patched, tree, write_bids

TINY = ("--set", "grid=[24,24,24]", "--set", "spacing_mm=8", "--workers", "0")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(0.95)}}, {"01": 0, "02": 180})


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    assert out.count("\n") == 1  # one object and nothing else
    return code, json.loads(out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the error line; nothing on stdout."""
    code, out, err = call(capsys, *arguments)
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("interscan: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return code, lines[0]


def test_a_whole_cohort_ends_with_0_and_verifies(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    fingerprint = Store.open(tmp_path / "s").manifest.fingerprint
    assert (code, out) == (
        0,
        f"2 kept + 0 left out = 2 found; store {tmp_path}/s, fingerprint {fingerprint}\n",
    )
    assert call(capsys, "verify", tmp_path / "s")[:2] == (0, "2 of 2 volumes whole, 0 damaged or missing\n")


def test_copies_and_scans_that_are_gone_are_told_by_both_verbs(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bids(raw, {"02": {"01": head_file()}, "03": {"01": head_file(0.9)}}, {"01": 0})
    copies = ["sub-01_ses-01_T1w", "sub-02_ses-01_T1w"]
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert (code, out.splitlines()[:2]) == (
        0,
        [f"equal content: {', '.join(copies)}", "2 scans of 2 persons have equal content (1 different)"],
    )
    (raw / "sub-03" / "ses-01" / "anat" / "sub-03_ses-01_T1w.nii.gz").unlink()
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert code == 0
    assert result["gone_from_source"] == ["tiny/sub-03_ses-01_T1w"]
    assert result["equal_content"] == [[f"tiny/{name}" for name in copies]]
    assert call_json(capsys, "verify", tmp_path / "s")[1]["equal_content"] == [[f"tiny/{name}" for name in copies]]
    _, _, err = call(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    assert "1 stored scan is no longer in the source: sub-03_ses-01_T1w; it stays;" in err


def test_scans_left_out_end_with_1_and_are_named(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bids(raw, {"01": {"02": head_file()[:-50]}})
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert code == 1
    assert (result["found"], result["kept"], result["left_out"]) == (2, 1, 1)
    assert result["findings"] == ["sub-01_ses-02_T1w: gzip stream ends early; copy the file again"]
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY)  # again: still reported
    assert code == 1
    assert out.startswith("left out: sub-01_ses-02_T1w: gzip stream ends early")


def test_dry_run_tells_rows_and_writes_nothing(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    assert code == 0
    assert (result["found"], result["to_do"], result["kept_from_before"], result["rows"]) == (2, 2, 0, 2)
    assert [entry["row"] for entry in result["scans"]] == [0, 1]
    assert result["memory"]["workers"] == 0
    assert 0 < result["memory"]["worker_bytes"] < result["memory"]["free_bytes"]
    assert result["memory"]["too_large"] == []
    _, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    assert re.search(r"^memory: up to \d\.\d GB of memory \(sub-.*_T1w\), \d+\.\d GB free$", out, re.MULTILINE)
    assert not (tmp_path / "s").exists()
    call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    before = tree(tmp_path / "s")
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    assert (code, out) == (0, "0 to do + 2 stored before + 0 left out = 2 found; 2 rows; nothing written\n")
    assert tree(tmp_path / "s") == before


def test_everything_at_the_source_is_reported_in_the_summary_on_stderr_and_in_json(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bids(raw, {"02": {"01": head_file(0.9)}})
    (raw / "sub-02/ses-01/anat/sub-01_ses-01_run-2_T1w.nii.gz").write_bytes(head_file())
    (raw / "sub-02/ses-01/anat/sub-02_ses-01_T2w.nii.gz").write_bytes(b"x")
    (raw / "derivatives").mkdir()
    for number in range(12):
        (raw / f"derivatives/{number:02d}.nii").write_bytes(b"x")
    rows = ["participant_id\tsex\tmmse", "sub-01\tF\t27", "02\tM\t-4", "sub-09\tF\t29"]
    (raw / "participants.tsv").write_text("\n".join(rows))
    code, planned = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    assert code == 1
    assert (planned["found"], planned["to_do"], planned["left_out"]) == (4, 3, 1)
    code, out, err = call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert code == 1
    left_out, summary = out.splitlines()
    assert left_out.startswith(
        "left out: sub-02/ses-01/anat/sub-01_ses-01_run-2_T1w.nii.gz: the path names two subjects"
    )
    fingerprint = Store.open(tmp_path / "s").manifest.fingerprint
    assert summary == (
        "3 kept + 1 left out = 4 found; 14 files passed over (12 in derivatives, 1 two subjects in one path, "
        "1 of other modalities); 1 table row without a scan; 1 column ignored (1 without numbers); "
        "1 table cell left empty (1 codes for missing); 1 other remark (1 ids read in another spelling); "
        f"store {tmp_path}/s, fingerprint {fingerprint}"
    )
    names = ", ".join(f"derivatives/{number:02d}.nii" for number in range(5))
    assert f"passed over, in derivatives: 12: {names} and 7 more" in err.splitlines()
    assert "participants.tsv line 4: participant_id sub-09 has no T1w scan here" in err.splitlines()
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert (code, result["found"], result["kept"], result["left_out"], result["cohort"]) == (1, 4, 3, 1, "tiny")
    account = result["reconciliation"]
    assert account == planned["reconciliation"]
    assert account["files"] == {"there": 20, "scans": 3, "read": 3, "other": 0, "passed_over": 14}
    assert len(account["passed_over"]["derivatives"]["entries"]) == 12
    assert account["rows_without_scan"]["row_without_scan"]["count"] == 1
    assert result["findings"] == [left_out.removeprefix("left out: ")]


def test_many_scans_left_out_stay_readable_as_text(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        (raw / f"sub-01/ses-01/anat/sub-02_run-{number}_T1w.nii.gz").write_bytes(b"")
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--dry-run")
    lines = out.splitlines()
    assert (code, len(lines)) == (1, 55)
    assert lines[50] == "left out: 10 more; --json lists all"
    assert lines[-1].startswith(
        "2 to do + 0 stored before + 60 left out = 62 found; 60 files passed over (60 two subjects"
    )


def test_the_cohorts_name_and_codes_for_missing_are_the_users(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "participants.tsv").write_text("participant_id\tmmse\tz\nsub-01\t-4\t-5\nsub-09\t29\t0\n")
    options = ("--cohort", "mine", "--not-missing", "mmse=-4", "--missing", "z=-5")
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY, *options)
    assert (code, result["cohort"]) == (0, "mine")
    opened = Store.open(tmp_path / "s")
    assert [record.outcomes for record in opened.records] == [{"mmse": -4.0}] * 2
    assert set(opened.manifest.reconciliation) == {"mine"}
    plain = call_json(capsys, "preprocess", raw, tmp_path / "s2", *TINY)[1]
    assert plain["fingerprint"] == result["fingerprint"]
    code, line = complaint(capsys, "preprocess", raw, tmp_path / "s3", *TINY, "--missing", "mmse")
    assert (code, line) == (2, "interscan: --missing mmse: write column=number, for example --missing mmse=-4")


def test_bad_lines_of_a_table_are_left_out_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.nii.gz").write_bytes(head_file())
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "loop.nii").symlink_to("loop.nii")
    bad = ["folder.nii", "loop.nii", "x" * 300, "a\0b.nii", "zip://a.nii::/nowhere/x.zip", "nonsense://x", "/nowhere/x"]
    lines = ["path,subject_id", "good.nii.gz,good", *(f"{path},s{number}" for number, path in enumerate(bad))]
    (tmp_path / "scans.csv").write_text("\n".join([*lines, "good.nii.gz,a,surplus", ",b"]))
    code, result = call_json(capsys, "preprocess", tmp_path / "scans.csv", tmp_path / "s", *TINY)
    assert (code, result["found"], result["kept"], result["left_out"]) == (1, 10, 1, 9)
    assert len(result["findings"]) == 9
    assert str(tmp_path) not in str(result["findings"])
    assert not [name for name, data in tree(tmp_path / "s").items() if str(tmp_path).encode() in data]


def test_damage_ends_with_3_and_is_named(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    (tmp_path / "s/volumes.zarr/T1w/c/1/0/0/0/0").write_bytes(b"damage")
    code, result = call_json(capsys, "verify", tmp_path / "s")
    assert code == 3
    assert (result["rows"], result["whole"]) == (2, 1)
    assert [(fault["row"], fault["name"]) for fault in result["faults"]] == [(1, "sub-01_ses-02_T1w")]
    code, out, _ = call(capsys, "verify", tmp_path / "s")
    assert code == 3
    assert out.endswith("1 of 2 volumes whole, 1 damaged or missing\n")


def test_wrong_command_lines_and_recipes_end_with_2(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    recipe = tmp_path / "r.toml"
    recipe.write_text("spacing = 2\n")
    for arguments, message in [
        (("preprocess", raw, store, "--set", "spacing=2"), "unknown key 'spacing'; did you mean 'spacing_mm'?"),
        (("preprocess", raw, store, "--recipe", recipe), f"{recipe}: unknown key 'spacing'"),
        (("preprocess", raw, store, "--recipe", tmp_path / "none.toml"), "no such recipe file"),
        (("preprocess", raw, store, "--set", "grid"), "write key=value"),
        (("preprocess", raw, store, *TINY[:4], "--workers", "-2"), "--workers -2"),
        (("preprocess", raw, store, "--modality", "FLAIR"), "no FLAIR scan found (other kinds there: T1w)"),
        (("preprocess", tmp_path / "nowhere", store), "no such folder, or an empty one"),
        (("preprocess", raw, store, "--nonsense"), "--nonsense"),
        (("preprocess", raw), "--store requires an argument"),
        (("preproces", raw, store), "preprocess"),
    ]:
        code, line = complaint(capsys, *arguments)
        assert code == 2, line
        assert message in line
    assert not store.exists()


def test_broken_contracts_end_with_3(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    (tmp_path / "file").write_text("x")
    for arguments, message in [
        (("verify", tmp_path / "none"), "this is not a finished store"),
        (("verify", "nonsense://x"), "use a local path, gs://"),
        (("verify", tmp_path / "file"), f"{tmp_path}/file/store.json"),
        (("preprocess", raw, tmp_path / "file" / "s", *TINY), f"{tmp_path}/file/s"),
        (("preprocess", raw, tmp_path / "s", "--set", "spacing_mm=3"), "store fingerprint"),
    ]:
        code, line = complaint(capsys, *arguments)
        assert code == 3, line
        assert message in line


def test_modalities_and_a_recipe_file_are_followed(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz").write_bytes(head_file(seed=5))
    recipe = tmp_path / "r.toml"
    recipe.write_text('grid = [24, 24, 24]\nspacing_mm = 8\ndtype = "uint16"\n')
    arguments = ("--recipe", recipe, "--modality", "T1w", "--modality", "T2w", "--workers", "0")
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *arguments)
    assert (code, result["found"], result["rows"]) == (0, 3, 2)
    manifest = Store.open(tmp_path / "s").manifest
    assert set(manifest.arrays) == {"T1w", "T2w"}
    assert manifest.recipe.dtype == "uint16"


def test_clips_are_made_where_the_command_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("anna", "ben"):
        (tmp_path / f"raw/{name}.npy").write_bytes(npy(moving_block(12)))
    arguments = ("preprocess", tmp_path / "raw", tmp_path / "s", "--modality", "LUS", "--workers", "0")
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert '2 files there could be clips; if they are, set kinds.LUS = "clip"' in err
    as_clips = (*arguments, "--set", "kinds.LUS=clip", "--set", "clip.frames=10", "--set", "clip.size=[24, 32]")
    code, planned = call_json(capsys, *as_clips, "--dry-run")
    assert (code, planned["to_do"], (tmp_path / "s").exists()) == (0, 2, False)
    code, result = call_json(capsys, *as_clips)
    assert (code, result["kept"]) == (0, 2)
    assert Store.open(tmp_path / "s").manifest.arrays == {"LUS": (2, 10, 1, 24, 32)}
    assert call_json(capsys, "verify", tmp_path / "s")[1]["whole"] == 2


def test_odd_table_cells_are_told_on_stderr(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "participants.tsv").write_text("participant_id\tage\nsub-01\t90-92\n")
    code, out, err = call(capsys, "preprocess", raw, tmp_path / "s", *TINY, "--json")
    assert code == 0
    assert json.loads(out)["kept"] == 2
    assert "sub-01: age '90-92' is not a score and is left empty; correct the table" in err.splitlines()


@pytest.mark.bucket
def test_a_store_in_a_bucket_is_made_and_verified(raw: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = call_json(capsys, "preprocess", raw, f"{bucket}/s", *TINY)
    assert (code, result["store"], result["kept"]) == (0, f"{bucket}/s", 2)
    assert call_json(capsys, "verify", f"{bucket}/s")[1]["whole"] == 2
    code, line = complaint(capsys, "preprocess", raw, f"{bucket}-none/s", *TINY)
    assert code == 3
    assert "check the path and that the bucket exists" in line


def test_the_program_itself_ends_with_the_code_and_keeps_stdout_clean(raw: Path, tmp_path: Path) -> None:
    write_bids(raw, {"01": {"02": b"<html>"}})
    program = [sys.executable, "-c", "from interscan.cli import main; main()"]
    made = subprocess.run(
        [*program, "preprocess", str(raw), str(tmp_path / "s"), *TINY, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert made.returncode == 1, made.stderr
    assert json.loads(made.stdout)["findings"] == [
        "sub-01_ses-02_T1w: a web page saved under a scan's name; download the scan itself"
    ]
    assert made.stderr.splitlines()[-1] == "preprocess: 2 of 2"


def test_what_is_odd_about_a_kept_scan_is_reported_and_ends_with_0(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bids(raw, {"04": {"01": gz(patched(nifti(head()), sform_code=0, qform_code=0))}})
    message = "sub-04_ses-01_T1w: neither qform nor sform, so the way the head lies is a guess"
    code, out, _ = call(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert code == 0
    assert f"kept, but: {message}" in out
    code, result = call_json(capsys, "preprocess", raw, tmp_path / "s", *TINY)
    assert code == 0
    assert [remark.split(";")[0] for remark in result["remarks"]] == [message]
