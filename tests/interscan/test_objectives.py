"""The public names of the objectives are those of the recipes' objectives and reach the same functions."""

from interscan import objectives
from trainer.objectives import losses


def test_every_published_objective_is_there_under_its_own_name():
    assert set(objectives.__all__) == set(losses.__all__)
    for name in objectives.__all__:
        assert getattr(objectives, name) is getattr(losses, name)
