"""Inside a decoding process: answers that hold no objects, silence, and limits that the kernel keeps."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from app.decoder_process import CPU_REACHED, Job, _fall_silent, _limit_cpu, _limit_memory, answer
from app.decoders import as_file
from app.inputs import prepare
from tests.support.artefacts import RECIPE
from tests.support.heads import head_nifti

JOB = Job(RECIPE, "later", 2**24, 600.0)


def answered(data: bytes) -> tuple[dict[str, object], bytes]:
    with as_file(data) as file:
        return answer(JOB, os.dup(file.fileno()))


def test_an_answer_is_json_and_raw_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.decoder_process._limit_cpu", lambda _: None)
    head, voxels = answered(head_nifti())
    head = json.loads(json.dumps(head))
    expected = prepare(head_nifti(), RECIPE, name="later")
    found = np.frombuffer(voxels, str(head["dtype"])).reshape(head["shape"])  # type: ignore[call-overload]
    np.testing.assert_array_equal(found, expected.voxels_CDHW)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), "too_large"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "too_large"),
        (RuntimeError("jane doe"), "failed"),
        (KeyError("jane doe"), "failed"),
    ],
)
def test_whatever_happens_is_an_outcome_without_the_words_of_the_error(
    error: Exception, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("app.decoder_process._limit_cpu", lambda _: None)
    monkeypatch.setattr("app.inputs.prepare", fail)
    head, voxels = answered(b"x")
    assert head["outcome"] == outcome
    assert voxels == b""
    assert "jane" not in json.dumps(head)


def test_scans_that_cannot_be_used_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.decoder_process._limit_cpu", lambda _: None)
    head, _ = answered(b"no scan at all")
    assert head["outcome"] == "refused"
    assert str(head["finding"]["message"]).startswith("later: ")  # type: ignore[index]


def spin() -> None:
    _limit_cpu(0.0)
    while True:
        pass


def fill(more_bytes: int, path: str) -> None:
    _limit_memory(2**26)
    try:
        np.ones(more_bytes, np.uint8)
    except MemoryError:
        Path(path).write_text("refused")
    else:
        Path(path).write_text("granted")


def speak(path: str) -> None:
    _fall_silent()
    os.write(1, b"jane doe")
    os.write(2, b"jane doe")
    Path(path).write_text("done")


def run(target: object, *args: object) -> int | None:
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)  # type: ignore[arg-type]
    process.start()
    process.join(120)
    return process.exitcode


def test_a_process_that_uses_up_its_time_is_ended_by_the_kernel() -> None:
    assert run(spin) == CPU_REACHED


@pytest.mark.parametrize(("more_bytes", "said"), [(2**24, "granted"), (2**27, "refused")])
def test_a_process_gets_so_much_memory_and_no_more(more_bytes: int, said: str, tmp_path: Path) -> None:
    assert run(fill, more_bytes, str(tmp_path / "said")) == 0
    assert (tmp_path / "said").read_text() == said


def test_what_readers_print_goes_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(speak, str(tmp_path / "said")) == 0
    assert (tmp_path / "said").read_text() == "done"
    assert "jane" not in "".join(capfd.readouterr())
