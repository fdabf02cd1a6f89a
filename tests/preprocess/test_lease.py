"""One process writes to a location: others hear who, exactly one replaces the dead, and a lost lease stops writes."""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from preprocess.errors import RunError, StorageError, StoreError
from preprocess.lease import LEASE_NAME, STORE, Lease, LeasedLocation, held
from preprocess.storage import Location
from tests.support.troubled import TroubledLocation


@pytest.fixture
def run(tmp_path: Path) -> Location:
    return Location(tmp_path / "run")


def record(run: Location) -> dict[str, Any]:
    return json.loads(run.read(LEASE_NAME))


def change(run: Location, **fields: Any) -> None:
    run.write(LEASE_NAME, json.dumps({**record(run), **fields}).encode())


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_the_lease_names_this_process_and_is_gone_afterwards(run: Location) -> None:
    with Lease(run):
        found = record(run)
        assert (found["host"], found["pid"]) == (platform.node(), os.getpid())
        assert abs(found["heartbeat"] - time.time()) < 60
    assert run.names() == []


class Repeating(Location):
    """A bucket whose first answers are lost: the client asks again and finds its own object in the way."""

    def create(self, name: str, data: bytes) -> bool:
        super().create(name, data)
        return super().create(name, data)


def test_a_lease_whose_first_answer_was_lost_is_known_as_ones_own(tmp_path: Path) -> None:
    location = Repeating(tmp_path / "run")
    with Lease(location) as lease:
        lease.require()
        assert record(location)["pid"] == os.getpid()
        with pytest.raises(RunError, match="trains this run since"):
            Lease(location).acquire()
    assert location.names() == []


def test_a_second_writer_hears_who_holds_the_run_since_when(run: Location) -> None:
    with Lease(run):
        change(run, since=0.0, heartbeat=time.time() - 20)
        with pytest.raises(RunError) as raised:
            Lease(run).acquire()
        assert raised.value.exit_code == 3
        assert str(raised.value) == (
            f"{run.uri}: host {platform.node()}, pid {os.getpid()} trains this run since 1970-01-01 00:00:00 UTC, "
            "last heartbeat 20 s ago; wait until it ends, or use another --run"
        )
        assert record(run)["pid"] == os.getpid()


@pytest.mark.parametrize("fields", [{"pid": 0}, {"process_start": 12}])
def test_a_dead_process_of_this_machine_is_replaced_at_once(run: Location, fields: dict[str, int]) -> None:
    Lease(run).acquire()
    if "pid" in fields:
        fields = {"pid": dead_pid()}
    elif not Path("/proc/self/stat").exists():
        pytest.skip("only Linux tells when a process started")
    change(run, **fields)
    with Lease(run):
        assert record(run)["pid"] == os.getpid()
        assert run.names() == [LEASE_NAME]


def test_a_zombie_counts_as_dead(run: Location) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
        Lease(run).acquire()
        change(run, pid=process.pid, process_start=-1)
        with Lease(run):
            assert record(run)["pid"] == os.getpid()
    finally:
        process.wait()


def test_a_process_of_another_machine_is_replaced_only_when_its_heartbeat_is_old(run: Location) -> None:
    Lease(run).acquire()
    change(run, host="elsewhere", machine="elsewhere", pid=dead_pid(), heartbeat=time.time() - 50)
    with pytest.raises(RunError, match=r"host elsewhere, pid .* last heartbeat 50 s ago"):
        Lease(run, stale_s=60, beat_s=0.01).acquire()
    change(run, heartbeat=time.time() - 61)
    with Lease(run, stale_s=60, beat_s=0.01):
        assert record(run)["host"] == platform.node()


def test_an_old_heartbeat_that_still_moves_is_a_wrong_clock_not_a_dead_process(run: Location) -> None:
    Lease(run).acquire()
    change(run, machine="elsewhere", heartbeat=time.time() - 3600)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.02):
            change(run, heartbeat=record(run)["heartbeat"] + 0.02)

    with ThreadPoolExecutor(1) as pool:
        beating = pool.submit(beat)
        try:
            with pytest.raises(RunError, match=r"last heartbeat 3[56]"):
                Lease(run, stale_s=60, beat_s=0.2).acquire()
        finally:
            stop.set()
        beating.result()


def test_of_many_takers_at_the_same_time_one_gets_the_run(tmp_path: Path) -> None:
    pid = dead_pid()
    for turn in range(20):
        run = Location(tmp_path / str(turn))
        Lease(run).acquire()
        change(run, pid=pid)
        leases = [Lease(run) for _ in range(6)]
        gate = threading.Barrier(len(leases))

        def take(lease: Lease, gate: threading.Barrier = gate) -> str:
            gate.wait()
            try:
                lease.acquire()
            except RunError as error:
                return str(error)
            return "held"

        with ThreadPoolExecutor(len(leases)) as pool:
            outcomes = list(pool.map(take, leases))
        assert outcomes.count("held") == 1
        assert all("trains this run since" in one for one in outcomes if one != "held")
        leases[outcomes.index("held")].require()


