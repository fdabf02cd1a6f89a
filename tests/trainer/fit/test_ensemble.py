"""Members go without one part of the training people each, resume one by one, and answer together as their mean."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, TinyScan, default_scans, ensemble_recipe, without_timing, write_store
from trainer.data.cohort import read_cohort
from trainer.data.pairs import visit_pairs
from trainer.data.splits import member_splits
from trainer.fit.embedding import embed_cohort
from trainer.fit.ensemble import load_members, member_location
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.fit.trained import Trained, load_trained

EXACT = Compute(torch.device("cpu"), torch.float32)


def quietly(done: int, total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("ensemble") / "store", default_scans(num_subjects=24, odd=False))


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    location = Location(tmp_path_factory.mktemp("ensemble") / "run")
    train_run(ensemble_recipe(), store, location, progress=quietly)
    return Run.open(location)


@pytest.fixture(scope="module")
def trained(run: Run, store: Store) -> Trained:
    return load_trained(run, store)


def test_every_training_subject_is_unseen_by_one_member_and_nobody_else_is_seen(run: Run, store: Store) -> None:
    own = [Run.open(member_location(run.location, number)).split for number in range(3)]
    unseen = [split.of("validation") for split in own]
    assert frozenset.union(*unseen) == run.split.of("train")
    assert sum(map(len, unseen)) == len(run.split.train)
    assert max(map(len, unseen)) - min(map(len, unseen)) <= 1
    for split in own:
        assert split.of("train") | split.of("validation") == run.split.of("train")
        assert split.of("test") == run.split.of("validation") | run.split.of("test")
    cohort = read_cohort(store, MODALITY, "mmse")
    assert own == list(member_splits(run.split, 3, seed=run.recipe.seed, together=cohort.together))


def test_the_ensembles_score_is_the_mean_of_its_members(run: Run, store: Store, trained: Trained) -> None:
    cohort = read_cohort(store, MODALITY, "mmse").of_subjects(run.split.of("test"))
    splits = [Run.open(member_location(run.location, number)).split for number in range(3)]
    members = load_members(run, store, splits)
    each = [
        member.direction.scores(embed_cohort(member.encoder, store, (MODALITY,), cohort, EXACT)) for member in members
    ]
    together = trained.predicted_scores(embed_cohort(trained.encoder, store, (MODALITY,), cohort, EXACT))
    assert together is not None
    np.testing.assert_allclose(together, np.mean(each, axis=0), atol=2e-4)
    assert np.ptp(each, axis=0).max() > 1e-3  # the members differ


def test_the_told_change_follows_the_score_and_exchanges_exactly(run: Run, store: Store, trained: Trained) -> None:
    cohort = read_cohort(store, MODALITY, "mmse").of_subjects(run.split.of("test"))
    embeddings = embed_cohort(trained.encoder, store, (MODALITY,), cohort, EXACT)
    pairs = visit_pairs(cohort, run.recipe.outcome, which="all")
    difference = embeddings[pairs.later_P] - embeddings[pairs.earlier_P]
    there, back = trained.improvements(difference), trained.improvements(-difference)
    assert there is not None
    assert back is not None
    np.testing.assert_array_equal(there, -back)
    assert np.corrcoef(there, pairs.delta_P)[0, 1] > 0.9  # the middle of the tiny heads is as bright as their score
    np.testing.assert_array_equal(trained.probabilities(difference), trained.probabilities(-difference)[:, ::-1])


def test_the_result_tells_what_it_was_calibrated_on(run: Run) -> None:
    result = run.result()
    assert result is not None
    assert result.progression_head is not None
    change = result.progression_head.change
    assert change is not None
    assert change.num_people == len(run.split.train)
    assert change.log_loss < change.base_rate_log_loss
    assert list(change.noise_changes) == sorted(change.noise_changes)
    assert len(read_history(run.location)) == run.recipe.epochs


def test_a_run_that_was_stopped_between_members_ends_at_the_same_weights(
    run: Run, store: Store, tmp_path: Path
) -> None:
    location, stop = Location(tmp_path / "run"), StopRequest()
    steps: list[int] = []

    def stop_in_the_second(done: int, total: int) -> None:
        steps.append(done)
        stop.requested = done > total / 3

    with pytest.raises(Interrupted):
        train_run(ensemble_recipe(), store, location, progress=stop_in_the_second, stop=stop)
    assert Run.open(location).result() is None
    assert Run.open(member_location(location, 0)).result() is not None
    train_run(ensemble_recipe(), store, location, progress=quietly)
    (state, _), (other, _) = Run.open(location).load_model(), run.load_model()
    for part in ("encoder", "score_head", "progression_head"):
        assert state[part].keys() == other[part].keys()
        for name, tensor in state[part].items():
            assert torch.equal(tensor, other[part][name]), name
    assert without_timing(read_history(location)) == without_timing(read_history(run.location))
    again = train_run(ensemble_recipe(), store, location, progress=quietly)
    assert again == Run.open(location).result()


def test_too_few_unseen_people_leave_a_model_without_a_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scans: list[TinyScan] = default_scans(num_subjects=9, odd=False)
    location = Location(tmp_path / "run")
    result = train_run(ensemble_recipe(), write_store(tmp_path / "store", scans), location, progress=quietly)
    assert result.progression_head is None
    assert "10 subjects and 2 kinds are needed" in caplog.text


def test_more_members_than_training_subjects_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be divided between 20 members; .*lower ensemble\.members"):
        train_run(ensemble_recipe(ensemble={"members": 20}), store, Location(tmp_path / "run"), progress=quietly)
    with pytest.raises(RunError, match="not a run"):
        Run.open(Location(tmp_path / "run"))


def test_several_processes_are_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2 and the 3 members.*ensemble\.members = 1"):
        train_run(ensemble_recipe(), store, Location(tmp_path / "run"), progress=quietly)
