"""Inputs of the roads of benchmarks/behaviour.py beside synthetic cohorts: faulty scans, other layouts, damage."""

import csv
import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np


def copy(source: str, target: str, work: Path) -> None:
    shutil.copytree(work / source, work / target)


def heads(work: Path, number: int) -> list[Path]:
    return sorted((work / "raw/brain").rglob("*_T1w.nii.gz"))[:number]


def write_broken(work: Path) -> None:
    """A BIDS folder in which scans are cut short, text, constant, too coarse, absent and empty."""
    copy("raw/ageing", "raw/broken", work)
    scans = sorted((work / "raw/broken").rglob("*_T1w.nii.gz"))
    scans[0].write_bytes(scans[0].read_bytes()[:2000])
    scans[1].write_text("not a scan")
    image = nib.load(scans[2])
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), scans[2])
    image = nib.load(scans[3])
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[::3], image.affine @ np.diag([3.0, 1, 1, 1])), scans[3])
    scans[4].unlink()
    (work / "raw/broken/sub-77/anat").mkdir(parents=True)
    (work / "raw/broken/sub-77/anat/sub-77_T1w.nii.gz").write_bytes(b"")
    (work / "raw/broken/notes.txt").write_text("to be read by a person")
    with (work / "raw/broken/participants.tsv").open("a") as table:
        table.write("sub-99" + "\tn/a" * 3 + "\n")


def write_folder(work: Path) -> None:
    """A plain folder, SUBJECT/SESSION.nii.gz, with a mask, a picture and an uncompressed scan."""
    for number, scan in enumerate(heads(work, 4)):
        target = work / f"raw/folder/P{number // 2 + 1}/2020-0{number % 2 + 1}-03.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, target)
    (work / "raw/folder/P3").mkdir()
    (work / "raw/folder/P3/2021-01-01.nii").write_bytes(gzip.decompress(heads(work, 5)[4].read_bytes()))
    shutil.copy(heads(work, 1)[0], work / "raw/folder/P3/2021-01-01_mask.nii.gz")
    (work / "raw/folder/P3/photo.png").write_bytes(b"\x89PNG")


def write_table(work: Path) -> None:
    """A table with codes for missing scores, a row without a scan, a row twice and a column of words."""
    rows = [["path", "subject_id", "session_id", "day", "mmse", "site", "remark"]]
    for number, scan in enumerate(heads(work, 6)):
        path = scan.relative_to(work / "raw").as_posix()
        rows.append([path, f"P{number // 2}", f"v{number % 2}", str(200 * (number % 2)), str(28 - number), "A", "fine"])
    rows += [["brain/none.nii.gz", "P9", "v0", "0", "-4", "B", "lost"], rows[1]]
    with (work / "raw/table.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def write_recipes(work: Path) -> None:
    (work / "volumes.toml").write_text(
        'grid = [20, 20, 20]\nspacing_mm = 9.0\ndtype = "uint16"\n[quality]\nmax_spacing_mm = 9.0\n'
    )
    (work / "wrong.toml").write_text("grid = [20, 20\n")
    (work / "own.toml").write_text(
        'name = "own"\n[data]\nsampling = "scans"\nbatch_size = 4\n[encoder]\nname = "fast"\nembedding_width = 8\n'
        '[[objective]]\nname = "learner"\nvariant = "contrastive"\n[optim]\nepochs = 1\n'
    )


def damage_store(work: Path) -> None:
    copy("stores/brain", "stores/damaged", work)
    chunks = sorted(path for path in (work / "stores/damaged/volumes.zarr/T1w/c").rglob("*") if path.is_file())
    data = bytearray(chunks[0].read_bytes())
    data[len(data) // 2] ^= 1
    chunks[0].write_bytes(data)
    chunks[3].unlink()
    # With two faults, chance would say which is met first.
    copy("stores/brain", "stores/lacking", work)
    (work / "stores/lacking" / chunks[3].relative_to(work / "stores/damaged")).unlink()


def damage_runs(work: Path) -> None:
    for name in ("record", "model", "checkpoint"):
        copy("runs/demo", f"runs/damaged-{name}", work)
    (work / "runs/damaged-record/run.json").write_text('{"recipe": {}}')
    (work / "runs/damaged-model/model.pt").write_bytes(b"nothing")
    (work / "runs/damaged-checkpoint/result.json").unlink()
    shutil.rmtree(work / "runs/damaged-checkpoint/evaluation")
    pointer = json.loads((work / "runs/damaged-checkpoint/checkpoints/latest.json").read_text())
    (work / "runs/damaged-checkpoint" / pointer["name"]).write_bytes(b"nothing")


def damage_artefacts(work: Path) -> None:
    for name in ("model", "manifest"):
        copy("artefacts/demo", f"artefacts/damaged-{name}", work)
    with (work / "artefacts/damaged-model/model.ts").open("ab") as file:
        file.write(b"!")
    (work / "artefacts/damaged-manifest/manifest.json").write_text("{}")
