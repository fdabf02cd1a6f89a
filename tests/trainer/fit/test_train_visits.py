"""Runs of several modalities: they learn, resume bit for bit, ask for what is there, and see training subjects only."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import TIMING_FIELDS, without_timing
from tests.support.visits import ARRAYS, TinyVisit, changed, default_visits, stored_of, visit_recipe, write_visits
from tests.trainer.fit.test_train import flat
from trainer.data.cohort import Cohort, read_visits
from trainer.data.splits import Split
from trainer.fit.embedding import embed_cohort, embed_visits
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.supply import Supply
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained
from trainer.recipe import TrainRecipe

EXACT = Compute(torch.device("cpu"), torch.float32)
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Progress that nobody sees."""


def assert_same_end(first: Location, second: Location) -> None:
    """Weights, standards, fusion head, history and result alike, bit for bit, apart from the clock."""
    (state, result), (other_state, other_result) = (Run.open(location).load_model() for location in (first, second))
    leaves, other_leaves = flat(state), flat(other_state)
    assert leaves.pop(".progression_head") is other_leaves.pop(".progression_head") is None
    assert leaves.keys() == other_leaves.keys()
    assert {".encoder.clinical_mean", ".fusion_head.weight"} <= leaves.keys()
    for name, tensor in leaves.items():
        assert torch.equal(tensor, other_leaves[name]), name
    assert without_timing(read_history(first)) == without_timing(read_history(second))
    one, other = result.to_dict(), other_result.to_dict()
    for content in (one, one["last_epoch"], other, other["last_epoch"]):
        for name in (*TIMING_FIELDS, "finished"):
            content.pop(name, None)
    assert one == other


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_visits(tmp_path_factory.mktemp("visits"))


