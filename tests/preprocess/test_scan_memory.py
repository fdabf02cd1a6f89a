"""What a scan takes is told from the start of its file, and is never less than the operating system measures."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import START_BYTES, gigabytes, memory_of, require_memory
from preprocess.types import MAX_VOXELS, Scan
from tests.support.images import gz, head_file, nifti, patched
from tests.support.series import files_of, fine_slices

ROOT = Path(__file__).resolve().parents[2]
RECIPE = VolumeRecipe(kinds={"LUS": "clip", "FUNDUS": "image", "SC": "array"})
SMALL = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)
NAMED = Scan("sub-01", "", "T1w", "x.nii.gz")


def bytes_of(data: bytes, modality: str = "T1w", uri: str = "x", recipe: VolumeRecipe = RECIPE) -> int:
    return memory_of(data[:START_BYTES], len(data), Scan("sub-01", "", modality, uri), recipe)


def promising(shape: tuple[int, int, int], dtype: type, *, num_bytes: int) -> bytes:
    """A gzip file of that size whose header promises more than it holds."""
    plain = nifti(np.zeros((2, 2, 2), dtype), np.eye(4))
    fields = {f"dim{axis + 1}": edge for axis, edge in enumerate(shape)}
    noise = np.random.default_rng(0).bytes(num_bytes)
    return gz(patched(plain, **fields) + noise)


MEASURED = """
import json, os, resource, sys
import numpy as np
import torch
from isal import igzip
from preprocess import tasks
from preprocess.kinds import prepare_scan
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import START_BYTES, memory_of
from preprocess.types import Scan
from tests.support.images import head, head_file, nifti, patched

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(1)
scan, recipe = Scan("s", "", "T1w", "x.nii.gz"), VolumeRecipe()
prepare_scan(head_file(), scan, VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0))
fine = np.kron(head(), np.ones((4, 4, 4), np.int16))
noise = np.random.default_rng(0).integers(0, 9, fine.shape, dtype=np.int16)
turn = np.array([[0.95, -0.31225, 0], [0.31225, 0.95, 0], [0, 0, 1]])
straight = np.diag([1.0, 1, 1, 1])
straight[:3, 3] = -96
oblique = straight.copy()
oblique[:3, :3] = turn
oblique[:3, 3] = turn @ straight[:3, 3]
bright = 1000 + noise
bright[:9] = 0
planes = np.kron(head()[:, :, ::2], np.ones((10, 10, 2), np.int16))
thick = np.diag([0.4, 0.4, 4.0, 1])
thick[:3, 3] = -96
cases = {
    "int16, oblique": (fine + noise, oblique, {}),
    "float64, oblique": ((fine + noise).astype(np.float64), oblique, {}),
    "uint8 with a slope": (((fine + noise) // 5).astype(np.uint8), oblique, {"scl_slope": 2.0, "scl_inter": 1.0}),
    "no head, all bright": (bright.astype(np.float32), straight, {}),
    "thick slices": (planes, thick, {}),
}
for name, (voxels, affine, fields) in cases.items():
    data = igzip.compress(patched(nifti(voxels, affine), **fields), 1)
    del voxels
    reader, writer = os.pipe()
    if os.fork() == 0:
        before = peak()
        kept = prepare_scan(data, scan, recipe).values is not None
        os.write(writer, json.dumps([peak() - before + len(data), kept]).encode())
        os._exit(0)
    os.wait()
    taken, kept = json.loads(os.read(reader, 1000))
    print(json.dumps([name, memory_of(data[:START_BYTES], len(data), scan, recipe), taken, kept]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_no_scan_takes_more_than_was_said_and_not_much_less(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 5
    for name, said, taken, kept in rows:
        assert kept, name
        assert 20e6 < taken < said < 6 * taken, (name, said, taken)


def test_packed_or_not_the_header_decides_and_nothing_is_unpacked() -> None:
    voxels = np.random.default_rng(0).integers(0, 999, (64, 64, 64), dtype=np.int16)
    plain = nifti(voxels, np.eye(4))
    assert bytes_of(gz(plain)) > 2 * voxels.nbytes
    assert bytes_of(plain) > 13 * voxels.size
    assert bytes_of(nifti(voxels.astype(np.float64), np.eye(4))) > bytes_of(plain)
    # A slope makes float32 of it, the other byte order a copy.
    assert bytes_of(patched(plain, scl_slope=2.0)) > bytes_of(plain)
    assert bytes_of(nifti(voxels.astype(">i2"), np.eye(4), big_endian=True)) > bytes_of(plain)


def test_two_gigabytes_of_a_header_are_seen_in_the_first_bytes_of_a_small_file() -> None:
    data = promising((512, 1024, 512), np.float64, num_bytes=2_300_000)
    assert len(data) < 2.5e6
    # 2^28 voxels in float32, and what is made of them.
    assert bytes_of(data) > 4 * 2**28
    with pytest.raises(ScanError, match=r"^sub-01: reading it takes up to \d\.\d GB .*, 1\.0 GB are there for it; run"):
        require_memory(bytes_of(data), 10**9, name="sub-01")


@pytest.mark.parametrize(
    ("shape", "num_bytes"),
    [((512, 1024, 512), 20_000), ((2000, 2000, 2000), 2_300_000)],
    ids=["more than gzip can hold", "more voxels than are read"],
)
def test_what_is_refused_by_its_header_takes_no_more_than_its_file(shape: tuple[int, int, int], num_bytes: int) -> None:
    data = promising(shape, np.float64, num_bytes=num_bytes)
    assert np.prod(shape, dtype=np.float64) >= MAX_VOXELS
    assert bytes_of(data) == len(data)


def test_a_file_that_ends_early_takes_no_more_than_it_holds() -> None:
    whole = nifti(np.ones((128, 128, 128), np.float32), np.eye(4))
    assert bytes_of(whole[: len(whole) // 2]) < bytes_of(whole) < 200e6


@pytest.mark.parametrize("data", [b"", b"no scan at all" * 40, b"\x1f\x8bdamaged" * 50, head_file()[:200]])
def test_what_has_no_header_takes_its_own_size_at_least(data: bytes) -> None:
    assert len(data) <= bytes_of(data) < 100e6


def test_a_series_counts_all_its_files_by_the_first() -> None:
    pytest.importorskip("pydicom")
    files = [bytes(file) for file in files_of(fine_slices())]
    parts = tuple(f"{number}.dcm" for number in range(len(files)))
    scan = Scan("sub-01", "", "T1w", "", parts=parts)
    total = sum(map(len, files))
    said = memory_of(files[0][:START_BYTES], total, scan, SMALL)
    import pydicom

    header = pydicom.dcmread(io.BytesIO(files[0]))
    num_voxels = header.Rows * header.Columns * len(files)
    assert said > 2 * total + 17 * num_voxels
    from preprocess.dicom_zip import pack

    packed = pack(files)
    assert memory_of(packed, len(packed), scan, SMALL) == pytest.approx(said, rel=0.05)
    alone = Scan("sub-01", "", "T1w", "x.zip")
    assert memory_of(packed[:START_BYTES], len(packed), alone, SMALL) == pytest.approx(said, rel=0.05)


def test_other_kinds_go_by_their_header_or_their_size() -> None:
    from PIL import Image

    sink = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(sink, "PNG")
    assert bytes_of(sink.getvalue(), "FUNDUS", "x.png") > 3000 * 2000 * 48 > 100 * len(sink.getvalue())
    text = b"1.25,2.5\n" * 100_000
    assert bytes_of(text, "SC", "x.csv") > 20 * len(text)
    sink = io.BytesIO()
    np.save(sink, np.zeros((50, 96, 96), np.uint8))
    assert bytes_of(sink.getvalue(), "LUS", "x.npy") > 3 * len(sink.getvalue())
    assert bytes_of(b"\0\0\0\x18ftypmp42" + bytes(5000), "LUS", "x.mp4") > 32 * 640 * 480 * 3


def test_gigabytes_are_those_of_ten() -> None:
    assert (gigabytes(1.94e9), gigabytes(0), gigabytes(-5)) == ("1.9 GB", "0.0 GB", "0.0 GB")
