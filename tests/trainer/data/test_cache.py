"""The disk cache: least recently used goes first, the limit holds for two processes, and nothing on disk can hurt."""

import errno
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.data.cache import DiskCache

WRITER = """
import hashlib, sys
from pathlib import Path
from trainer.data.cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), int(sys.argv[2]))
print("ready", flush=True)
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    data = number.to_bytes(4, "little") * 250
    cache.put(hashlib.sha256(data).hexdigest(), data)
"""


def entry(number: int, num_bytes: int = 1000) -> tuple[str, bytes]:
    data = number.to_bytes(4, "little") * (num_bytes // 4)
    return hashlib.sha256(data).hexdigest(), data


def held_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # swept while this looks
            continue
    return total


def writer(folder: Path, limit: int, start: int, end: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(start), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_what_was_put_is_got_by_this_and_another_cache_of_the_folder(tmp_path: Path) -> None:
    key, data = entry(1)
    DiskCache(tmp_path / "new" / "folder", 10_000).put(key, data)
    other = DiskCache(tmp_path / "new" / "folder", 10_000)
    assert other.get(key) == data
    assert other.get(entry(2)[0]) is None
    other.drop(key)
    other.drop(key)
    assert other.get(key) is None


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit_bytes is 0"):
        DiskCache(tmp_path, 0)


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100_000)
    for number in range(85):
        cache.put(*entry(number))
        os.utime(next(tmp_path.rglob(f"{entry(number)[0]}*")), (number, number))
    for number in range(10):  # the oldest are used again
        assert cache.get(entry(number)[0]) is not None
    for number in range(100, 110):
        cache.put(*entry(number))
    assert all(cache.get(entry(number)[0]) for number in (*range(10), *range(100, 110)))
    assert cache.get(entry(10)[0]) is None


@pytest.mark.parametrize("num_bytes", [400, 1000, 9000, 20_000, 20_004])
def test_the_limit_holds_at_every_moment(tmp_path: Path, num_bytes: int) -> None:
    cache = DiskCache(tmp_path, 20_000)
    for number in range(100):
        cache.put(*entry(number, num_bytes))
        assert held_bytes(tmp_path) <= 20_000
    assert (cache.get(entry(99, num_bytes)[0]) is not None) == (num_bytes <= 20_000)


def test_two_processes_share_the_folder_and_its_limit(tmp_path: Path) -> None:
    # More than two objects at once would be half-written files beside the limit; each process has one thread here.
    limit = 200_000
    running = [writer(tmp_path, limit, start, start + 1500) for start in (0, 1000)]
    most = 0
    while any(process.poll() is None for process in running):
        most = max(most, held_bytes(tmp_path))
    assert [process.wait() for process in running] == [0, 0]
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    assert limit * 0.5 < most <= limit + 2 * 1000
    cache = DiskCache(tmp_path, limit)
    found = [(number, cache.get(entry(number)[0])) for number in range(2500)]
    assert sum(data is not None for _, data in found) > 100
    assert all(data == entry(number)[1] for number, data in found if data is not None)


def test_after_a_kill_in_the_middle_of_writes_everything_held_is_whole(tmp_path: Path) -> None:
    for round_number in range(5):
        process = writer(tmp_path, 300_000, round_number * 100_000, (round_number + 1) * 100_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 * round_number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    whole = {
        path.stem for path in tmp_path.rglob("*.row") if hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    }
    assert whole == {path.stem for path in tmp_path.rglob("*.row")}
    assert whole


def test_half_written_files_of_a_killed_process_are_removed_in_time(tmp_path: Path) -> None:
    old, new = tmp_path / "ab" / "ab12.row.1.part", tmp_path / "ab" / "ab34.row.2.part"
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    DiskCache(tmp_path, 10_000).put(*entry(1))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_turns_the_cache_off_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = DiskCache(tmp_path / "file" / "below", 10_000)
    with caplog.at_level(logging.WARNING, logger="interscan"):
        for number in range(3):
            cache.put(*entry(number))
            assert cache.get(entry(number)[0]) is None
            cache.drop(entry(number)[0])
    assert not cache.is_on
    (line,) = caplog.messages
    assert "cache turned off" in line
    assert "training goes on" in line


def test_a_full_disk_turns_the_cache_off_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path, 10_000)
    cache.put(*entry(1))
    true_write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        true_write(path, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING, logger="interscan"):
        cache.put(*entry(2))
    assert not cache.is_on
    assert "No space left" in caplog.text
    assert [path.stem for path in tmp_path.rglob("*") if path.is_file()] == [entry(1)[0]]
