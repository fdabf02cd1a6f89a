"""What all sources share: small reads that say what is wrong, files set aside, and twins of which none is taken."""

from pathlib import Path

import pytest

from preprocess.sources.files import Files, Unlisted
from preprocess.sources.listing import (
    Listing,
    TextError,
    add_unlisted,
    leave_out_twins,
    looks_like_scan,
    pass_over_unread,
    read_text,
    set_aside,
)
from preprocess.storage import Location
from preprocess.types import Scan


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return Listing(Location(tmp_path))


def entered(listing: Listing) -> list[tuple[str, str, bool]]:
    return [(one.code, one.name, one.leaves_out) for one in listing.account.remarks]


def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.write("a", b"\xef\xbb\xbfsub")
    location.write("b", "é".encode())
    assert [read_text(location, name) for name in "ab"] == ["sub", "é"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("é".encode("latin-1"), "not UTF-8 text and passed over; save the table as UTF-8"),
        (
            b"/annex/objects/MD5E-s1--a.tsv\n",
            "a git-annex pointer and passed over; run git annex get (or datalad get) on it",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer and passed over; run git lfs pull"),
        (None, "listed but not there; copy it again"),
    ],
)
def test_what_is_no_text_says_why(data: bytes | None, why: str, tmp_path: Path) -> None:
    location = Location(tmp_path)
    if data is not None:
        location.write("x", data)
    with pytest.raises(TextError) as caught:
        read_text(location, "x")
    assert str(caught.value) == why


def test_a_folder_named_as_a_table_is_reported_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").mkdir()
    with pytest.raises(TextError) as caught:
        read_text(Location(tmp_path), "participants.tsv")
    assert str(caught.value) == "cannot be read (Is a directory); check its permissions"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("sub-01/.hidden_T1w.nii.gz", "hidden"),
        (".Trash/x.nii", "hidden"),
        ("derivatives/a/sub-01_T1w.nii.gz", "derivatives"),
        ("Derivatives/x.mgz", "derivatives"),
        ("sourcedata/1.dcm", "sourcedata"),
        ("code/template.nii", "code_folder"),
        ("sub-01/sub-01_T1w.nii.gz/x.nii", "folder_named_as_scan"),
        (".git/annex/objects/x.nii.gz", None),
        ("derivatives/log.txt", None),
        (".bidsignore", None),
    ],
)
def test_files_where_no_scans_are_looked_for_are_set_aside(name: str, code: str | None, listing: Listing) -> None:
    assert set_aside(listing, name, ())
    assert entered(listing) == ([] if code is None else [(code, name, False)])
    assert listing.account.others == ([name] if code is None else [])


@pytest.mark.parametrize("name", ["sub-01/anat/sub-01_T1w.nii.gz", "README", "my-derivatives/x.nii", "derivatives"])
def test_other_files_are_not_set_aside(name: str, listing: Listing) -> None:
    assert not set_aside(listing, name, ())
    assert entered(listing) == []


def test_a_link_to_nothing_is_a_lost_scan_where_its_name_says_so(listing: Listing) -> None:
    names = ["sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "derivatives/x_T1w.nii.gz", "x.tsv"]
    files = Files({}, [Unlisted("link_dangling", name, "gone") for name in names])
    files.unlisted.append(Unlisted("folder_unreadable", "sub-02", "closed"))
    add_unlisted(listing, files, ["T1w"], {})
    assert [lost for _, _, lost in entered(listing)] == [True, False, False, False, True]
    assert listing.account.num_lost == 1  # the folder may hold any number


def test_what_no_reader_takes_is_named_with_the_remedy(listing: Listing) -> None:
    assert pass_over_unread(listing, "aseg.mgz", "volume", "T1w")
    assert pass_over_unread(listing, "x.npy", "volume", "T1w")
    assert not pass_over_unread(listing, "notes.txt", "volume", "T1w")
    assert not pass_over_unread(listing, "list.csv", "volume", "T1w")
    assert [one.code for one in listing.account.remarks] == ["unread_format", "other_kind"]
    assert "mri_convert" in listing.account.remarks[0].message
    assert 'only if each file is a whole visit, set kinds.T1w = "clip"' in listing.account.remarks[1].message
    assert [looks_like_scan(name, ()) for name in ("a.NII.GZ", "a.img", "a.npy", "README")] == [
        True,
        True,
        False,
        False,
    ]


def test_of_twins_none_is_taken_and_each_is_named(listing: Listing) -> None:
    names = ["a.nii", "a.nii.gz", "b/a.nii", "c.nii"]
    listing.scans = [(Scan("anna" if name != "c.nii" else "cleo", "", "T1w", name), name, 1) for name in names]
    leave_out_twins(listing)
    assert [name for _, name, _ in listing.scans] == ["c.nii"]
    assert entered(listing) == [("twin", name, True) for name in names[:3]]
    assert listing.account.remarks[0].message == (
        "a.nii: a.nii and a.nii.gz (and 1 more) are both anna_T1w; keep one, or tell them apart by run-1 and run-2"
    )
