"""The error tree: each kind has its exit code, and the drawing in the docstring is the tree."""

import inspect

import pytest

from preprocess import errors
from preprocess.types import Finding

CODES = {
    "InterscanError": 3,
    "UsageError": 2,
    "ScanError": 3,
    "StoreError": 3,
    "RunError": 3,
    "ArtefactError": 3,
    "StorageError": 3,
    "Interrupted": 130,
}


@pytest.mark.parametrize("name", CODES)
def test_each_kind_has_its_exit_code(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.exit_code == CODES[name]
    assert issubclass(kind, errors.InterscanError)
    assert name in (errors.__doc__ or "")


def test_there_is_no_other_kind() -> None:
    kinds = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert kinds == set(CODES)


def test_a_scan_error_carries_its_finding_and_says_its_message() -> None:
    finding = Finding("empty", "sub-01: empty; export the scan again")
    error = errors.ScanError(finding)
    assert error.finding is finding
    assert str(error) == finding.message
