"""gcsfs, and what interscan does through it, finds in the slow bucket what it finds at Google's."""

import base64
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from preprocess.errors import StorageError
from preprocess.storage import Location
from preprocess.store import verify_rows
from tests.support.cohorts import MODALITY, TinyScan, volume_of, write_store
from tests.support.slow_bucket.asking import DATA, ask, media
from tests.support.slow_bucket.client import SlowBucket
from tests.support.slow_bucket.faults import Fault
from trainer.data.stream import StreamOptions, VolumeStream

SCANS = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(9)]


def test_a_location_finds_everything_it_needs(location: Location) -> None:
    contents = {"a.json": b"{}", "d/empty": b"", "d/e/f g#?%.bin": DATA, "d/ü": b"\r\n--==0==--\r\n\r\n"}
    for name, data in contents.items():
        location.write(name, data)
    assert {name: location.read(name) for name in location.names()} == contents
    assert location.names("d/e") == ["d/e/f g#?%.bin"]
    assert location.names("nothing") == []
    assert (location.exists("a.json"), location.exists("d"), location.exists("b")) == (True, True, False)
    assert (location.create("a.json", b"other"), location.create("new", b"1")) == (False, True)
    location.write("a.json", b"[]")
    assert (location.read("a.json"), location.read("new")) == (b"[]", b"1")
    location.delete("d")
    location.delete("not there")
    assert location.names() == ["a.json", "new"]
    with pytest.raises(FileNotFoundError):
        location.read("d/empty")
    with pytest.raises(StorageError, match="not found"):
        Location("gs://no-such-bucket", location.options).write("o", b"1")


def test_a_store_is_written_verified_and_streamed_with_one_request_a_volume(
    slow: SlowBucket, location: Location
) -> None:
    store = write_store(location, SCANS)
    assert list(verify_rows(store)) == [None] * len(SCANS)
    batches = [np.array([8, 1, 3]), np.array([0, 2, 4]), np.array([7, 6, 5]), np.array([8, 0, 1])]
    with VolumeStream(store, MODALITY, batches, StreamOptions(in_flight=6)) as stream:
        slow.reset()
        received = [voxels.numpy().copy() for voxels in stream]
    for rows, voxels in zip(batches, received, strict=True):
        np.testing.assert_array_equal(voxels, np.stack([volume_of(SCANS[row], "uint8") for row in rows]))
    stats = slow.stats()
    assert stats.by_kind == {"media": 12}
    assert stats.media_bytes_sent == stream.counts.bytes_fetched
    rows_asked = np.concatenate(batches).tolist()
    keys = {f"{location.path}/{store.layout(MODALITY).key(row)}": rows_asked.count(row) for row in range(9)}
    assert stats.media_by_object == keys


def test_gcsfs_copies_moves_and_makes_buckets(slow: SlowBucket, location: Location) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    fs = location.fs
    fs.mkdir(other)
    location.write("o", DATA)
    fs.cp_file(location.key("o"), f"{other}/copied")
    fs.mv(location.key("o"), location.key("moved"))
    assert fs.cat_file(f"{other}/copied") == fs.cat_file(location.key("moved")) == DATA
    assert not location.exists("o")
    assert {other, location.path} <= {name.rstrip("/") for name in fs.ls("")}
    with pytest.raises(Exception, match="not empty"):
        fs.rmdir(other)
    fs.rm(f"{other}/copied")
    fs.rmdir(other)
    assert ask(slow, f"/storage/v1/b/{other}")[0] == 404


@pytest.mark.parametrize("how", ["one piece", "pieces", "file"])
def test_digests_of_every_way_to_upload_are_those_of_the_bytes(
    slow: SlowBucket, location: Location, tmp_path: Path, how: str
) -> None:
    data = np.random.default_rng(1).bytes(700_001)
    path = location.key("o")
    if how == "file":
        (tmp_path / "o").write_bytes(data)
        location.fs.put_file(str(tmp_path / "o"), path)
    else:
        location.fs.pipe_file(path, data, chunksize=2**18 if how == "pieces" else 2**20)
    assert slow.stats().by_kind["upload"] == (4 if how == "pieces" else 1)
    found = location.fs.info(path)
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    crc32c = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
    assert (found["md5Hash"], found["crc32c"], found["size"]) == (md5, crc32c, len(data))
    status, headers, body = ask(slow, media(location.path))
    assert (status, body) == (200, data)
    assert headers["x-goog-hash"] == f"crc32c={crc32c},md5={md5}"
    assert headers["x-goog-generation"] == found["generation"]
    assert headers["ETag"].strip('"') == found["etag"]


def test_of_many_creators_one_wins_and_resumable_ones_keep_to_it_too(location: Location) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: location.create("pointer", b"%d" % number), range(8)))
    assert sum(won) == 1
    assert location.read("pointer") == b"%d" % won.index(True)
    with pytest.raises(FileExistsError):
        location.fs.pipe_file(location.key("pointer"), DATA, mode="create", chunksize=2**15)


def test_gcsfs_finds_more_objects_than_a_page_holds(slow: SlowBucket, bucket: str, location: Location) -> None:
    names = [f"n/{number:04d}" for number in range(1005)]
    for name in names:
        slow.put(bucket, name, b"")
    slow.reset()
    assert location.names("n") == names
    assert slow.stats().by_kind["list"] >= 2


def test_gcsfs_asks_again_after_an_error_but_does_not_see_a_flipped_bit(slow: SlowBucket, location: Location) -> None:
    location.write("o", DATA)
    slow.reset()
    slow.set_faults([Fault("truncate", count=1)])
    assert location.read("o") == DATA
    assert slow.stats().by_kind == {"media": 2}
    slow.set_faults([Fault("flip")])
    assert location.read("o") != DATA


def test_a_create_whose_answer_is_lost_is_repeated_by_gcsfs_and_then_taken(
    slow: SlowBucket, location: Location
) -> None:
    slow.set_faults([Fault("reset", on=("upload",), count=1)])
    assert not location.create("pointer", DATA)
    assert location.read("pointer") == DATA
    assert slow.stats().by_status == {200: 2, 412: 1}
