"""The head: what lies where along straight lines from the outside in."""

import numpy as np

from interscan.synthetic.brain.layers_head import cavity, head_layers
from interscan.synthetic.brain.phantom import Tissue, draw_anatomy
from interscan.synthetic.brain.render import Grid, paint
from interscan.synthetic.pose import STRAIGHT


def _tissues_along_z(seed: int) -> list[Tissue]:
    """Dominant tissue from above the vertex down to the middle of the cavity, 1 mm steps, repeats dropped."""
    grid = Grid((3, 3, 121), (1.0, 1.0, 1.0), (-1.0, -18.0, 0.0))
    layers = head_layers(draw_anatomy(np.random.default_rng(seed)))
    fractions = np.stack([paint(layers, grid, STRAIGHT, row)[1, 1] for row in np.eye(len(Tissue), dtype=np.float32)])
    dominant = [Tissue(int(number)) for number in fractions.argmax(axis=0)[::-1]]
    return [tissue for tissue, before in zip(dominant, [None, *dominant], strict=False) if tissue is not before]


def test_from_outside_come_air_scalp_two_tables_of_bone_with_marrow_between_and_fluid() -> None:
    for seed in range(4):
        order = [tissue for tissue in _tissues_along_z(seed) if tissue is not Tissue.MUSCLE]
        expected = [Tissue.AIR, Tissue.FAT, Tissue.BONE, Tissue.MARROW, Tissue.BONE, Tissue.CSF]
        assert order == expected


def test_the_cavity_holds_the_volume_of_an_adult_skull() -> None:
    """1.1 to 1.9 l: the range of adult intracranial volumes."""
    axes = [np.arange(low, high, 2.0, dtype=np.float32) for low, high in ((-90, 90), (-120, 90), (-90, 90))]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    assert 1.1e6 < (cavity(points) < 0).sum() * 8.0 < 1.9e6


def test_two_people_differ() -> None:
    grid = Grid((40, 50, 45), (5.0, 5.0, 5.0), (-98.0, -130.0, -110.0))
    colours = np.linspace(0, 1, len(Tissue), dtype=np.float32)
    one, other = (paint(head_layers(draw_anatomy(np.random.default_rng(s))), grid, STRAIGHT, colours) for s in (0, 1))
    assert np.abs(one - other).max() > 0.1
