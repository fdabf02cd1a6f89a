"""Scans under URIs: the list, the limit, what storage may say of itself, and places of their own."""

import asyncio
import threading
from typing import Any

import fsspec
import pytest

from app.allowlist import normal_prefix
from app.errors import ProblemError
from app.fetching import Fetcher, read_uri


@pytest.fixture(params=["folder", "bucket"])
def prefix(request, tmp_path) -> str:
    """An allowed location that holds a.nii of 100 bytes."""
    if request.param == "folder":
        (tmp_path / "a.nii").write_bytes(b"x" * 100)
        return normal_prefix(str(tmp_path))
    fsspec.filesystem("memory").pipe_file("/inputs-test/a.nii", b"x" * 100)
    return normal_prefix("memory://inputs-test")


def test_a_uri_of_exactly_the_limit_is_read_and_one_byte_more_is_not_fetched(prefix, monkeypatch):
    assert read_uri(f"{prefix}/a.nii", (prefix,), name="scan", max_bytes=100) == b"x" * 100
    file_system: Any = type(fsspec.core.url_to_fs(prefix)[0])
    monkeypatch.setattr(file_system, "cat_file", None)

    with pytest.raises(ProblemError) as caught:
        read_uri(f"{prefix}/a.nii", (prefix,), name="scan", max_bytes=99)
    assert caught.value.status == 413


def test_what_is_not_there_or_a_folder_is_said_without_the_uri(prefix):
    for uri, code in ((f"{prefix}/b.nii", "not_found"), (f"{prefix}/a.nii/b", "not_found")):
        with pytest.raises(ProblemError) as caught:
            read_uri(uri, (prefix,), name="earlier", max_bytes=100)
        assert (caught.value.status, caught.value.code) == (422, code)
        assert prefix not in caught.value.detail


def test_a_folder_is_not_a_scan(tmp_path):
    (tmp_path / "scans" / "sub").mkdir(parents=True)

    with pytest.raises(ProblemError, match="names a folder"):
        read_uri(f"{tmp_path}/scans/sub", (normal_prefix(str(tmp_path / "scans")),), name="scan", max_bytes=9)


def test_an_empty_object_reads_as_no_bytes(tmp_path):
    (tmp_path / "empty.nii").touch()

    assert read_uri(f"{tmp_path}/empty.nii", (normal_prefix(str(tmp_path)),), name="scan", max_bytes=9) == b""


def test_a_uri_outside_the_list_is_403_and_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("app.fetching.Location", None)

    with pytest.raises(ProblemError) as caught:
        read_uri("/etc/passwd", (normal_prefix(str(tmp_path)),), name="scan", max_bytes=10**6)
    assert (caught.value.status, caught.value.code) == (403, "uri_not_allowed")


def test_a_storage_that_refuses_is_502_and_the_uri_stays_out_of_answer_and_log(tmp_path, monkeypatch, caplog):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "denied", f"{tmp_path}/a.nii")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.info", refuse)

    with pytest.raises(ProblemError) as caught, caplog.at_level("WARNING"):
        read_uri(f"{tmp_path}/a.nii", (normal_prefix(str(tmp_path)),), name="later", max_bytes=9)

    assert (caught.value.status, caught.value.code) == (502, "storage_failed")
    assert "storage refused the scan later: PermissionError" in caplog.text
    assert str(tmp_path) not in caplog.text + caught.value.detail


@pytest.mark.parametrize("error", [TimeoutError("jane doe"), ValueError("jane doe"), KeyError("jane doe")])
def test_whatever_storage_raises_is_502_without_a_word_of_it(tmp_path, monkeypatch, caplog, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    (tmp_path / "a.nii").touch()
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.info", fail)
    with pytest.raises(ProblemError) as caught, caplog.at_level("WARNING"):
        read_uri(f"{tmp_path}/a.nii", (normal_prefix(str(tmp_path)),), name="later", max_bytes=9)
    assert (caught.value.status, caught.value.code) == (502, "storage_failed")
    assert type(error).__name__ in caplog.text
    assert "jane" not in caplog.text + caught.value.detail


def test_a_name_too_long_for_any_file_is_not_there(tmp_path, caplog):
    with pytest.raises(ProblemError) as caught, caplog.at_level("INFO"):
        read_uri(f"{tmp_path}/{'jane' * 100}", (normal_prefix(str(tmp_path)),), name="later", max_bytes=9)
    assert (caught.value.status, caught.value.code) == (422, "not_found")
    assert "jane" not in caplog.text + caught.value.detail


def test_what_hangs_takes_its_own_places_alone_and_gives_them_back(tmp_path, monkeypatch):
    go_on = threading.Event()
    (tmp_path / "a.nii").write_bytes(b"xyz")

    def hang(*_: object, **__: object) -> dict[str, Any]:
        assert go_on.wait(30)
        return {"type": "file", "size": 3}

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.info", hang)
    fetcher = Fetcher((normal_prefix(str(tmp_path)),), max_bytes=9, max_at_once=2, deadline_s=0.05)

    async def go() -> None:
        for _ in range(2):
            with pytest.raises(ProblemError) as caught:
                await fetcher.fetch(f"{tmp_path}/a.nii", name="earlier")
            assert (caught.value.status, caught.value.code) == (504, "storage_slow")
        with pytest.raises(ProblemError, match="2 scans are being fetched already") as caught:
            await fetcher.fetch(f"{tmp_path}/a.nii", name="earlier")
        assert caught.value.status == 503
        go_on.set()
        while fetcher._num_running:
            await asyncio.sleep(0.001)
        fetcher._deadline_s = 30.0
        assert await fetcher.fetch(f"{tmp_path}/a.nii", name="earlier") == b"xyz"

    asyncio.run(go())