@pytest.fixture(scope="module")
def joint(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    location = Location(tmp_path_factory.mktemp("joint") / "run")
    train_run(visit_recipe(), store, location, progress=silent)
    return Run.open(location)


def visits_of(store: Store, run: Run, part: str) -> Cohort:
    return read_visits(store, tuple(ARRAYS), "impaired").of_subjects(run.split.of(part))


@pytest.mark.parametrize(
    "names", [("cross_modality",), ("cross_subject",), ("cross_modality", "cross_subject"), ("fusion_bce",)]
)
def test_each_arm_lowers_its_loss_and_tells_the_classes_of_an_easy_cohort(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    store = write_visits(tmp_path / "store", default_visits(48))
    recipe = visit_recipe(objective=[{"name": name} for name in names], optim={"epochs": 12, "learning_rate": 1e-2})
    location = Location(tmp_path / "run")
    result = train_run(recipe, store, location, progress=silent)
    history = read_history(location)
    for name in names:
        assert history[-1][name] < history[0][name]
        assert history[-1][f"{name}_over_chance"] < 1
    fusion = result.fusion_head
    assert fusion is not None
    assert (fusion.l2 is None) == ("fusion_bce" in names)
    assert fusion.classes == (0.0, 1.0)
    assert fusion.num_train + fusion.num_validation == 48 - 10
    assert fusion.validation_auc is not None
    assert fusion.validation_auc > 0.9
    assert result.progression_head is None


def test_the_stored_head_gives_the_metrics_of_the_result(store: Store, joint: Run) -> None:
    trained = load_trained(joint, store)
    validation = visits_of(store, joint, "validation")
    embedded = embed_visits(trained.encoder, store, validation, EXACT)
    probability = trained.class_probability(embedded)
    positive, negative = (probability[validation.scores_N == value] for value in (1.0, 0.0))
    pairs = [(0.5 if one == other else float(one > other)) for one in positive for other in negative]
    accuracy = np.mean([np.mean(positive >= 0.5), np.mean(negative < 0.5)])
    fusion = trained.result.fusion_head
    assert fusion is not None
    assert fusion.validation_auc == pytest.approx(np.mean(pairs))
    assert fusion.validation_balanced_accuracy == pytest.approx(accuracy)


def test_embeddings_of_visits_are_those_of_the_encoder_visit_by_visit(store: Store, joint: Run) -> None:
    encoder = load_trained(joint, store).encoder
    cohort = visits_of(store, joint, "train")
    found = embed_visits(encoder, store, cohort, EXACT)
    np.testing.assert_array_equal(found.present_NM, cohort.present_NM)
    np.testing.assert_array_equal(embed_cohort(encoder, store, tuple(ARRAYS), cohort, EXACT), found.embeddings_NE)
    assert found.embeddings_NE.shape == (len(cohort), 16)
    with torch.no_grad():
        for index, row in enumerate(cohort.rows_N):
            here = torch.from_numpy(cohort.present_NM[index])
            inputs = {
                name: torch.from_numpy(
                    store.read(int(row), name)[None] if is_here else np.full((1, *shape), np.nan, "f4")
                )
                for (name, shape), is_here in zip(ARRAYS.items(), here, strict=True)
            }
            expected = encoder(inputs, here[None])
            np.testing.assert_allclose(found.modalities_NME[index], expected[0].numpy(), atol=1e-5)
            np.testing.assert_allclose(
                found.embeddings_NE[index], encoder.join(expected, here[None])[0].numpy(), atol=1e-5
            )


def stop_after(step: int) -> Progress:
    def progress(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_cut_off_and_resumed_ends_at_the_same_bits(store: Store, joint: Run, tmp_path: Path, step: int) -> None:
    location = Location(tmp_path / "run")
    torch.manual_seed(step)  # what the process drew before must not matter
    with pytest.raises(Interrupted, match=f"stopped after step {step} of 6"):
        train_run(visit_recipe(), store, location, progress=stop_after(step))
    torch.manual_seed(99)
    train_run(visit_recipe(), store, location, progress=silent)
    assert_same_end(location, joint.location)


def test_a_run_with_volumes_and_dropout_resumes_at_the_same_bits(tmp_path: Path) -> None:
    visits = default_visits(12, volume=True)
    store = write_visits(tmp_path / "store", visits)
    recipe = visit_recipe(data={"modalities": ["T2", "clinical"], "batch_size": 4}, optim={"epochs": 1})
    train_run(recipe, store, Location(tmp_path / "whole"), progress=silent)
    location = Location(tmp_path / "run")
    torch.manual_seed(5)
    with pytest.raises(Interrupted):
        train_run(recipe, store, location, progress=stop_after(1))
    train_run(recipe, store, location, progress=silent)
    assert_same_end(location, Location(tmp_path / "whole"))


def test_means_and_sds_are_those_of_the_training_subjects_arrays(store: Store, joint: Run) -> None:
    encoder = load_trained(joint, store).encoder
    training = visits_of(store, joint, "train")
    assert training.present_NM is not None
    for column, name in enumerate(ARRAYS):
        rows = training.rows_N[training.present_NM[:, column]]
        stored = np.stack([store.read(int(row), name) for row in rows]).astype(np.float64)
        axes = None if name in ("SC", "FC") else tuple(range(stored.ndim - 1))
        np.testing.assert_allclose(encoder.get_buffer(f"{name}_mean").numpy(), stored.mean(axis=axes), rtol=1e-6)
        np.testing.assert_allclose(encoder.get_buffer(f"{name}_sd").numpy(), stored.std(axis=axes), rtol=1e-6)


def test_held_out_subjects_change_no_bit_of_the_model(joint: Run, tmp_path: Path) -> None:
    # Another session has other values; the subjects, and so the split, stay.
    visits = changed(default_visits(), joint.split.of("test"), session_id="ses-99", impaired=0.0)
    assert not np.array_equal(stored_of(visits[0], "SC"), stored_of(TinyVisit("x", 0.0, frozenset()), "SC"))
    store = write_visits(tmp_path / "store", visits)
    train_run(visit_recipe(), store, Location(tmp_path / "run"), progress=silent)
    assert_same_end(Location(tmp_path / "run"), joint.location)


def test_each_object_of_training_and_validation_is_requested_once_and_no_absent_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []
    kept: list[Supply] = []
    original = Supply.__init__

    def watched(self: Supply, *arguments: object, **settings: object) -> None:
        original(self, *arguments, **settings)
        kept.append(self)
        for reader in self.readers.values():
            cat = reader._fs.cat_file
            if not getattr(cat, "is_watched", False):

                def counting(path: str, cat: Callable[..., bytes] = cat, **more: object) -> bytes:
                    requested.append(path)
                    return cat(path, **more)

                counting.is_watched = True  # type: ignore[attr-defined]
                monkeypatch.setattr(reader._fs, "cat_file", counting)

    monkeypatch.setattr(Supply, "__init__", watched)
    location = Location(tmp_path / "run")
    train_run(visit_recipe(), store, location, progress=silent)
    run = Run.open(location)
    objects = [
        path.split("volumes.zarr/")[1].split("/") for path in requested if "volumes.zarr" in path and "/c/" in path
    ]
    found = sorted((name, int(row)) for name, _, row, *_ in objects)
    expected = sorted(
        (name, int(row))
        for cohort in (visits_of(store, run, "train"), visits_of(store, run, "validation"))
        for row, present_M in zip(cohort.rows_N, cohort.present_NM, strict=True)
        for name, is_here in zip(ARRAYS, present_M, strict=True)
        if is_here
    )
    assert found == expected
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            visit_recipe(objective=[{"name": "cross_subject"}], outcome={"name": "impaired"}),
            "cross_subject needs scores",
        ),
        (visit_recipe(augment={"flip": 0.5}), r"augment\.flip above 0"),
        (visit_recipe(split={"validation": 0.45, "test": 0.45}), "no training subject has"),
    ],
)
def test_what_cannot_be_followed_leaves_no_run_behind(tmp_path: Path, recipe: TrainRecipe, message: str) -> None:
    visits = [
        TinyVisit(f"sub-{number}", 1.0, frozenset({"SC", "FC"} | (set() if number else {"radiomics", "clinical"})))
        for number in range(12)
    ]
    store = write_visits(tmp_path / "store", visits)
    with pytest.raises(UsageError, match=message):
        train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    assert not (tmp_path / "run").exists()


