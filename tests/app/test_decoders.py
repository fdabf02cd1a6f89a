"""Decoding processes: the batch job's volumes, limits that end one process and no more, and nothing said of a file."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.decoders import DecodeLimits, Decoders, as_file
from app.errors import ProblemError
from app.inputs import prepare
from preprocess.errors import ScanError
from tests.support.artefacts import RECIPE
from tests.support.heads import head_nifti, nifti

LIMITS = DecodeLimits(max_voxels=2**24, memory_bytes=2**28, cpu_s=60.0)
HEAD = head_nifti()


def using(work: Callable[[Decoders], Awaitable[Any]], limits: DecodeLimits = LIMITS) -> None:
    """Run `work` with one started process."""

    async def go() -> None:
        decoders = Decoders(1, limits)
        await decoders.start()
        try:
            async with asyncio.timeout(60):
                await work(decoders)
        finally:
            await decoders.stop()

    asyncio.run(go())


async def decode(decoders: Decoders, data: bytes = HEAD) -> Any:
    with as_file(data) as file:
        return await decoders.decode(file, RECIPE, name="earlier")


def pid_of(decoders: Decoders) -> int:
    (decoder,) = decoders._all
    assert decoder._process.pid is not None
    return decoder._process.pid


async def assert_works(decoders: Decoders) -> None:
    np.testing.assert_array_equal((await decode(decoders)).voxels_CDHW, prepare(HEAD, RECIPE, name="x").voxels_CDHW)


def test_a_scan_is_what_this_process_would_make_of_it():
    async def work(decoders: Decoders) -> None:
        for _ in range(2):
            there, here = await decode(decoders), prepare(HEAD, RECIPE, name="earlier")
            np.testing.assert_array_equal(there.voxels_CDHW, here.voxels_CDHW)
            assert there.voxels_CDHW.dtype == here.voxels_CDHW.dtype
            assert (there.sha256, there.findings, there.affine) == (here.sha256, here.findings, here.affine)
        assert decoders.num_replaced == 0

    using(work)


def test_a_scan_that_cannot_be_used_is_the_same_finding_and_costs_no_process():
    data = nifti(np.zeros((40, 40, 40), np.int16), np.diag([4.0, 4, 4, 1]))

    async def work(decoders: Decoders) -> None:
        with pytest.raises(ScanError) as caught:
            await decode(decoders, data)
        with pytest.raises(ScanError) as here:
            prepare(data, RECIPE, name="earlier")
        assert caught.value.finding == here.value.finding
        assert decoders.num_replaced == 0
        await assert_works(decoders)

    using(work)


def test_a_scan_beyond_the_memory_is_refused_and_the_next_is_answered():
    data = nifti(np.random.default_rng(0).integers(0, 99, (160, 160, 160), np.int32), np.diag([1.0, 1, 1, 1]))

    async def work(decoders: Decoders) -> None:
        with pytest.raises(ProblemError, match=r"earlier: decoding it takes more than 16 MiB of memory") as caught:
            await decode(decoders, data)
        assert (caught.value.status, caught.value.code) == (422, "scan_too_costly")
        await assert_works(decoders)

    using(work, DecodeLimits(max_voxels=2**24, memory_bytes=2**24, cpu_s=60.0))


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGXCPU, "scan_too_costly", "60 s of CPU time"), (signal.SIGSEGV, "scan_broke_reader", "broke down")],
)
def test_a_process_that_ends_over_a_scan_is_replaced_and_the_scan_refused(number, code, said, caplog):
    async def work(decoders: Decoders) -> None:
        pid = pid_of(decoders)
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(decode(decoders))
        await asyncio.sleep(0.05)
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(ProblemError, match=said) as caught:
            await task
        assert (caught.value.status, caught.value.code) == (422, code)
        await assert_works(decoders)
        assert decoders.num_replaced == 1
        assert pid_of(decoders) != pid

    using(work)


def test_a_cancelled_scan_ends_its_process_and_frees_its_place():
    async def work(decoders: Decoders) -> None:
        pid = pid_of(decoders)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await decode(decoders)
        await assert_works(decoders)
        assert pid_of(decoders) != pid

    using(work)


def test_one_who_waits_for_a_process_and_gives_up_costs_none():
    async def work(decoders: Decoders) -> None:
        pid = pid_of(decoders)
        os.kill(pid, signal.SIGSTOP)
        first = asyncio.create_task(decode(decoders))
        await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await decode(decoders)
        os.kill(pid, signal.SIGCONT)
        await first
        assert pid_of(decoders) == pid

    using(work)


def test_signals_to_the_group_do_not_end_processes_in_the_middle_of_an_answer():
    async def work(decoders: Decoders) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid_of(decoders), number)
        await assert_works(decoders)
        assert decoders.num_replaced == 0

    using(work)


def test_nothing_is_left_when_the_pool_has_stopped():
    pids = []

    async def work(decoders: Decoders) -> None:
        pids.append(pid_of(decoders))

    using(work)
    (pid,) = pids
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        multiprocessing.active_children()  # which buries the dead
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def test_a_missing_package_is_said_with_what_to_send_instead():
    async def work(decoders: Decoders) -> None:
        with pytest.raises(ProblemError, match="later: this service reads no DICOM; send NIfTI") as caught:
            decoders._unpack({"outcome": "no_decoder"}, b"", "later")
        assert (caught.value.status, caught.value.code) == (422, "decoder_missing")

    using(work)


def test_an_unknown_fault_of_a_reader_is_the_service_s():
    async def work(decoders: Decoders) -> None:
        with pytest.raises(RuntimeError, match="KeyError"):
            decoders._unpack({"outcome": "failed", "error": "KeyError"}, b"", "later")

    using(work)
