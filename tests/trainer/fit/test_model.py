"""The training model hands each subject's scans to its own slots."""

import torch

from trainer.fit.model import TrainingModel
from trainer.recipe import EncoderRecipe

RECIPE = EncoderRecipe(name="reference", embedding_width=8, projection_width=4)


def test_scans_side_by_side_become_the_scans_of_one_subject() -> None:
    torch.manual_seed(0)
    model = TrainingModel(RECIPE, in_channels=1).eval()
    volumes = torch.rand(6, 1, 16, 16, 16)
    scores, subjects = torch.rand(3, 2), torch.tensor([5, 6, 7])
    output = model(volumes, scores, subjects)
    embeddings = model.encoder(volumes)
    for subject in range(3):
        for scan in range(2):
            place = 2 * subject + scan
            assert torch.equal(output.embeddings_BKE[subject, scan], embeddings[place])
            torch.testing.assert_close(output.predicted_BK[subject, scan], model.score_head(embeddings)[place])
            torch.testing.assert_close(output.projections_BKP[subject, scan], model.projector(embeddings)[place])
    assert output.projections_BKP.shape == (3, 2, 4)
    torch.testing.assert_close(output.projections_BKP.norm(dim=-1), torch.ones(3, 2))
    assert output.scores_BK is scores
    assert output.subjects_B is subjects


def test_every_network_gets_a_gradient() -> None:
    model = TrainingModel(RECIPE, in_channels=1)
    output = model(torch.rand(4, 1, 16, 16, 16), torch.rand(2, 2), torch.arange(2))
    torch.autograd.backward(
        output.projections_BKP[..., 0].sum() + output.predicted_BK.square().sum() + output.embeddings_BKE.sum()
    )
    assert all(one.grad is not None for one in model.parameters())
