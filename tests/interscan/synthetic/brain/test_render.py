"""Rendering against closed forms: interpolation of polynomials, volumes and positions of a moved ball."""

import nibabel as nib
import numpy as np
import pytest

from interscan.synthetic.brain.render import Grid, Layer, paint, upsample
from interscan.synthetic.pose import STRAIGHT, Pose
from interscan.synthetic.shapes import coverage, ellipsoid

_COLOURS = np.array([0.0, 1.0], np.float32)


def _ball(centre: tuple[float, float, float], radius: float) -> Layer:
    low = tuple(c - radius - 6 for c in centre)
    high = tuple(c + radius + 6 for c in centre)
    return Layer(
        low,  # type: ignore[arg-type]
        high,  # type: ignore[arg-type]
        2.0,
        lambda head, node_mm: ellipsoid(head, centre, (radius, radius, radius))[None],
        lambda values, edge_mm: [(1, coverage(values[0], edge_mm))],
    )


def _grid(spacing: tuple[float, float, float]) -> Grid:
    shape = tuple(round(80 / edge) for edge in spacing)
    origin = tuple(-edge * (count - 1) / 2 for edge, count in zip(spacing, shape, strict=True))
    return Grid(shape, spacing, origin)  # type: ignore[arg-type]


def test_upsampling_reproduces_a_quadratic_exactly() -> None:
    grid = Grid((7, 9, 8), (1.0, 1.3, 0.9), (0.0, 0.0, 0.0))
    nodes = np.stack(np.meshgrid(*[-8 + 4.0 * np.arange(8)] * 3, indexing="ij"))
    voxels = np.stack(
        np.meshgrid(*[e * np.arange(n) for e, n in zip(grid.spacing_mm, grid.shape_XYZ, strict=True)], indexing="ij")
    )

    def quadratic(p: np.ndarray) -> np.ndarray:
        return 1 + p[0] - 2 * p[1] + 0.1 * p[0] * p[2] + 0.05 * p[1] ** 2

    made = upsample(quadratic(nodes).astype(np.float32), 4.0, (-8.0, -8.0, -8.0), grid)
    np.testing.assert_allclose(made, quadratic(voxels), atol=1e-4)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.2, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_a_painted_ball_has_the_volume_of_a_ball(spacing: tuple[float, float, float]) -> None:
    picture = paint([_ball((3.0, -2.0, 5.0), 15.0)], _grid(spacing), STRAIGHT, _COLOURS)
    assert picture.sum(dtype=np.float64) * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.01)


def test_a_pose_moves_the_ball_to_where_rotation_and_shift_say() -> None:
    angle = np.deg2rad(30)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = Pose(rotation, np.array([2.0, -3.0, 4.0]))
    grid = _grid((1.0, 1.0, 1.0))
    picture = paint([_ball((15.0, 0.0, 5.0), 8.0)], grid, pose, _COLOURS)
    voxels = np.argwhere(picture >= 0) @ np.diag(grid.spacing_mm) + grid.origin_mm
    centre = (voxels * picture.reshape(-1, 1)).sum(axis=0) / picture.sum()
    np.testing.assert_allclose(centre, rotation @ [15.0, 0.0, 5.0] + [2.0, -3.0, 4.0], atol=0.05)


def test_a_layer_outside_the_field_of_view_paints_nothing() -> None:
    picture = paint([_ball((200.0, 0.0, 0.0), 8.0)], _grid((2.0, 2.0, 2.0)), STRAIGHT, _COLOURS)
    assert not picture.any()


def test_a_later_layer_covers_an_earlier_one() -> None:
    hole = _ball((0.0, 0.0, 0.0), 6.0)
    hole = Layer(hole.low_mm, hole.high_mm, 2.0, hole.fields, lambda values, edge: [(0, coverage(values[0], edge))])
    picture = paint([_ball((0.0, 0.0, 0.0), 15.0), hole], _grid((1.0, 1.0, 1.0)), STRAIGHT, _COLOURS)
    assert picture.sum(dtype=np.float64) == pytest.approx(4 / 3 * np.pi * (15**3 - 6**3), rel=0.01)


def test_the_affine_is_ras_and_maps_the_first_voxel_to_the_origin() -> None:
    grid = _grid((1.2, 1.0, 1.5))
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")
    np.testing.assert_allclose(nib.affines.apply_affine(grid.affine, [0, 0, 0]), grid.origin_mm)
    np.testing.assert_allclose(nib.affines.voxel_sizes(grid.affine), grid.spacing_mm)
