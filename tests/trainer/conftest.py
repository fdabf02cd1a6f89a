"""One tiny finished run, evaluated and exported once for all tests of the trainer; copy it before changing anything."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import tiny_recipe, write_store
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.recipe import TrainRecipe


@dataclass(frozen=True)
class Finished:
    """A finished run on the default tiny cohort."""

    store: Store
    recipe: TrainRecipe
    folder: Path

    @property
    def run(self) -> Run:
        return Run.open(Location(self.folder))

    def copy_to(self, folder: Path) -> Run:
        """The same run elsewhere, to be changed."""
        shutil.copytree(self.folder, folder)
        return Run.open(Location(folder))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    store = write_store(folder / "store")
    recipe = tiny_recipe()
    train_run(recipe, store, Location(folder / "run"), progress=lambda done, total: None)
    return Finished(store, recipe, folder / "run")


@pytest.fixture(scope="session")
def evaluated(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    evaluate_run(finished.copy_to(folder))
    return Finished(finished.store, finished.recipe, folder)


@pytest.fixture(scope="session")
def artefact(evaluated: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefact") / "tiny"
    export_run(evaluated.run, Location(folder), version="3")
    return folder


@pytest.fixture
def silent() -> Callable[[int, int], None]:
    """Progress that nobody sees."""
    return lambda done, total: None
