"""What a decoding process does: take a file, make the volume, hand it back; under limits that the kernel keeps.

Files come from anybody, and readers of NIfTI, DICOM and its compressed forms are much code. It runs here: a file that
fills the memory, spins or crashes a reader costs one such process, which is replaced. What goes back is JSON and raw
voxels, never an object that the service would have to trust.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from preprocess.errors import ScanError, UsageError
from preprocess.recipe import VolumeRecipe

CPU_REACHED = -int(signal.SIGXCPU)
"""Exit code of a process that used up its CPU time."""
_NICENESS = 5


@dataclass(frozen=True, slots=True)
class Job:
    """One scan to decode; its file is handed over beside it.

    Attributes:
        recipe: the volume recipe that the model was trained with.
        name: what messages call the scan.
        max_voxels: largest image taken.
        cpu_s: CPU time that it may take, seconds.
    """

    recipe: VolumeRecipe
    name: str
    max_voxels: int
    cpu_s: float


def serve(connection: Connection, memory_bytes: int) -> None:
    """Decode one job after the other until the connection closes; the whole life of a decoding process.

    Args:
        connection: over which jobs come and answers go.
        memory_bytes: most that the process may take beyond what it has now, where the system can hold it to that.
    """
    # A terminal and a service manager signal all processes of a group: the service alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The event loop, which lets in and refuses, comes first where cores are short.
    os.nice(_NICENESS)
    _fall_silent()
    _load()
    connection.send_bytes(b"ready")
    _limit_memory(memory_bytes)
    while True:
        try:
            job = connection.recv()
            descriptor = recv_handle(connection)
        except (EOFError, OSError):
            return
        head, voxels = answer(job, descriptor)
        try:
            connection.send_bytes(json.dumps(head).encode())
            if voxels:
                connection.send_bytes(voxels)
        except OSError:
            return


def answer(job: Job, descriptor: int) -> tuple[dict[str, Any], bytes]:
    """The answer to a job: what it came to, and the voxels, empty where there are none.

    Args:
        job: what to do.
        descriptor: the file; closed here.
    """
    from app.inputs import prepare

    try:
        _limit_cpu(job.cpu_s)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            data = file.read()
        scan = prepare(data, job.recipe, name=job.name, max_voxels=job.max_voxels)
    except ScanError as error:
        return {"outcome": "refused", "finding": asdict(error.finding)}, b""
    except UsageError:
        return {"outcome": "no_decoder"}, b""
    except MemoryError:
        return {"outcome": "too_large"}, b""
    except Exception as error:  # noqa: BLE001  # whatever it is, it goes to the service and the next file comes
        # PyTorch says MemoryError as a RuntimeError.
        is_memory = isinstance(error, RuntimeError) and "memory" in str(error)
        return {"outcome": "too_large" if is_memory else "failed", "error": type(error).__name__}, b""
    head = {
        "outcome": "done",
        "shape": scan.voxels_CDHW.shape,
        "dtype": scan.voxels_CDHW.dtype.name,
        "sha256": scan.sha256,
        "findings": [asdict(finding) for finding in scan.findings],
        "affine": scan.affine,
    }
    return head, scan.voxels_CDHW.tobytes()


def _fall_silent() -> None:
    """Readers of images print what they stumble over, and a header may hold a name."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _load() -> None:
    """Import what decoding needs, before memory is counted; and use one thread.

    As many processes run as there are scans to decode; threads of theirs would wait for each other by spinning.
    """
    import numpy as np
    import torch
    from threadpoolctl import threadpool_limits

    import app.inputs  # noqa: F401

    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    # OpenBLAS takes its buffers at the first product, and ends the process where it gets none.
    np.ones((256, 256), np.float32) @ np.ones((256, 256), np.float32)
    np.ones((256, 256)) @ np.ones((256, 256))


def _limit_memory(memory_bytes: int) -> None:
    """Hold this process to what it has and `memory_bytes` more; Linux only, elsewhere there is no such limit."""
    if not sys.platform.startswith("linux"):
        return
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmData:")]
    limit = int(line.split()[1]) * 1024 + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _limit_cpu(cpu_s: float) -> None:
    """End this process once it has used `cpu_s` more seconds of CPU time, rounded up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