def test_a_taker_that_died_in_the_middle_does_not_block_the_run(run: Location) -> None:
    Lease(run).acquire()
    change(run, pid=dead_pid())
    lost = record(run)
    run.write(f"writer-claim-{lost['token']}.json", json.dumps({**lost, "token": "taker"}).encode())
    with Lease(run):
        assert run.names() == [LEASE_NAME]


def test_the_heartbeat_moves_and_nothing_else_does(run: Location) -> None:
    with Lease(run) as lease:
        change(run, heartbeat=0.0)
        before = record(run)
        lease.beat()
        after = record(run)
        assert after["heartbeat"] > 1e9
        assert {**after, "heartbeat": 0.0} == before


@pytest.mark.parametrize("gone", [True, False])
def test_a_lost_lease_stops_every_write_and_the_heartbeat(run: Location, gone: bool) -> None:
    lease = Lease(run, stale_s=0.0)
    lease.acquire()
    leased = LeasedLocation(run, lease)
    leased.write("log.jsonl", b"1")
    if gone:
        run.delete(LEASE_NAME)
    else:
        change(run, token="another", host="elsewhere", pid=7)
    by = r"\(writer.json is gone\)" if gone else "by host elsewhere, pid 7"
    for change_it in (
        lambda: leased.write("log.jsonl", b"2"),
        lambda: leased.create("new", b"2"),
        lambda: leased.delete("log.jsonl"),
        lease.beat,
    ):
        with pytest.raises(RunError, match=f"this run was taken over {by}, so this process writes nothing more"):
            change_it()
    lease.release()
    assert run.names() == (["log.jsonl"] if gone else ["log.jsonl", LEASE_NAME])
    assert leased.read("log.jsonl") == b"1"


def test_writes_that_follow_each_other_closely_ask_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Location(tmp_path)
    lease = Lease(run)
    lease.acquire()
    reads: list[str] = []
    monkeypatch.setattr(run, "read", lambda name: reads.append(name))
    for number in range(10):
        LeasedLocation(run, lease).write(str(number), b"")
    assert reads == []


def test_a_bucket_that_refuses_a_heartbeat_does_not_end_the_run(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    with Lease(run) as lease:
        run.refusals = {LEASE_NAME: 2}
        lease.beat()
        lease.require()
        run.refusals = {"log": 1}
        with pytest.raises(StorageError):
            LeasedLocation(run, lease).write("log", b"")


def test_what_is_no_lease_is_named_with_the_remedy(run: Location) -> None:
    run.write(LEASE_NAME, b"{}")
    with pytest.raises(RunError, match=r"writer\.json: interscan did not write this; delete it if nobody"):
        Lease(run).acquire()


def test_what_is_held_is_named_and_its_own_error_raised(tmp_path: Path) -> None:
    store = Location(tmp_path / "store")
    with held(store, STORE) as leased:
        leased.write("x", b"1")
        leased.child("folder").write("y", b"2")
        with pytest.raises(
            StoreError, match=r"writes this store since .*; wait until it ends, or use another location"
        ):
            Lease(store, STORE).acquire()
        change(store, token="another", host="elsewhere", pid=7)
        leased._lease._confirmed = -float("inf")
        for write in (lambda: leased.child("folder").write("y", b"3"), leased.zarr_store, leased.require):
            with pytest.raises(StoreError, match="this store was taken over by host elsewhere, pid 7"):
                write()
    assert leased.read("folder/y") == b"2"


@pytest.mark.parametrize("error", [None, ValueError("odd"), KeyboardInterrupt()], ids=repr)
def test_a_place_is_given_back_however_the_block_ends(tmp_path: Path, error: BaseException | None) -> None:
    def work() -> None:
        with held(Location(tmp_path / "new" / "store"), STORE):
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    # A folder that only the lease needed is gone too.
    assert list((tmp_path / "new").iterdir()) == []


def test_the_heart_beats_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Location(tmp_path)
    plain = Lease.__init__

    def quick(lease: Lease, *arguments: Any, **named: Any) -> None:
        plain(lease, *arguments, **named, beat_s=0.01)

    monkeypatch.setattr(Lease, "__init__", quick)
    with held(store, STORE):
        first = record(store)["heartbeat"]
        until = time.monotonic() + 60
        while record(store)["heartbeat"] == first:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_place_whose_name_no_table_could_hold_is_refused_before_it_is_made(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    with pytest.raises(StorageError, match=r"M\\xfcller: holds bytes that are no UTF-8; rename the folder"):
        Lease(Location(folder), STORE).acquire()
    assert list(tmp_path.iterdir()) == []
