"""An engine, the three images, a cohort and a bucket, each made once for the suite that runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from interscan.synthetic.brain.cohort import write_brain_cohort
from tests.support.containers import TARGETS, open_to_all
from tests.support.engine import (
    ROOT,
    Engine,
    base_name,
    build,
    make_base,
    make_emulator,
    missing,
    record,
    running_engine,
)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with running_engine(ROOT / ".engine") as running:
        make_base(running, base_name())
        yield running
        record(running)


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, float]:
    """Seconds that each target took to build."""
    seconds = {target: build(engine, target) for target in TARGETS}
    engine.figures["build_s"] = seconds
    return seconds


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms with three visits each, as BIDS, readable by any user."""
    folder = tmp_path_factory.mktemp("scans") / "bids"
    write_brain_cohort(folder, num_subjects=8, num_visits=3, seed=5, spacing_mm=3.0, workers=0)
    open_to_all(folder.parent)
    return folder


@pytest.fixture(scope="session")
def bucket(engine: Engine, images: dict[str, float]) -> Iterator[None]:
    """The emulator under the name `gcs` in a network of its own, with one bucket, `interscan`."""
    make_emulator(engine)
    engine.run("network", "create", "interscan-tests")
    running = engine.run(
        "run",
        "--detach",
        "--network",
        "interscan-tests",
        "--network-alias",
        "gcs",
        "--volume",
        f"{ROOT / 'deploy' / 'buckets'}:/data:ro",
        "fsouza/fake-gcs-server:1.55.1",
        "-scheme=http",
        "-backend=memory",
        "-data=/data",
        "-port=4443",
        "-public-host=gcs:4443",
        "-external-url=http://gcs:4443",
        "-log-level=warn",
    ).stdout.strip()
    yield
    engine.run("rm", "--force", running)
    engine.run("network", "rm", "interscan-tests", check=False)
