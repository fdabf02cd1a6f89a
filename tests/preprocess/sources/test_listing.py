"""The small reads of all sources: which files count, with which size, also after a bucket has grown."""

from pathlib import Path

import pytest

from preprocess.sources.listing import file_sizes, read_text
from preprocess.storage import Location

FILES = {"a.txt": b"12", "sub-01/x.nii": b"123", ".git/config": b"1", "sub-01/.x.part": b"1", "derivatives/y.nii": b"1"}


@pytest.mark.parametrize("kind", ["local", "memory", pytest.param("gs", marks=pytest.mark.bucket)])
def test_sizes_of_visible_files_without_derivatives(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    places = {"local": lambda: str(tmp_path), "memory": lambda: f"memory://{tmp_path.name}"}
    uri = places[kind]() if kind in places else f"{request.getfixturevalue('bucket')}/raw"
    place = Location(uri)
    for name, data in FILES.items():
        place.write(name, data)
    Location(f"{uri}-other").write("z.nii", b"1")
    assert file_sizes(place) == {"a.txt": 2, "sub-01/x.nii": 3}
    Location(uri).write("b.nii", b"1234")
    assert file_sizes(place) == {"a.txt": 2, "b.nii": 4, "sub-01/x.nii": 3}


def test_nothing_there_is_an_empty_list(tmp_path: Path) -> None:
    assert file_sizes(Location(tmp_path / "none")) == {}


def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    place = Location(tmp_path)
    place.write("a", b"\xef\xbb\xbfsub")
    place.write("b", "é".encode())
    place.write("c", "é".encode("latin-1"))
    assert [read_text(place, name) for name in "abcd"] == ["sub", "é", None, None]
