"""Locations: the same behaviour on disk, in memory, in a bucket; every refusal is one line with location and remedy."""

import errno
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zarr

from preprocess.errors import StorageError, UsageError
from preprocess.storage import Location, refusals, split_file
from tests.support.bucket import gcs_at

KINDS = ["local", "memory", pytest.param("gs", marks=pytest.mark.bucket)]


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "gs":
        return Location(f"{request.getfixturevalue('bucket')}/a/store")
    if request.param == "memory":
        return Location(f"memory://{tmp_path.name}/store")
    return Location(tmp_path / "store")


def test_what_is_written_is_read(location: Location) -> None:
    data = bytes(range(256)) * 9
    location.write("deep/folder/object", data)
    location.write("empty", b"")
    assert location.read("deep/folder/object") == data
    assert location.read("empty") == b""
    assert location.child("deep").read("folder/object") == data
    assert Location(f"{location.uri}/deep/folder/object").read() == data
    assert location.exists("deep/folder/object")
    assert not location.exists("deep/folder/other")


def test_a_second_write_replaces_the_first(location: Location) -> None:
    location.write("x", b"first, and longer")
    location.write("x", b"second")
    assert location.read("x") == b"second"


def test_create_takes_a_free_name_once(location: Location) -> None:
    assert location.create("lock", b"mine") is True
    assert location.create("lock", b"yours") is False
    assert location.read("lock") == b"mine"
    assert location.names() == ["lock"]  # nothing half-written beside it


def test_names_are_sorted_relative_and_of_this_folder_alone(location: Location) -> None:
    for name in ("b", "a/2", "a/1", "a/deep/x"):
        location.write(name, b"1")
    Location(f"{location.uri}-beside").write("other", b"1")
    assert location.names() == ["a/1", "a/2", "a/deep/x", "b"]
    assert location.names("a") == ["a/1", "a/2", "a/deep/x"]
    assert location.child("a").names() == ["1", "2", "deep/x"]
    assert location.names("none") == []


def test_names_sees_what_came_after_an_earlier_listing(location: Location) -> None:
    location.write("a/1", b"1")
    assert location.names("a") == ["a/1"]
    Location(location.uri).write("a/2", b"1")
    assert location.names("a") == ["a/1", "a/2"]


def test_delete_takes_objects_and_folders_and_is_content_with_nothing(location: Location) -> None:
    for name in ("a/1", "a/b/2", "c"):
        location.write(name, b"1")
    location.delete("a")
    assert location.names() == ["c"]
    location.delete("c")
    location.delete("c")
    location.delete("never/there")
    assert location.names() == []


def test_a_missing_object_is_file_not_found(location: Location) -> None:
    with pytest.raises(FileNotFoundError):
        location.read("none")


def test_zarr_writes_through_a_location_and_finds_it_again(location: Location) -> None:
    zarr.create_array(location.zarr_store(), name="v/x", shape=(2, 3), chunks=(1, 3), dtype="uint8")[:] = 7
    assert (zarr.open_array(location.zarr_store(), path="v/x", mode="r")[:] == 7).all()
    assert location.exists("v/x/c/1/0")


def test_only_memory_is_not_shared(location: Location) -> None:
    assert location.is_shared == (not location.uri.startswith("memory"))
    assert location.is_local == (not location.uri.startswith(("memory", "gs")))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("memory://", "memory://"),
        ("memory://a//", "memory://a"),
        ("/", "/"),
        ("/tmp/", "/tmp"),
        ("file:///tmp/", "/tmp"),
    ],
)
def test_slashes_at_the_end_do_not_change_the_location(uri: str, expected: str) -> None:
    assert Location(uri).uri == expected


def one_line(error: BaseException, where: str) -> str:
    message = str(error)
    assert message.startswith(where)
    assert "\n" not in message
    assert "; " in message  # the remedy
    return message


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(StorageError, match="nonsense") as caught:
        Location("nonsense://x/y")
    one_line(caught.value, "nonsense://x/y: ")


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    below = Location(tmp_path / "file")
    for attempt in (
        lambda: below.write("x", b"1"),
        lambda: below.write("deep/x", b"1"),
        lambda: below.create("x", b"1"),
        lambda: below.create("deep/x", b"1"),
        lambda: below.read("x"),
    ):
        with pytest.raises(StorageError) as caught:
            attempt()
        one_line(caught.value, f"{tmp_path}/file/")


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="directory"):
        Location(tmp_path).read("folder")
    with pytest.raises(StorageError, match="directory"):
        Location(tmp_path).write("folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]  # nothing half-written stays


def test_a_write_that_fails_leaves_the_old_object_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location(tmp_path)
    location.write("x", b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device"):
        location.write("x", b"new")
    assert location.read("x") == b"old"
    assert location.names() == ["x"]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (PermissionError("no\nentry"), "at: access refused (no entry); check the permissions or the token"),
        (FileNotFoundError("x"), "at: not found; check the path and that the bucket exists"),
        (TimeoutError(), "at: TimeoutError; check the path, the network and the permissions"),
        (OSError("x" * 300), "at: " + "x" * 197 + "...; check the path, the network and the permissions"),
    ],
)
def test_each_refusal_names_place_reason_and_remedy(raised: Exception, message: str) -> None:
    with pytest.raises(StorageError) as caught, refusals("at"):
        raise raised
    assert str(caught.value) == message


