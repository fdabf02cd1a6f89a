"""The pool of decoding processes: scans become volumes there, within limits of memory, CPU and time.

Processes are forked from one that has imported the readers already, so that a new one costs milliseconds: a request
whose client left, whose deadline passed or whose file broke a limit ends its process, and another takes its place.
"""

import asyncio
import json
import multiprocessing
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import send_handle
from typing import IO, Any

import numpy as np

from app.decoder_process import CPU_REACHED, Job, serve
from app.errors import ProblemError
from app.forking import start_forking
from app.inputs import PreparedScan
from preprocess.console import LOG
from preprocess.errors import ScanError
from preprocess.recipe import VolumeRecipe
from preprocess.types import Finding

_START_S = 60.0
"""A process that is not ready by then will not be: the first waits for imports, which take seconds on a cold disk."""
_RETRY_S = 5.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one scan may take.

    Attributes:
        max_voxels: largest image taken.
        memory_bytes: beyond what an idle process has; held by the kernel on Linux.
        cpu_s: CPU time, seconds.
    """

    max_voxels: int
    memory_bytes: int
    cpu_s: float


class Decoders:
    """Processes that decode scans, a fixed number of them.

        decoders = Decoders(2, limits)
        await decoders.start()
        scan = await decoders.decode(file, recipe, name="earlier")
        await decoders.stop()

    Args:
        num_processes: scans decoded at once.
        limits: what each may take.
    """

    def __init__(self, num_processes: int, limits: DecodeLimits) -> None:
        self._num_processes = num_processes
        self._limits = limits
        self._idle: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._all: set[_Decoder] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        # One thread a process waits for its answer; others start new ones.
        self._threads = ThreadPoolExecutor(2 * num_processes, "decode")
        self._is_stopping = False
        self.num_replaced = 0

    @property
    def is_ready(self) -> bool:
        """Whether every process has imported what it needs."""
        return len(self._all) == self._num_processes

    async def start(self) -> None:
        """Start all processes; the first takes as long as the imports do."""
        for _ in range(self._num_processes):
            await self._add()

    async def stop(self) -> None:
        """End all processes at once."""
        self._is_stopping = True
        for task in self._replacing:
            task.cancel()
        for decoder in list(self._all):
            decoder.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def decode(self, file: IO[bytes], recipe: VolumeRecipe, *, name: str) -> PreparedScan:
        """Make a scan ready in another process; a cancelled call ends that process.

        Args:
            file: a real file, whole.
            recipe: the volume recipe that the model was trained with.
            name: what messages call the scan.

        Raises:
            ScanError: the scan cannot be used; the most severe finding.
            ProblemError: 422 `scan_too_costly` beyond a limit, `decoder_missing`; 500 where a reader crashed.
        """
        limits = self._limits
        job = Job(recipe, name, limits.max_voxels, limits.cpu_s)
        decoder = await self._idle.get()
        is_sound = False
        try:
            loop = asyncio.get_running_loop()
            head, voxels = await loop.run_in_executor(self._threads, decoder.exchange, job, file.fileno())
            is_sound = True
        except (EOFError, OSError) as error:
            raise self._verdict(decoder, name) from error
        finally:
            if is_sound:
                self._idle.put_nowait(decoder)
            else:
                self._replace(decoder)
        return self._unpack(head, voxels, name)

    def _verdict(self, decoder: "_Decoder", name: str) -> ProblemError:
        """Why a process is gone."""
        code = decoder.end()
        if code == CPU_REACHED:
            return self._too_costly(name, f"more than {self._limits.cpu_s:g} s of CPU time")
        LOG.error("a decoding process ended with %s over %s; another takes its place", code, name)
        detail = f"{name}: the reader broke down over this file; export the scan again, as plain NIfTI if you can"
        return ProblemError(422, "scan_broke_reader", detail)

    def _too_costly(self, name: str, what: str) -> ProblemError:
        detail = f"{name}: decoding it takes {what}; crop or resample the scan, or ask the operator to raise the limit"
        return ProblemError(422, "scan_too_costly", detail)

    def _unpack(self, head: dict[str, Any], voxels: bytes, name: str) -> PreparedScan:
        outcome = head["outcome"]
        if outcome == "done":
            values = np.frombuffer(voxels, np.dtype(head["dtype"])).reshape(head["shape"])
            findings = tuple(Finding(**finding) for finding in head["findings"])
            return PreparedScan(values, head["sha256"], findings, tuple(head["affine"]))
        if outcome == "refused":
            raise ScanError(Finding(**head["finding"]))
        if outcome == "no_decoder":
            detail = f"{name}: this service reads no DICOM; send NIfTI, or ask the operator for interscan[dicom]"
            raise ProblemError(422, "decoder_missing", detail)
        if outcome == "too_large":
            raise self._too_costly(name, f"more than {self._limits.memory_bytes / _MIB:.0f} MiB of memory")
        raise RuntimeError(f"a decoding process failed: {head['error']}")

    def _replace(self, decoder: "_Decoder") -> None:
        decoder.kill()
        self._all.discard(decoder)
        if self._is_stopping:
            return
        self.num_replaced += 1
        task = asyncio.get_running_loop().create_task(self._add())
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _add(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                decoder = await loop.run_in_executor(self._threads, _Decoder, self._limits.memory_bytes)
                break
            except (RuntimeError, OSError) as error:
                if self._is_stopping:
                    return
                LOG.error("no decoding process could be started: %s; trying again", error)
                await asyncio.sleep(_RETRY_S)
        if self._is_stopping:
            decoder.kill()
            return
        self._all.add(decoder)
        self._idle.put_nowait(decoder)


class _Decoder:
    """One process and the connection to it.

    Raises:
        RuntimeError: it does not become ready.
    """

    def __init__(self, memory_bytes: int) -> None:
        start_forking()
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=serve, args=(theirs, memory_bytes), name="interscan-decode", daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._connection.poll(_START_S):
            self.kill()
            raise RuntimeError(f"a decoding process was not ready within {_START_S:g} s")
        try:
            self._connection.recv_bytes()
        except EOFError as error:
            raise RuntimeError(f"a decoding process ended with {self.end()} before it was ready") from error

    def exchange(self, job: Job, descriptor: int) -> tuple[dict[str, Any], bytes]:
        """Hand a job over and wait for its answer.

        Raises:
            EOFError: the process ended.
            OSError: likewise.
        """
        connection: Connection = self._connection
        connection.send(job)
        pid = self._process.pid
        assert pid is not None
        send_handle(connection, descriptor, pid)
        head: dict[str, Any] = json.loads(connection.recv_bytes())
        return head, connection.recv_bytes() if head["outcome"] == "done" else b""

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer is told."""
        self._process.kill()

    def end(self) -> int | None:
        """Wait for the end of a process that is ending; its exit code."""
        self._process.join(5.0)
        return self._process.exitcode


def as_file(data: bytes) -> IO[bytes]:
    """An unnamed file that holds `data`.

    Raises:
        OSError: no room for it.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # its receiver closes it
    try:
        file.write(data)
        file.flush()
    except OSError:
        file.close()
        raise
    return file
