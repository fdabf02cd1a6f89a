"""The account: found and passed over are everything there, on trees of all shapes, and it stays readable."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocess.errors import UsageError
from preprocess.sources import Listing, list_scans
from preprocess.sources.reconciliation import CODES, PARTS, Reconciliation

FOLDERS = (
    "sub-01",
    "sub-02",
    "ses-01",
    "sess-2",
    "anat",
    "derivatives",
    "sourcedata",
    "code",
    ".git",
    ".x",
    "anna",
    "x.nii",
)
STEMS = (
    *("sub-01_T1w", "sub-02_ses-01_T1w", "sub-01_ses-01_T1w", "sub-01_T2w", "sub-01_t1w", "sub-01_desc-x_T1w", "T1w"),
    *(
        "sub-01_sessions",
        "sub-01_scans",
        "participants",
        "dataset_description",
        "README",
        ".hidden_T1w",
        "anna",
        "mask",
    ),
)
ENDINGS = (".nii", ".nii.gz", ".NII.GZ", ".json", ".tsv", ".mgz", ".hdr", ".dcm", ".png", ".txt", "")
PATH = st.builds(
    lambda folders, stem, ending: "/".join([*folders, f"{stem}{ending}"]),
    st.lists(st.sampled_from(FOLDERS), max_size=4),
    st.sampled_from(STEMS),
    st.sampled_from(ENDINGS),
)
TEXTS = {".tsv": "participant_id\tsession_id\tfilename\tmmse\nsub-01\tses-01\tx\t27\n", ".json": '{"Name": "x"}'}


def grow(root: Path, names: list[str], links: list[tuple[str, str]]) -> set[str]:
    """Write files and links to folders, as far as they do not stand in each other's way; the names of all files."""
    for name in names:
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(TEXTS.get(Path(name).suffix, "x"))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    for name, target in links:
        if (root / name).parent.is_dir() and not os.path.lexists(root / name):
            (root / name).symlink_to(root / target)
    # os.walk does not follow links: what lies in the tree itself, each file once.
    found = {Path(folder, file).relative_to(root).as_posix() for folder, _, files in os.walk(root) for file in files}
    return {name for name in found if not (root / name).is_symlink()}


def accounted(listing: Listing) -> list[str]:
    account = listing.account
    return [
        *(name for _, name, _ in listing.scans),
        *account.read,
        *account.others,
        *(one.name for one in account.part("passed_over") if one.code != "link_repeated"),
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(PATH, min_size=1, max_size=25),
    links=st.lists(
        st.tuples(st.sampled_from(["sub-03", "sub-01/loop", "l"]), st.sampled_from(["sub-01", ".", "gone"]))
    ),
    is_bids=st.booleans(),
)
def test_found_and_passed_over_are_everything_there(
    names: list[str], links: list[tuple[str, str]], is_bids: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    there = grow(root, [*names, *(["dataset_description.json"] if is_bids else [])], links)
    try:
        listing = list_scans(str(root), ("T1w",))
    except UsageError:
        return  # refused whole, with what was seen
    reported = accounted(listing)
    assert len(reported) == len(set(reported))
    dangling = {one.name for one in listing.account.part("passed_over") if one.code == "link_dangling"}
    through_links = {name for name in reported if name not in there} - dangling
    assert there <= set(reported)
    assert all((root / name).is_file() for name in through_links)
    files = listing.account.files
    assert files["there"] == files["scans"] + files["read"] + files["other"] + files["passed_over"]
    assert files["scans"] == len(listing.scans)


def test_most_generated_trees_are_listed_and_not_refused(tmp_path: Path) -> None:
    """The property above must not hold because every tree is refused."""
    there = grow(
        tmp_path, [f"sub-01/anat/{stem}{ending}" for stem in STEMS for ending in ENDINGS[2:]], [("sub-03", "sub-01")]
    )
    listing = list_scans(str(tmp_path), ("T1w",))
    assert sorted(accounted(listing)) == sorted(there)
    assert listing.scans


def test_a_file_of_a_table_of_scans_is_accounted_for_too(tmp_path: Path) -> None:
    names = ["a.nii", "b.nii", "c.nii", "d/e.nii.gz", "README", "derivatives/x.nii", "x.mgz", ".h.nii"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    lines = ["path,subject_id,modality", "a.nii,a,", "b.nii,b,T2w", "c.nii,c,T1W", "gone.nii,g,"]
    (tmp_path / "scans.csv").write_text("\n".join(lines))
    listing = list_scans(str(tmp_path / "scans.csv"), ("T1w",))
    reported = [name for name in accounted(listing) if name != "gone.nii"]
    assert sorted(reported) == sorted([*names, "scans.csv"])
    assert listing.account.files == {"there": 9, "scans": 1, "read": 1, "other": 1, "passed_over": 6}


def filled() -> Reconciliation:
    account = Reconciliation(num_scan_files=31)
    for number in range(12):
        account.pass_over("derivatives" if number < 5 else "hidden", f"{number}.nii", "why")
    for line in range(8):
        account.add("row_without_scan", f"p.tsv line {line}", f"p.tsv line {line}: sub-{line} has no T1w scan")
    account.add("sentinel", "mmse", "mmse: -4 read as missing in 3 rows", count=3)
    account.pass_over("twin", "x.nii", "two for one row", leaves_out=True)
    account.others.append("README")
    return account


def test_the_summary_counts_every_part() -> None:
    assert filled().summary() == (
        "13 files passed over (7 hidden, 5 in derivatives, 1 two for one row); 8 table rows without a scan; "
        "3 table cells left empty (3 codes for missing)"
    )
    assert Reconciliation().summary() == ""


def test_lines_are_few_however_much_there_is() -> None:
    account = filled()
    for number in range(10_000):
        account.pass_over("derivatives", f"derivatives/{number}.nii", "why")
        account.add("row_without_scan", "x", f"line {number}")
    lines = list(account.lines())
    assert len(lines) < 20
    assert "passed over, hidden: 7: 5.nii, 6.nii, 7.nii, 8.nii, 9.nii and 2 more" in lines
    assert "and 10003 more like it (row_without_scan); --json lists all" in lines
    assert not [line for line in lines if "two for one row" in line]  # reported as left out


def test_json_has_all_with_counts_and_a_limit_bounds_the_entries_only() -> None:
    account = filled()
    whole = account.to_dict()
    assert whole["files"] == {"there": 45, "scans": 31, "read": 0, "other": 1, "passed_over": 13}
    assert len(whole["passed_over"]["hidden"]["entries"]) == 7
    assert whole["cells"]["sentinel"] == {
        "count": 3,
        "entries": [{"name": "mmse", "message": "mmse: -4 read as missing in 3 rows", "leaves_out": False}],
    }
    bounded = account.to_dict(limit=2)["passed_over"]["hidden"]
    assert (bounded["count"], len(bounded["entries"])) == (7, 2)


def test_lost_scans_are_counted_and_unknown_codes_are_refused() -> None:
    account = filled()
    account.pass_over("folder_unreadable", "x", "closed", leaves_out=True)
    assert ([one.name for one in account.left_out], account.num_lost) == (["x.nii", "x"], 1)
    with pytest.raises(KeyError):
        account.add("no_such_code", "x", "x")
    assert {part for part, _ in CODES.values()} == set(PARTS)
