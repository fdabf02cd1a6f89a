"""Files with faults, drawn from seeds: each ends in a volume or in one finding, within bounds, and harms nobody else.

A fault is told with its number; `python -m tests.support.hostile --first NUMBER --count 1 --out FILE` makes the file
again.
"""

import io
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient

from preprocess.dicom_series import read_series
from preprocess.images import read_image
from tests.support import dicom_mutants, nifti_mutants
from tests.support.artefacts import write_artefact
from tests.support.heads import head_nifti
from tests.support.hostile import CLIPS_FROM, EDGE, ask, make_mutant
from tests.support.service import assert_problem, running

SERVED_EDGE = 48
"""The whole head in 4 mm: a file as large as the service's own tests send."""


def told(faults: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(fault) for fault in faults[:10])


def test_each_of_several_hundred_files_ends_in_a_volume_or_in_one_finding() -> None:
    outcomes, faults = ask(0, 300)

    assert not faults, told(faults)
    assert sum(outcomes.values()) == 300
    assert {"volume", "truncated", "unreadable", "not_nifti", "bad_zip", "too_large"} <= set(outcomes)


def test_each_of_several_hundred_clips_of_compressed_frames_does_too() -> None:
    outcomes, faults = ask(CLIPS_FROM, 200)

    assert not faults, told(faults)
    assert sum(outcomes.values()) == 200
    assert {"clip of 3 axes", "unreadable"} <= set(outcomes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_each_of_ten_thousand_clips_does() -> None:
    outcomes, faults = ask(CLIPS_FROM, 10_000)

    assert not faults, told(faults)
    assert sum(outcomes.values()) == 10_000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_each_of_fifty_thousand_files_does() -> None:
    outcomes, faults = ask(0, 50_000)

    assert not faults, told(faults)
    assert sum(outcomes.values()) == 50_000
    assert 0.1 < outcomes["volume"] / 50_000 < 0.5  # faults that change nothing that counts are no faults


def test_the_same_number_makes_the_same_file() -> None:
    first, again, other = make_mutant(11), make_mutant(11), make_mutant(13)

    assert first == again
    assert first.data != other.data


def test_a_worker_that_ends_is_told_with_the_number_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter([[{"begun": 5}, {"outcome": "volume", "fault": ""}, {"begun": 6}], [{"begun": 7}, {"leak": ""}]])
    monkeypatch.setattr("tests.support.hostile._lines", lambda numbers: next(lines))

    outcomes, faults = ask(5, 3)

    assert outcomes == {"volume": 1, "died": 1}
    assert [fault["number"] for fault in faults] == [6]


@pytest.mark.parametrize("name", sorted(set(nifti_mutants.bases(EDGE)) - {"the header of a pair"}))
def test_the_sound_nifti_files_have_the_voxels_that_nibabel_reads(name: str) -> None:
    data = nifti_mutants.bases(EDGE)[name]
    kind = nib.Nifti2Image if "NIfTI-2" in name else nib.Nifti1Image
    expected = kind.from_bytes(data)

    found = read_image(data, name="x")

    np.testing.assert_array_equal(found.voxels_XYZ, np.squeeze(expected.get_fdata(dtype=np.float32)))
    np.testing.assert_allclose(found.affine, expected.affine, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(dicom_mutants.bases(EDGE)))
def test_the_sound_dicom_files_have_the_voxels_that_pydicom_reads(name: str) -> None:
    files = dicom_mutants.bases(EDGE)[name]
    planes = []
    for read in (pydicom.dcmread(io.BytesIO(file)) for file in files):
        groups = read.get("PerFrameFunctionalGroupsSequence") or [None]
        for frame, plane in zip(groups, read.pixel_array.reshape(-1, read.Rows, read.Columns), strict=True):
            place = read if frame is None else frame.PlanePositionSequence[0]
            scale = read if frame is None else frame.PixelValueTransformationSequence[0]
            slope, intercept = scale.get("RescaleSlope", 1.0), scale.get("RescaleIntercept", 0.0)
            values = plane.astype(np.float32) * np.float32(slope) + np.float32(intercept)
            planes.append((float(place.ImagePositionPatient[2]), values))
    expected = np.stack([plane for _, plane in sorted(planes, key=lambda one: one[0])])

    found = read_series(files, name="x")

    np.testing.assert_array_equal(found.voxels_XYZ.transpose(2, 1, 0), expected)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("models") / "tiny" / "1")


def send(client: TestClient, data: bytes) -> Any:
    return client.post("/v1/embeddings", files={"scan": ("canary", data)})


def ask_service(client: TestClient, first: int, count: int) -> Counter[int]:
    """Upload mutants one after the other; every answer is a documented one."""
    statuses: Counter[int] = Counter()
    for number in range(first, first + count):
        mutant = make_mutant(number, edge=SERVED_EDGE if number % 2 else EDGE)
        response = send(client, mutant.data)
        statuses[response.status_code] += 1
        assert response.status_code in (200, 422), (number, mutant.steps, response.text)
        if response.status_code == 422:
            problem = assert_problem(response, 422, response.json()["code"])
            assert "anary" not in response.text, (number, mutant.steps)
            assert problem["code"] in ("scan_too_costly", "scan_broke_reader") or problem["findings"], number
    return statuses


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform.startswith("linux") else 0


def resident_mib() -> float:
    """Memory of this process, which is the service here; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0.0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def held_out(artefact: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A service that is sent mutants answers a sound scan afterwards as before, and keeps nothing of them."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with running(artefact, max_voxels=2**18) as client:
        before = send(client, head_nifti())
        assert before.status_code == 200
        ask_service(client, 10**6, count // 4)  # what is kept for good is there after some
        files, memory = handles(), resident_mib()
        statuses = ask_service(client, 10**6 + count // 4, count - count // 4)
        after = send(client, head_nifti())
        assert after.json()["embedding"] == before.json()["embedding"]
        assert {200, 422} == set(statuses)
        # Decoders that were ended are replaced a moment later, with a connection each.
        limit = time.monotonic() + 30
        while handles() > files + 4 and time.monotonic() < limit:
            time.sleep(0.05)
        assert handles() <= files + 4
        assert resident_mib() <= memory + 64
        assert client.get("/readyz").status_code == 200
        assert [path for path in temporary.iterdir() if path.is_file()] == []


def test_a_service_answers_hostile_files_and_keeps_nothing_of_them(artefact, tmp_path, monkeypatch) -> None:
    held_out(artefact, tmp_path, monkeypatch, 60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_service_holds_out_against_thousands(artefact, tmp_path, monkeypatch) -> None:
    held_out(artefact, tmp_path, monkeypatch, 3000)
