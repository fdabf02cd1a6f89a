"""Files with faults asked of the readers, in a process that the kernel holds to the service's own limits.

    python -m tests.support.hostile --first 0 --count 50000   # one JSON line a fault, then how many were asked
    python -m tests.support.hostile --first 1000000000 --count 5000   # clips of compressed frames
    python -m tests.support.hostile --first 4711 --count 1 --out 4711.bin   # that file again

A mutant is its number: the same number makes the same file wherever Python, its zlib and the encoders are the same.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import dicom_mutants, jpegs, nifti_mutants

MAX_VOXELS = 2**18
MEMORY_BYTES = 12 * MAX_VOXELS + 2**26
"""What docs/operations.md allows for an image, and a quarter of what it allows beside it."""
CPU_S = 5.0
"""For one small file; the service allows 20 s for large ones."""
EDGE = 16
CLIPS_FROM = 10**9
"""Numbers of clips whose frames are compressed; those below are volumes."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with faults.

    Attributes:
        number: makes it again.
        steps: what it was and what was done to it.
        data: its bytes.
    """

    number: int
    steps: tuple[str, ...]
    data: bytes


def make_mutant(number: int, *, edge: int = EDGE) -> Mutant:
    """Half of the volumes are NIfTI, half DICOM; from `CLIPS_FROM` on they are clips in DICOM.

    Args:
        number: the seed.
        edge: voxels along each axis of the sound file.
    """
    rng = random.Random(number)
    if number >= CLIPS_FROM:
        steps, data = jpegs.mutant(rng)
    else:
        steps, data = (nifti_mutants if number % 2 else dicom_mutants).mutant(rng, edge)
    return Mutant(number, tuple(steps), data)


def fault_of(mutant: Mutant) -> tuple[str, str]:
    """How one mutant ends.

    Returns:
        The outcome, `volume` or the finding's code; and what is wrong with it, empty where nothing is.
    """
    from preprocess.dicom import read_dicom
    from preprocess.errors import ScanError
    from preprocess.images import read_image

    start = time.process_time()
    fault = ""
    try:
        if mutant.number >= CLIPS_FROM:
            return f"clip of {read_dicom(mutant.data, name='the scan', max_voxels=MAX_VOXELS).ndim} axes", ""
        image = read_image(mutant.data, name="the scan", max_voxels=MAX_VOXELS)
    except ScanError as error:
        outcome = error.finding.code
        fault = _odd_message(str(error))
    except MemoryError:
        return "memory", f"more than {MEMORY_BYTES / 2**20:.0f} MiB"
    except BaseException as error:  # noqa: BLE001  # which is what is looked for
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = "" if where is None else f" at {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
        return type(error).__name__, f"{type(error).__name__}: {str(error)[:120]}{at}"
    else:
        outcome = "volume"
        voxels = image.voxels_XYZ
        if voxels.size > MAX_VOXELS or voxels.dtype.kind not in "iuf" or not np.isfinite(image.affine).all():
            fault = f"a volume of {voxels.shape} {voxels.dtype} at {image.affine.tolist()}"
        for finding in image.findings:
            fault = fault or _odd_message(finding.message)
    seconds = time.process_time() - start
    return outcome, fault or (f"{seconds:.1f} s of CPU time" if seconds > CPU_S else "")


def _odd_message(message: str) -> str:
    if not message.startswith("the scan: ") or not message.isprintable() or "Canary" in message or len(message) > 500:
        return f"message {message[:200]!r}"
    return ""


def ask(first: int, count: int, *, step: int = 1) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Ask many mutants of the readers, in processes of their own; one that ends is replaced and its mutant blamed.

    Args:
        first: number of the first mutant.
        count: how many.
        step: between numbers.

    Returns:
        How often each outcome came, and the faults with their numbers.
    """
    outcomes: Counter[str] = Counter()
    faults = []
    numbers = range(first, first + count * step, step)
    while numbers:
        begun = None
        for line in _lines(numbers):
            if "begun" in line:
                begun = line["begun"]
            elif "outcome" in line:
                outcomes[line["outcome"]] += 1
                if line["fault"]:
                    faults.append(line)
            else:
                return outcomes, faults + ([{"leak": line["leak"]}] if line["leak"] else [])
        if begun is None:
            raise RuntimeError("the process that asks the readers did not begin")
        outcomes["died"] += 1
        faults.append(
            {"number": begun, "outcome": "died", "fault": "the process ended", "steps": make_mutant(begun).steps}
        )
        numbers = range(begun + step, numbers.stop, step)
    return outcomes, faults


def _lines(numbers: range) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.hostile", "--worker"]
    command += [str(numbers.start), str(numbers.stop), str(numbers.step)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # readers in C print too
                yield json.loads(line)


def _work(numbers: range) -> None:
    """Inside the process: limits, one mutant after the other, and what is left behind at the end."""
    import preprocess.images  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silent, stream)
    warnings.simplefilter("error")
    fault_of(Mutant(-1, (), dicom_mutants.bases(EDGE)["enhanced, JPEG 2000 Image Compression (Lossless Only)"][0]))
    for number, data in enumerate(jpegs.bases().values()):  # decoders keep memory for good
        fault_of(Mutant(CLIPS_FROM + number, (), data))
    nifti_mutants.bases(EDGE)
    handles = _num_handles()
    for number in numbers:
        answers.write(json.dumps({"begun": number}) + "\n")
        mutant = make_mutant(number)
        with _held_to(MEMORY_BYTES, 2 * CPU_S):
            outcome, fault = fault_of(mutant)
        answers.write(json.dumps({"number": number, "outcome": outcome, "fault": fault, "steps": mutant.steps}) + "\n")
    left = _num_handles() - handles
    answers.write(json.dumps({"leak": f"{left} file handles" if left else ""}) + "\n")


def _num_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform.startswith("linux") else 0


@contextmanager
def _held_to(num_bytes: int, cpu_s: float) -> Iterator[None]:
    """Hold this process to what it has now and so many bytes and seconds more; memory on Linux, as in the service."""
    unlimited = resource.RLIM_INFINITY
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu_s) + 1, unlimited))
    if sys.platform.startswith("linux"):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = [line for line in status.splitlines() if line.startswith("VmData:")]
        resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024 + num_bytes, unlimited))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (unlimited, unlimited))
        resource.setrlimit(resource.RLIMIT_DATA, (unlimited, unlimited))


def main() -> None:
    """Ask mutants of the readers and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--count", type=int, default=50_000, help="how many mutants")
    parser.add_argument("--out", type=Path, help="write the first mutant here and ask nothing")
    parser.add_argument("--worker", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        _work(range(*given.worker))
        return
    if given.out:
        mutant = make_mutant(given.first)
        given.out.write_bytes(mutant.data)
        print("\n".join(mutant.steps))
        return
    outcomes, faults = ask(given.first, given.count)
    for fault in faults:
        print(json.dumps(fault))
    print(
        json.dumps({"asked": sum(outcomes.values()), "faults": len(faults), "outcomes": dict(outcomes.most_common())})
    )


if __name__ == "__main__":
    main()
