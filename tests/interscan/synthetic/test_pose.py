"""Poses: rigid, small, and not all alike."""

import numpy as np
import pytest

from interscan.synthetic.pose import draw_pose


def test_a_pose_is_a_small_rigid_motion() -> None:
    poses = [draw_pose(np.random.default_rng(seed)) for seed in range(50)]
    for pose in poses:
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose.rotation) == pytest.approx(1)
        assert np.rad2deg(np.arccos((np.trace(pose.rotation) - 1) / 2)) < 9
        assert np.abs(pose.shift_mm).max() <= 5
    assert np.std([pose.shift_mm for pose in poses]) > 1.5
