"""A listing under pseudonyms: nothing of it says a true name, and nothing of it is lost."""

import pytest

from preprocess.deidentify import Deidentified, hidden_names, require_same_key
from preprocess.errors import StorageError, StoreError, UsageError
from preprocess.pseudonyms import Pseudonyms
from preprocess.sources.listing import Listing
from preprocess.storage import Location
from preprocess.types import Scan

MADE = Pseudonyms(b"0123456789abcdef")


def listing(*scans: Scan) -> Listing:
    found = Listing(Location("/data/raw"), cohort="Study")
    found.scans = [(scan, f"{scan.subject_id}/{number}.nii", 10 + number) for number, scan in enumerate(scans)]
    found.names = frozenset(name for _, name, _ in found.scans)
    found.account.num_scan_files = len(scans)
    return found


def scan(subject: str, session: str = "ses-01", **more: object) -> Scan:
    given = {"uri": f"/data/raw/{subject}.nii", "cohort": "Study", **more}
    return Scan(subject, session, "T1w", **given)  # type: ignore[arg-type]


def test_what_a_scan_is_stays_and_whose_it_is_goes() -> None:
    true = listing(scan("Jane", day=3.0, site="St Mary", scanner="Siemens", outcomes={"mmse": 29.0}))
    hidden = Deidentified(true, MADE).listing
    ((made, name, num_bytes),) = hidden.scans
    assert (made.day, made.scanner, made.outcomes, made.modality, num_bytes) == (
        3.0,
        "Siemens",
        {"mmse": 29.0},
        "T1w",
        10,
    )
    assert made.uri == "/data/raw/Jane.nii", "it is read where it lies"
    assert "Jane" not in f"{made.name} {name} {hidden.names} {made.site} {made.shown}"
    assert hidden.names == {name}
    assert hidden.key_check == MADE.check
    assert true.scans[0][0].subject_id == "Jane"


def test_days_that_are_dates_move_for_everybody_and_days_of_a_study_do_not() -> None:
    dated = Deidentified(listing(scan("A", day=15340.0), scan("A", "ses-02", day=15370.0), scan("B", day=9.0)), MADE)
    days = [made.day for made, _, _ in dated.listing.scans]
    assert None not in days
    assert days[1] - days[0] == 30.0  # type: ignore[operator]
    assert days[0] == 15340.0 + MADE.shift_days("Study", "A")
    assert days[2] == 9.0 + MADE.shift_days("Study", "B")


def test_the_account_keeps_codes_and_counts_and_loses_words() -> None:
    true = listing(scan("Jane"))
    true.account.pass_over("mosaic", "jane/series 4", "Jane's mosaic", count=7, leaves_out=True)
    true.account.others += ["jane.txt"]
    true.account.read |= {"participants.tsv"}
    hidden = Deidentified(true, MADE).listing.account
    assert hidden.files == true.account.files
    assert hidden.counts() == true.account.counts()
    assert hidden.num_lost == 1
    assert "ane" not in str(hidden.to_dict()) + " ".join(hidden.lines())


def test_ids_that_may_be_one_person_are_said_without_saying_which() -> None:
    (note,) = Deidentified(listing(scan("sub-1"), scan("sub-01")), MADE).notes
    assert note.startswith("1 groups of ids differ by zeros or case alone")
    assert "sub" not in note
    assert Deidentified(listing(scan("sub-1"), scan("sub-2")), MADE).notes == []


@pytest.mark.parametrize("kind", [StorageError, UsageError, StoreError])
def test_an_error_says_pseudonyms_of_files(kind: type[StorageError]) -> None:
    hidden = Deidentified(listing(scan("Jane")), MADE)
    error = hidden.hide(kind("/data/raw/Jane.nii: access refused; Jane/0.nii too; the name stays"))  # type: ignore[arg-type]
    assert type(error) is kind
    assert "Jane" not in str(error)
    assert "access refused" in str(error)
    assert "the name stays" in str(error)


def test_an_error_of_a_listing_is_said_without_its_words() -> None:
    assert "Jane" not in str(hidden_names(StorageError("Jane.nii is broken"), "/data/raw"))


def test_keys_are_compared() -> None:
    require_same_key("", "", where="x")
    require_same_key("a", "a", where="x")
    for stored, wanted in (("", "a"), ("a", ""), ("a", "b")):
        with pytest.raises(UsageError, match=r"^x: its scans are"):
            require_same_key(stored, wanted, where="x")
