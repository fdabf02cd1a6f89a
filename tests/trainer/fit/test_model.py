"""The training model hands each subject's scans to its own slots."""

from pathlib import Path

import pytest
import torch

from preprocess.errors import UsageError
from tests.support.visits import ARRAYS, default_visits, write_visits
from trainer.data.labels import Labels
from trainer.encoders.visits import VisitEncoder
from trainer.fit.model import TrainingModel, encoder_for, scan_model
from trainer.recipe import DataRecipe, EncoderRecipe

RECIPE = EncoderRecipe(name="reference", embedding_width=8, projection_width=4)


def test_scans_side_by_side_become_the_scans_of_one_subject() -> None:
    torch.manual_seed(0)
    model = scan_model(RECIPE, in_channels=1).eval()
    volumes = torch.rand(6, 1, 16, 16, 16)
    scores, subjects = torch.rand(3, 2), torch.tensor([5, 6, 7])
    output = model(volumes, Labels(scores, subjects, torch.zeros(3, 2)))
    embeddings = model.encoder(volumes)
    for subject in range(3):
        for scan in range(2):
            index = 2 * subject + scan
            assert torch.equal(output.embeddings_BKE[subject, scan], embeddings[index])
            torch.testing.assert_close(output.predicted_BK[subject, scan], model.score_head(embeddings)[index])
            torch.testing.assert_close(output.projections_BKP[subject, scan], model.projector(embeddings)[index])
    assert output.projections_BKP.shape == (3, 2, 4)
    torch.testing.assert_close(output.projections_BKP.norm(dim=-1), torch.ones(3, 2))
    assert output.scores_BK is scores
    assert output.subjects_B is subjects


def test_every_network_gets_a_gradient() -> None:
    model = scan_model(RECIPE, in_channels=1)
    output = model(torch.rand(4, 1, 16, 16, 16), Labels(torch.rand(2, 2), torch.arange(2), torch.zeros(2, 2)))
    torch.autograd.backward(
        output.projections_BKP[..., 0].sum() + output.predicted_BK.square().sum() + output.embeddings_BKE.sum()
    )
    assert all(one.grad is not None for one in model.parameters())


MULTIMODAL = EncoderRecipe(name="multimodal", embedding_width=3, projection_width=4)


def test_the_embedding_of_a_visit_is_the_join_of_its_modalities_and_heads_take_it(tmp_path: Path) -> None:
    store = write_visits(tmp_path)
    encoder = encoder_for(MULTIMODAL, DataRecipe(modalities=tuple(ARRAYS)), store)
    assert isinstance(encoder, VisitEncoder)
    model = TrainingModel(encoder, projection_width=4)
    present = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) < 0.7
    modalities = encoder({name: torch.rand(5, *shape) for name, shape in ARRAYS.items()}, present)
    output = model.judge(modalities, Labels(torch.rand(5, 1), torch.arange(5), torch.zeros(5, 1)), present)
    assert output.modalities_BME is modalities
    assert output.present_BM is present
    joined = encoder.join(modalities, present)
    assert torch.equal(output.embeddings_BKE, joined[:, None])
    torch.testing.assert_close(output.predicted_BK[:, 0], model.score_head(joined))
    torch.testing.assert_close(output.projections_BKP[:, 0], model.projector(joined))
    torch.testing.assert_close(output.fused_B, encoder.network.fuse(modalities, present))


def test_an_encoder_for_rows_it_cannot_take_is_refused(tmp_path: Path) -> None:
    store = write_visits(tmp_path, default_visits(6, volume=True))
    with pytest.raises(UsageError, match="encoder 'fast' takes rows"):
        encoder_for(RECIPE.model_copy(update={"name": "fast"}), DataRecipe(modality="SC"), store)
    with pytest.raises(ValueError, match="depends on the store's modalities"):
        scan_model(MULTIMODAL, in_channels=1)
