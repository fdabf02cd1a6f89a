"""Answers of the JSON API: generations, ranges, listings, pipelining, refusals."""

import json
from urllib.parse import urlencode

import pytest

from tests.support.slow_bucket.asking import DATA, ask, media, raw_socket
from tests.support.slow_bucket.client import SlowBucket


def test_every_write_is_a_new_generation_and_old_ones_are_gone(slow: SlowBucket, bucket: str) -> None:
    slow.put(bucket, "o", b"first")
    first = ask(slow, media(bucket))[1]["x-goog-generation"]
    slow.put(bucket, "o", b"second")
    status, headers, body = ask(slow, media(bucket))
    assert (status, body) == (200, b"second")
    assert int(headers["x-goog-generation"]) > int(first)
    assert ask(slow, f"{media(bucket)}&generation={first}")[0] == 404
    assert ask(slow, f"{media(bucket)}&ifGenerationMatch={first}")[0] == 412
    assert ask(slow, f"{media(bucket)}&ifGenerationMatch={headers['x-goog-generation']}")[2] == b"second"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=49990-", slice(49990, None)),
        ("bytes=40000-99999", slice(40000, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-99999", slice(0, None)),
    ],
)
def test_a_range_is_that_part_of_the_bytes(slow: SlowBucket, bucket: str, wanted: str, part: slice) -> None:
    slow.put(bucket, "o", DATA)
    status, headers, body = ask(slow, media(bucket), Range=wanted)
    assert (status, body) == (206, DATA[part])
    start, end, _ = part.indices(len(DATA))
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert slow.stats().media_bytes_sent == len(body)


def test_ranges_that_cannot_be_had_are_refused_and_malformed_ones_ignored(slow: SlowBucket, bucket: str) -> None:
    slow.put(bucket, "o", DATA)
    for wanted in ("bytes=50000-", "bytes=-0"):
        status, headers, _ = ask(slow, media(bucket), Range=wanted)
        assert (status, headers["Content-Range"]) == (416, "bytes */50000")
    for wanted in ("bytes=9-3", "bytes=0-1,5-6", "lines=1-2", "bytes=-"):
        assert ask(slow, media(bucket), Range=wanted)[::2] == (200, DATA)
    status, headers, body = ask(slow, f"/{bucket}/o", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "50000", b"")


@pytest.mark.parametrize("max_results", [1, 2, 3, 1000])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b/", "z"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_listings_are_what_a_loop_over_all_names_finds(
    slow: SlowBucket, bucket: str, delimiter: str, prefix: str, max_results: int
) -> None:
    names = ["a", "a/1", "a/b/1", "a/b/2", "a/b0", "a/c/1", "a0", "b", "b/1", "c/", "ä/1"]
    for name in names:
        slow.put(bucket, name, b"")
    matching = [name for name in sorted(names) if name.startswith(prefix)]
    wanted_items, wanted_folders = [], set()
    for name in matching:
        head, found, _ = name[len(prefix) :].partition("/")
        if delimiter and found:
            wanted_folders.add(prefix + head + "/")
        else:
            wanted_items.append(name)
    items, folders, query = [], [], {"prefix": prefix, "delimiter": delimiter, "maxResults": str(max_results)}
    while True:
        page = json.loads(ask(slow, f"/storage/v1/b/{bucket}/o?{urlencode(query)}")[2])
        found_items = [item["name"] for item in page.get("items", [])]
        assert len(found_items) + len(page.get("prefixes", [])) <= max_results
        items += found_items
        folders += page.get("prefixes", [])
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert (items, folders) == (wanted_items, sorted(wanted_folders))


def test_pipelined_requests_in_any_pieces_are_answered_in_order(slow: SlowBucket, bucket: str) -> None:
    names = ["one", "two", "three"]
    for name in names:
        slow.put(bucket, name, name.encode())
    slow.set_speed(latency_s=0.005)
    message = b"".join(f"GET {media(bucket, name)} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for name in names)
    message += f"GET /{bucket}/one HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    with raw_socket(slow) as line:
        for at in range(0, len(message), 7):
            line.sendall(message[at : at + 7])
        received = b"".join(iter(lambda: line.recv(65536), b""))
    assert [part.rpartition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]] == [
        *(b"one", b"two", b"three", b"one")
    ]
    assert slow.stats().connections == 1


@pytest.mark.parametrize(
    "message", [b"\r\n\r\n", b"GET /\r\n\r\n", b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_what_is_no_request_is_refused_and_the_next_client_is_served(
    slow: SlowBucket, bucket: str, message: bytes
) -> None:
    with raw_socket(slow) as line:
        line.sendall(message)
        assert b"".join(iter(lambda: line.recv(65536), b"")).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert ask(slow, f"/storage/v1/b/{bucket}")[0] == 200
