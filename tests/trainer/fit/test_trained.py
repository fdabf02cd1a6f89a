"""A loaded run computes what it computed at its end, and its answers are exactly antisymmetric."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import RunError
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import read_cohort
from trainer.encoders import ProgressionHead, build_encoder
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import PairModel, load_trained


def pair_model(seed: int = 0) -> PairModel:
    torch.manual_seed(seed)
    head = ProgressionHead(8)
    for one in head.parameters():
        torch.nn.init.normal_(one)
    return PairModel(build_encoder("reference", in_channels=1, embedding_width=8), head, temperature=1.7).eval()


@torch.no_grad()
def test_probabilities_are_the_softmax_of_the_calibrated_logits() -> None:
    model = pair_model()
    differences = torch.randn(500, 8)
    found = model.judge(differences)
    expected = torch.softmax(model.head(differences).double() / 1.7, dim=1).float()
    torch.testing.assert_close(found, expected, atol=2e-7, rtol=0)
    torch.testing.assert_close(model.judge(differences * 1e4).sum(dim=1), torch.ones(500))


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 8, 501])
def test_exchanging_the_scans_exchanges_improved_and_declined_bit_for_bit(batch_size: int) -> None:
    model = pair_model()
    for seed in range(40):
        differences = torch.randn(batch_size, 8, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(model.judge(differences), model.judge(-differences).flip(1))
    earlier, later = torch.rand(2, min(batch_size, 8), 1, 16, 16, 16)
    assert torch.equal(model.compare(earlier, later), model.compare(later, earlier).flip(1))


@torch.no_grad()
def test_equal_scans_are_as_probably_improved_as_declined() -> None:
    volumes = torch.rand(3, 1, 16, 16, 16)
    found = pair_model().compare(volumes, volumes)
    assert torch.equal(found[:, 0], found[:, 2])


@torch.no_grad()
def test_a_loaded_run_embeds_compares_and_predicts_as_its_parts_do(finished: Finished) -> None:
    trained = load_trained(finished.run, finished.store)
    volumes = torch.rand(4, 1, 16, 16, 16)
    model = trained.pair_model()
    embeddings = trained.encoder(volumes)
    assert torch.equal(model(volumes), embeddings)
    differences = (embeddings[1:] - embeddings[:-1]).numpy()
    compared = model.compare(volumes[:-1], volumes[1:]).numpy()
    np.testing.assert_allclose(trained.probabilities(differences), compared, atol=1e-6)
    assert trained.score_head is not None
    statistics = trained.result.score_statistics
    assert statistics is not None
    expected = trained.score_head(embeddings).numpy() * statistics.sd + statistics.mean
    np.testing.assert_allclose(trained.predicted_scores(embeddings.numpy()), expected, rtol=1e-6)


def test_the_weights_are_those_of_the_last_checkpoint(finished: Finished) -> None:
    trained = load_trained(finished.run, finished.store)
    (path,) = (name for name in finished.run.location.names("checkpoints") if "step-00000006" in name)
    state = torch.load(finished.folder / path, weights_only=True)["model"]
    for name, value in trained.encoder.state_dict().items():
        assert torch.equal(value, state[f"encoder.{name}"])


def test_without_scores_there_is_no_score_head_and_asking_for_pairs_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(with_scores=False))
    recipe = tiny_recipe(objective=[{"name": "info_nce"}], optim={"epochs": 1})
    train_run(recipe, store, Location(tmp_path / "run"), progress=lambda done, total: None)
    trained = load_trained(Run.open(Location(tmp_path / "run")), store)
    assert trained.head is None
    cohort = read_cohort(store, MODALITY, "mmse")
    embeddings = embed_cohort(trained.encoder, store, (MODALITY,), cohort, Compute(torch.device("cpu"), torch.float32))
    assert trained.predicted_scores(embeddings) is None
    with pytest.raises(RunError, match=r"no progression head: .* fewer than two kinds of change in mmse"):
        trained.pair_model()


def test_a_head_on_scores_that_too_few_people_could_calibrate_is_named_with_the_remedy(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=9, odd=False))
    location = Location(tmp_path / "run")
    recipe = tiny_recipe(objective=[{"name": "learner", "variant": "mse"}], head={"on": "score"}, optim={"epochs": 1})
    train_run(recipe, store, location, progress=lambda done, total: None)

    with pytest.raises(RunError, match=r"calibrated on 10 people or more .* bring more people, or train a recipe"):
        load_trained(Run.open(location), store).pair_model()
