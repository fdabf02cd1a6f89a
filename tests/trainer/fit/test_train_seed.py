"""Everything that a run draws comes from the recipe's seed, whatever the process drew before, and after a cut too."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted
from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store, content_digest
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from tests.support.cohorts import default_scans, write_store
from tests.support.graded import write_graded
from tests.support.visits import default_visits, write_visits
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.train import train_run
from trainer.recipe import TrainRecipe, load_recipe, named_recipes

SMALL = (
    "device=cpu", "precision=float32", "seed=11", "data.batch_size=4", "data.in_flight=8", "split.validation=0.2",
    "split.test=0.2", "encoder.embedding_width=8", "encoder.projection_width=4",
)  # fmt: skip
MMSE = ("outcome.name=mmse", "outcome.higher_is_better=true", "outcome.threshold=2")
PHASES = ("phase.0.epochs=1", "phase.1.epochs=1")
CHANGES = {
    "supremix": (*MMSE, "objective.0.window=9", "optim.epochs=2"),
    "chrono": ("data.num_visits=3", "optim.epochs=2"),
    "clinimcl-reference": ("optim.epochs=2", "data.subjects_per_epoch=1"),
    "conpro": (*PHASES, "phase.0.objective.0.normal=1", "phase.1.objective.0.normal=1", "phase.1.objective.1.normal=1"),
    "conpro-reference": (*PHASES, "data.batch_size=8", "phase.0.objective.0.normal=1", "phase.1.objective.0.normal=1"),
    "joint": ("optim.epochs=2",),
}
"""What makes a shipped recipe one of two epochs on its tiny cohort; two epochs alone where nothing stands here."""
QUICK = ("supremix", "learner-lus")
"""They draw more than views: mixtures of embeddings, and frames."""


def write_clips(place: Path, *, num_subjects: int = 8, num_frames: int = 12, edge: int = 16) -> Store:
    """Two clips of each subject, which move from frame to frame; the brighter, the higher the S/F ratio."""
    location, recipe = Location(place), VolumeRecipe(
        modalities=("LUS",), kinds={"LUS": "clip"}, clip={"frames": num_frames, "size": (edge, edge)}
    )  # fmt: skip
    prepare_arrays(location, recipe, ["LUS"], 2 * num_subjects)
    array, draws, records = open_rows(location, "LUS"), np.random.default_rng(3), []
    for row in range(2 * num_subjects):
        score = 200.0 + 20 * (row % 7)
        clip = draws.integers(0, 200, (num_frames, 1, edge, edge), dtype=np.uint8) + np.uint8(score / 8)
        write_row(array, location.uri, row, clip)
        records.append(
            IndexRecord(
                row=row,
                modality="LUS",
                subject_id=f"sub-{row // 2:02d}",
                session_id=f"ses-{row % 2}",
                run="",
                day=90.0 * (row % 2),
                present=True,
                site="",
                scanner="A",
                spacing_mm=(),
                affine=(),
                source_uri=f"{row}.npy",
                source_sha256="",
                source_bytes=clip.nbytes,
                content_sha256=content_digest(clip),
                outcomes={"sf_ratio": score},
            )
        )
    commit(location, recipe, records)
    return Store.open(location)


@pytest.fixture(scope="module")
def store_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """The tiny cohort that a shipped recipe can read, made when it is first asked for."""
    made: dict[str, Store] = {}
    writers: dict[str, Callable[[Path], Store]] = {
        "conpro": lambda place: write_graded(place, num_subjects=20),
        "conpro-reference": lambda place: write_graded(place, num_subjects=20),
        "joint": lambda place: write_visits(place, default_visits(16, volume=True)),
        "learner-lus": write_clips,
    }

    def store(name: str) -> Store:
        writer = writers.get(name, lambda place: write_store(place, default_scans(num_subjects=15, odd=False)))
        if name not in made:
            made[name] = writer(tmp_path_factory.mktemp(name))
        return made[name]

    return store


def recipe_of(name: str) -> TrainRecipe:
    return load_recipe(name, (*SMALL, *CHANGES.get(name, ("optim.epochs=2",))))


def digest_of(place: Path) -> str:
    state, _ = Run.open(Location(place)).load_model()
    whole = b"".join(tensor.contiguous().numpy().tobytes() for tensor in state["encoder"].values())
    return hashlib.sha256(whole).hexdigest()


def digests(name: str, store: Store, folder: Path) -> list[str]:
    """Of two runs in this process, and of one that was cut off before its last step; the process draws in between."""
    recipe, num_steps = recipe_of(name), 0

    def count(done: int, total: int) -> None:
        nonlocal num_steps
        num_steps = total

    for drawn, place in ((1, folder / "first"), (2, folder / "second")):
        torch.manual_seed(drawn)
        train_run(recipe, store, Location(place), progress=count)
    stop = StopRequest()

    def cut_off(done: int, total: int) -> None:
        if done == total - 1:
            stop.requested = True

    torch.manual_seed(3)
    with pytest.raises(Interrupted):
        train_run(recipe, store, Location(folder / "third"), progress=cut_off, stop=stop)
    torch.rand(17)
    train_run(recipe, store, Location(folder / "third"), progress=count)
    assert num_steps >= 4
    return [digest_of(folder / part) for part in ("first", "second", "third")]


@pytest.mark.parametrize("name", QUICK)
def test_what_an_objective_or_an_encoder_draws_comes_from_the_seed(
    name: str, store_of: Callable[[str], Store], tmp_path: Path
) -> None:
    assert len(set(digests(name, store_of(name), tmp_path))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(named_recipes()) - set(QUICK)))
def test_every_shipped_recipe_gives_one_encoder_for_one_seed(
    name: str, store_of: Callable[[str], Store], tmp_path: Path
) -> None:
    assert len(set(digests(name, store_of(name), tmp_path))) == 1


def test_another_seed_draws_otherwise(store_of: Callable[[str], Store], tmp_path: Path) -> None:
    one, other = (
        train_run(
            recipe_of("supremix").model_copy(update={"seed": seed}),
            store_of("supremix"),
            Location(tmp_path / f"{seed}"),
            progress=lambda done, total: None,
        ).last_epoch["loss"]
        for seed in (11, 12)
    )
    assert one != other
