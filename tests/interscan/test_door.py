"""`import interscan`: light, with names that load what they need when they are used, and types for who reads them."""

import subprocess
import sys
from pathlib import Path

import pytest

import interscan

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "{'torch', 'zarr', 'numpy', 'monai', 'pyarrow', 'fastapi', 'pydantic', 'cyclopts'} & set(sys.modules)"


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_importing_it_and_listing_its_names_loads_nothing_heavy():
    done = run(f"import sys, interscan; dir(interscan); sys.exit(str({HEAVY}) if {HEAVY} else 0)")
    assert done.returncode == 0, done.stderr


def test_opening_a_store_loads_no_torch():
    done = run(f"import sys; from interscan import open_store; sys.exit(str({HEAVY}) if {HEAVY} else 0)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", interscan.__all__)
def test_every_public_name_is_there_by_either_way_of_import(name):
    done = run(f"from interscan import {name}; import interscan; assert interscan.{name} is {name}")
    assert done.returncode == 0, done.stderr


def test_all_public_names_are_listed_and_documented():
    assert set(interscan.__all__) <= set(dir(interscan))
    for name in interscan.__all__:
        assert (getattr(interscan, name).__doc__ or "").strip(), name


def test_a_misspelt_name_is_an_ordinary_error_that_lists_the_names():
    with pytest.raises(AttributeError, match=r"no attribute 'opne_store'; it has .*open_store"):
        interscan.opne_store  # noqa: B018 - asking for it is the test


def test_modules_of_the_package_can_still_be_imported():
    done = run("from interscan import cli; import interscan.objectives; assert cli.VERBS")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["interscan", "preprocess", "trainer", "app"])
def test_each_package_says_that_it_has_types(package):
    # What a public name's type leads to lies in the other packages: a checker follows it only into marked ones.
    assert (ROOT / package / "py.typed").is_file()