def test_fusion_of_more_than_two_classes_is_refused_and_the_contrast_trains_without_a_head(tmp_path: Path) -> None:
    visits = [TinyVisit(f"sub-{number:02d}", float(number % 3), frozenset(ARRAYS)) for number in range(18)]
    store = write_visits(tmp_path / "store", visits)
    with pytest.raises(UsageError, match=r"fusion_bce tells two classes apart .* more than two values"):
        train_run(visit_recipe(objective=[{"name": "fusion_bce"}]), store, Location(tmp_path / "a"), progress=silent)
    location = Location(tmp_path / "b")
    result = train_run(visit_recipe(), store, location, progress=silent)
    assert result.fusion_head is None
    trained = load_trained(Run.open(location), store)
    with pytest.raises(RunError, match="no fusion head"):
        trained.class_probability(
            embed_visits(trained.encoder, store, visits_of(store, Run.open(location), "test"), EXACT)
        )


def test_several_processes_are_refused_before_anything_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager
    from types import SimpleNamespace

    from trainer.fit import train as train_module

    @contextmanager
    def two_of_them(device: torch.device):  # type: ignore[no-untyped-def]
        yield SimpleNamespace(world_size=2, is_first=True)

    monkeypatch.setattr(train_module, "joined", two_of_them)
    with pytest.raises(UsageError, match=r"4 names and 2 processes were started; .* without torchrun"):
        train_run(visit_recipe(), store, Location(tmp_path / "run"), progress=silent)
    assert not (tmp_path / "run").exists()


def test_a_run_of_several_modalities_is_not_exported(store: Store, joint: Run) -> None:
    with pytest.raises(RunError, match=r"has 4 modalities \(SC, FC, radiomics, clinical\) and an artefact takes one"):
        load_trained(joint, store).pair_model()


def test_the_model_file_of_one_modality_knows_nothing_of_fusion(joint: Run) -> None:
    state, result = joint.load_model()
    assert set(state["fusion_head"]) == {"weight", "bias"}
    assert json.loads(joint.location.read("result.json"))["fusion_head"]["classes"] == [0.0, 1.0]
    assert result.fusion_head is not None


def test_a_split_that_is_given_is_the_one_that_trains_and_a_listening_caller_stops_it(
    store: Store, tmp_path: Path
) -> None:
    names = sorted(set(read_visits(store, tuple(ARRAYS), "impaired").subject_ids))
    split = Split(train=tuple(names[8:]), validation=tuple(names[4:8]), test=tuple(names[:4]))
    location = Location(tmp_path / "run")
    stop = StopRequest()

    def ask(done: int, total: int) -> None:
        stop.requested = done == 2

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped after step 2 of"):
        train_run(visit_recipe(), store, location, progress=ask, split=split, stop=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(RunError, match="started with another split"):
        train_run(visit_recipe(), store, location, progress=silent)
    train_run(visit_recipe(), store, location, progress=silent, split=split)
    run = Run.open(location)
    assert run.split == split
    training = visits_of(store, run, "train")
    assert len(training.indices_by_subject) == len(names) - 8
    # The standards are fitted on these subjects, and on no others.
    here_N = training.present_NM[:, tuple(ARRAYS).index("clinical")]
    rows = np.stack([store.read(int(row), "clinical") for row in training.rows_N[here_N]])
    found = run.load_model()[0]["encoder"]["clinical_mean"].numpy().ravel()
    np.testing.assert_allclose(found, rows.astype(np.float64).mean(axis=0), rtol=1e-5)
