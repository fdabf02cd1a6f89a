"""The bill of materials of an image names every package that its lock pins, with the version and a package URL."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_requirements import EXTRAS, locked
from tests.support.deployment import ROOT


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sbom")
    script = [sys.executable, str(ROOT / "deploy" / "sbom.py"), str(folder)]
    subprocess.run(script, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("target", EXTRAS)
def test_a_bill_names_everything_that_is_locked_and_torch(bills: Path, target: str) -> None:
    bill = json.loads((bills / f"{target}.cdx.json").read_text(encoding="utf-8"))

    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "interscan"
    named = {
        component["name"].lower().replace("_", "-").replace(".", "-"): component for component in bill["components"]
    }
    torch = re.search(r"(?m)^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert torch is not None
    assert {name: component["version"] for name, component in named.items()} == {**locked(target), "torch": torch[1]}
    assert all(component["purl"].startswith("pkg:pypi/") for component in named.values())


def test_two_bills_of_one_lock_are_equal(bills: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "deploy" / "sbom.py"), str(tmp_path)], check=True, capture_output=True)

    for target in EXTRAS:
        assert (tmp_path / f"{target}.cdx.json").read_bytes() == (bills / f"{target}.cdx.json").read_bytes()
