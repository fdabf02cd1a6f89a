"""What the service's tests share: a tiny artefact, a running service, and no settings from the outer environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.artefacts import write_artefact
from tests.support.service import running


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INTERSCAN_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture(scope="module")
def scans_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder that requests may name."""
    return tmp_path_factory.mktemp("scans")


@pytest.fixture(scope="module")
def client(artefact: Path, scans_folder: Path) -> Iterator[TestClient]:
    with running(artefact, allow_prefixes=(str(scans_folder),)) as client:
        yield client
