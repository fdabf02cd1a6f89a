"""What passes the list of prefixes; the truth is where an independent reading of the path ends up."""

import posixpath
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.allowlist import NotAllowedError, check_allowed, normal_prefix

PREFIXES = (normal_prefix("gs://bucket/scans/"),)


@pytest.mark.parametrize(
    "uri", ["gs://bucket/scans/a.nii.gz", "gcs://bucket/scans/sub 1/b.nii", "GS://bucket/scans/é/c"]
)
def test_what_lies_under_the_prefix_passes(uri):
    assert check_allowed(uri, PREFIXES).startswith("gs://bucket/scans/")


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bucket/scans-secret/a.nii",
        "gs://bucket-evil/scans/a.nii",
        "gs://bucket.evil.org/scans/a.nii",
        "gs://bucket/scans",
        "gs://bucket/scans/",
        "gs://bucket/scans/../secret/a.nii",
        "gs://bucket/scans/./a.nii",
        "gs://bucket/scans//a.nii",
        "gs://bucket/scans/%2e%2e/secret/a.nii",
        "gs://bucket/scans/%252e%252e/a.nii",
        "gs://bucket/scans/..\\secret",
        "gs://bucket/scans/a.nii?x=1",
        "gs://bucket/scans/a.nii#1",
        "gs://bucket/scans/a.nii\n",
        "gs://bucket/scans/a\0.nii",
        "gs://bucket/scans/*.nii",
        "gs://user@bucket/scans/a.nii",
        "gs://bucket:80/scans/a.nii",
        "gs:///bucket/scans/a.nii",
        "gs:/bucket/scans/a.nii",
        "s3://bucket/scans/a.nii",
        "http://bucket/scans/a.nii",
        "https://bucket/scans/a.nii",
        "simplecache::gs://bucket/scans/a.nii",
        "zip://a.nii::gs://bucket/scans/a.zip",
        "file:///bucket/scans/a.nii",
        "/bucket/scans/a.nii",
        "bucket/scans/a.nii",
        "",
    ],
)
def test_what_lies_elsewhere_or_can_be_read_in_two_ways_is_refused(uri):
    with pytest.raises(NotAllowedError):
        check_allowed(uri, PREFIXES)


def test_an_empty_list_refuses_everything():
    with pytest.raises(NotAllowedError, match="reads no URIs"):
        check_allowed("gs://bucket/scans/a.nii", ())


def test_a_link_out_of_an_allowed_folder_is_refused(tmp_path: Path):
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    allowed.mkdir()
    secret.mkdir()
    (secret / "a.nii").write_bytes(b"secret")
    (allowed / "way-out").symlink_to(secret)
    (allowed / "a.nii").symlink_to(secret / "a.nii")
    prefixes = (normal_prefix(str(allowed)),)

    assert check_allowed(f"{allowed}/b.nii", prefixes) == f"file://{allowed.resolve()}/b.nii"
    for uri in (f"{allowed}/way-out/a.nii", f"{allowed}/a.nii", f"file://{allowed}/way-out/a.nii"):
        with pytest.raises(NotAllowedError):
            check_allowed(uri, prefixes)


@pytest.mark.parametrize(
    "prefix", ["", "/", "gs://", "https://host/scans", "data/scans", "gs://bucket/../x", "file:///"]
)
def test_a_prefix_that_would_open_too_much_or_nothing_is_refused(prefix):
    with pytest.raises(ValueError, match="prefix"):
        normal_prefix(prefix)


TRICKY = "gs:// file:// memory:// http:// bucket scans / // . .. %2e %2F \\ :: @ evil ? # secret a.nii ~ gs: *"
PIECES = st.sampled_from(TRICKY.split())


@given(st.lists(PIECES, max_size=10).map("".join))
@example("gs://bucket/scans/..%2fsecret")
def test_no_spelling_made_of_tricky_pieces_leaves_the_prefix(rest: str):
    for uri in (rest, f"gs://bucket/scans/{rest}", f"gs://bucket/scans{rest}"):
        try:
            passed = check_allowed(uri, PREFIXES)
        except NotAllowedError:
            continue
        path = passed
        for _ in range(3):
            path = unquote(path)
        assert posixpath.normpath(path.replace("\\", "/")).startswith("gs:/bucket/scans/")
        assert path == passed