def test_faults_of_the_program_are_not_dressed_as_refusals() -> None:
    with pytest.raises(ZeroDivisionError), refusals("at"):
        _ = 1 / 0


@pytest.mark.bucket
def test_a_bucket_that_does_not_exist_is_one_line(bucket: str) -> None:
    nowhere = Location(f"{bucket}-none/store")
    assert nowhere.names() == []
    with pytest.raises(FileNotFoundError):
        nowhere.read("store.json")
    with pytest.raises(StorageError, match="not found") as caught:
        nowhere.write("x", b"1")
    one_line(caught.value, f"{bucket}-none/store/x: ")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers everything with one status, as a bucket does to strangers."""

    class Refusal(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            403,
            b'{"error": {"code": 403, "message": "anonymous caller does not have\\nstorage.objects.get"}}',
            "Forbidden",
        ),
        (401, b'{"error": {"code": 401, "message": "Anonymous caller, no access"}}', "Anonymous caller"),
        (400, b'{"error": {"code": 400, "message": "invalid bucket name"}}', "invalid bucket name"),
    ],
)
def test_a_bucket_that_refuses_is_one_line(
    status: int, body: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(status, body) as endpoint, gcs_at(endpoint, monkeypatch):
        location = Location("gs://not-mine/store")
        for attempt in (lambda: location.read("x"), lambda: location.write("x", b"1"), lambda: location.names()):
            with pytest.raises(StorageError, match=reason) as caught:
                attempt()
            one_line(caught.value, "gs://not-mine/store")


@pytest.mark.slow
def test_a_port_where_nothing_listens_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with gcs_at(f"http://127.0.0.1:{port}", monkeypatch), pytest.raises(StorageError, match="127") as caught:
        Location("gs://somewhere/store").read("x")  # gcsfs tries six times, about 35 s
    one_line(caught.value, "gs://somewhere/store/x: ")


@pytest.mark.parametrize("name", ["a b", "a#b?c", "100%", "a::b", "memory::c", "new\nline", "~", "[x]", "ü"])
def test_a_local_folder_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in (f"{tmp_path}/{name}", f"./{name}/inner"):
        location = Location(uri)
        location.write("x/y", b"1")
        assert location.is_local
        assert location.read("x/y") == b"1"
        assert Path(uri, "x", "y").read_bytes() == b"1"
        assert "x/y" in location.names()
        assert location.child("x").read("y") == b"1"
        assert Location(location.uri).read("x/y") == b"1"


def test_a_full_disk_has_its_own_remedy() -> None:
    full = pytest.raises(StorageError, match=r"^here: .*No space left.*; make room there, or choose another location$")
    with full, refusals("here"):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("map.nii.gz", (".", "map.nii.gz")),
        ("/map.nii.gz", ("/", "map.nii.gz")),
        ("folder/map.nii.gz", ("folder", "map.nii.gz")),
        ("gs://bucket/folder/map.nii.gz", ("gs://bucket/folder", "map.nii.gz")),
    ],
)
def test_a_file_is_split_into_a_folder_that_can_be_written_to_and_its_name(uri: str, parts: tuple[str, str]) -> None:
    assert split_file(uri, example="map.nii.gz") == parts


@pytest.mark.parametrize("uri", ["folder/", "gs://bucket"])
def test_what_names_no_file_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(UsageError, match=r"not a file; name one, for example map\.nii\.gz"):
        split_file(uri, example="map.nii.gz")


def test_a_part_is_read_alone_and_a_folder_is_known(location: Location) -> None:
    location.write("deep/object", b"0123456789")
    assert location.read_part("deep/object", 3, 6) == b"345"
    assert location.read_part("deep/object", 8, 99) == b"89"
    with pytest.raises(FileNotFoundError):
        location.read_part("deep/nothing", 0, 3)
    assert location.child("deep").is_folder()
    assert not Location(f"{location.uri}/deep/object").is_folder()
    assert not location.child("nothing").is_folder()
