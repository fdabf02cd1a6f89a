"""A browser and a running service for the tests of the page; without a chromium they are skipped."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.support.artefacts import decision_part, write_artefact
from tests.support.browser import Opened, find_chromium, opened, running_browser, served

Open = Callable[..., AbstractContextManager[Opened]]
KEY = "a-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")  # Playwright holds this thread's event loop, which no other test could use meanwhile
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    with running_browser(program) as found:
        yield found


@pytest.fixture(scope="session")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact that tells points, base rates and the changes of a cohort."""
    rates = {"improved": 0.2, "stable": 0.5, "declined": 0.3}
    cohort = {
        "annual_changes_P": np.linspace(-3.0, 1.0, 41, dtype=np.float32),
        "ages_P": np.full(41, 64, dtype=np.float32),
    }
    decision = decision_part() | {"base_rates": rates}
    return write_artefact(
        tmp_path_factory.mktemp("page") / "telling" / "1", decision=decision, references=cohort, judges=True
    )


@pytest.fixture(scope="session")
def address(telling: Path) -> Iterator[str]:
    with served(telling) as found:
        yield found


@pytest.fixture(scope="session")
def keyed_address(telling: Path) -> Iterator[str]:
    with served(telling, environment={**os.environ, "INTERSCAN_API_KEYS": KEY}) as found:
        yield found


@pytest.fixture
def open_page(browser: Browser, address: str) -> Open:
    """Opens the page at the service; `with open_page(locale="de-DE") as page:`."""
    return partial(opened, browser, address)
