"""What one reader has to read, and how each is timed: the same clock, CPU and memory for ours and for peers.

Every reader is a module of this folder with a function `open_batches(job)`, run as a process of its own:
`python -m benchmarks.peers.NAME JOB`, where JOB is a JSON object; it prints one line of JSON. Only torch and the
standard library are needed here, so that the environment of the peers can run it.
"""

import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

_SAMPLE_EVERY = 8
"""Batches between two looks at the memory of the process and its workers."""
_GROWTH_STARTS_AT = 0.1
"""Part of the volumes after which memory counts as settled."""


@dataclass(frozen=True)
class Job:
    """One reader's task.

    Attributes:
        endpoint: base URL of the bucket.
        bucket: its name; below it lie `store/`, `npy/`, and the peers' own formats.
        local: folder with the same, and room for the caches that peers keep.
        num_rows: volumes that are stored.
        volumes: volumes to read; rows come again when there are fewer.
        batch: volumes in a batch.
        in_flight: most requests at once, where the reader knows such a number.
        edge: of a volume, in voxels.
        step_s: simulated accelerator: seconds that it sleeps for each volume.
        keep_growth: whether memory growth is measured, which collects garbage twice.
    """

    endpoint: str
    bucket: str
    local: str
    num_rows: int
    volumes: int
    batch: int = 32
    in_flight: int = 64
    edge: int = 96
    step_s: float = 0.0
    keep_growth: bool = False

    @property
    def gs_options(self) -> dict[str, str]:
        """Arguments of a gcsfs file system for the bucket."""
        return {"token": "anon", "project": "test", "endpoint_url": self.endpoint}

    def batches_of_rows(self) -> list[list[int]]:
        """Rows of each batch, in order; the last may be short."""
        rows = [number % self.num_rows for number in range(self.volumes)]
        return [rows[start : start + self.batch] for start in range(0, self.volumes, self.batch)]


Reader = Callable[[Job], Iterable[torch.Tensor]]
"""Prepares (opens the store or data set), then yields batches of uint8 volumes, shape (B, 1, D, H, W)."""


def main(open_batches: Reader, write: Callable[[Path, Path], None] | None = None) -> None:
    """Run a reader on the job of the command line, or write its format: `write NPY_FOLDER OUT_FOLDER`."""
    if sys.argv[1] == "write":
        assert write is not None
        write(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    # fsspec would import it at the first request to the bucket, and imports are not what is timed.
    if importlib.util.find_spec("gcsfs") is not None:
        importlib.import_module("gcsfs")
    print(json.dumps(measure(open_batches, Job(**json.loads(sys.argv[1])))))


def measure(open_batches: Reader, job: Job) -> dict[str, float]:
    """Read everything once.

    Returns:
        volumes: how many were read.
        open_s: until the reader was ready to be iterated, imports not counted.
        first_batch_s: from the same start to the first batch.
        volumes_per_s: all volumes over the time from the first request of a batch to the last batch.
        after_first_per_s: the same without the first batch and the time it took, which forgives slow starts.
        au: time in simulated steps over the time from the first request to the end.
        cpu_s: of the process and its workers, opening included.
        peak_rss_mb: sum of the peaks of the process and its workers.
        growth_mb: resident memory at the end less that after a tenth, when requested.
    """
    cpu_s = _tree_cpu_s()
    begun = time.perf_counter()
    batches = iter(open_batches(job))
    opened = time.perf_counter()
    first, first_size, volumes, step_s, peak_kb, settled_kb = 0.0, 0, 0, 0.0, 0, 0
    for number, batch in enumerate(batches):
        if not volumes:
            first, first_size = time.perf_counter(), len(batch)
            assert batch.dtype == torch.uint8, batch.dtype
            assert tuple(batch.shape[1:]) == (1, job.edge, job.edge, job.edge), batch.shape
            assert int(batch[0].max()) > 0
        volumes += len(batch)
        if number % _SAMPLE_EVERY == 0:
            peak_kb = max(peak_kb, sum(_status_kb(pid, "VmHWM") for pid in _tree()))
        if job.keep_growth and not settled_kb and volumes >= _GROWTH_STARTS_AT * job.volumes:
            settled_kb = _settled_kb()
        if job.step_s:
            step_begun = time.perf_counter()
            time.sleep(job.step_s * len(batch))
            step_s += time.perf_counter() - step_begun
    ended = time.perf_counter()
    peak_kb = max(peak_kb, sum(_status_kb(pid, "VmHWM") for pid in _tree()))
    result = {
        "volumes": volumes,
        "open_s": opened - begun,
        "first_batch_s": first - begun,
        "volumes_per_s": volumes / (ended - opened),
        "after_first_per_s": (volumes - first_size) / (ended - first) if volumes > first_size else 0.0,
        "au": step_s / (ended - opened),
        "cpu_s": _tree_cpu_s() - cpu_s,
        "peak_rss_mb": peak_kb * 1024 / 1e6,
    }
    if job.keep_growth:
        result["growth_mb"] = (_settled_kb() - settled_kb) * 1024 / 1e6
    return result


def _settled_kb() -> int:
    gc.collect()
    return _status_kb(os.getpid(), "VmRSS")


def _tree() -> list[int]:
    """This process and its living descendants."""
    found, waiting = [], [os.getpid()]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for thread in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += map(int, thread.read_text().split())
            except OSError:  # a thread that has just ended
                continue
    return found


def _status_kb(pid: int, field: str) -> int:
    """A value of /proc/PID/status. Not ru_maxrss, which a child inherits from who started it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # a worker that has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def _tree_cpu_s() -> float:
    """CPU seconds of this process, of its living workers, and of those that have been waited for."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid in _tree()[1:]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total
