"""Views replay from seed, epoch and batch, lie in [0, 1], and are what numpy makes of the same draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.transforms import to_stored, unit_scale
from trainer.data.augment import Augment, shift_scaled

OFF = Augment(flip=0.0, shift_voxels=0, gain=0.0, noise=0.0)
ALL = Augment(flip=0.5, shift_voxels=3, gain=0.3, noise=0.2)


def volumes(dtype: str = "uint8", num: int = 5) -> torch.Tensor:
    """Random volumes of unequal edges, so that exchanged axes show."""
    unit = np.random.default_rng(0).random((num, 1, 6, 8, 10), dtype=np.float32)
    return torch.from_numpy(to_stored(unit, dtype))


def views(augment: Augment, *, seed: int = 1, epoch: int = 2, batch: int = 3, dtype: str = "uint8") -> torch.Tensor:
    return augment(volumes(dtype), scale=unit_scale(dtype), seed=seed, epoch=epoch, batch=batch)


def test_the_same_position_in_a_run_replays_the_same_views() -> None:
    first = views(ALL)
    torch.rand(100)
    assert torch.equal(first, views(ALL))


@pytest.mark.parametrize("other", [{"seed": 2}, {"epoch": 3}, {"batch": 4}, {"seed": 2, "epoch": 1}])
def test_another_position_gives_other_views(other: dict[str, int]) -> None:
    assert not torch.equal(views(ALL), views(ALL, **other))


def test_views_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    views(ALL)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_without_augmentation_a_view_is_the_scaled_volume_in_float32(dtype: str) -> None:
    found = views(OFF, dtype=dtype)
    assert found.dtype == torch.float32
    expected = volumes(dtype).numpy().astype(np.float32) * np.float32(unit_scale(dtype))
    np.testing.assert_array_equal(found.numpy(), np.clip(expected, 0, 1))


@pytest.mark.parametrize("dtype", ["uint16", "float16"])
def test_gain_is_computed_in_float32_whatever_is_stored(dtype: str) -> None:
    stored = volumes(dtype)[0]
    out = torch.empty(stored.shape)
    shift_scaled(stored, [0, 0, 0], 0.7 * unit_scale(dtype), out=out)
    expected = stored.numpy().astype(np.float64) * 0.7 * unit_scale(dtype)
    np.testing.assert_allclose(out.numpy(), expected, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_views_stay_in_the_unit_range(dtype: str) -> None:
    found = views(Augment(flip=0.5, shift_voxels=2, gain=0.9, noise=0.9), dtype=dtype)
    assert found.min() == 0
    assert found.max() == 1


shift = st.integers(-11, 11)


@given(st.tuples(shift, shift, shift), st.floats(0.1, 2.0))
@settings(max_examples=150)
def test_a_shift_moves_black_in_as_a_masked_roll_does(shift_voxels: tuple[int, int, int], scale: float) -> None:
    source = volumes("float32", num=1)[0]
    out = torch.full(source.shape, 7.0)
    shift_scaled(source, list(shift_voxels), scale, out=out)
    expected = np.zeros(source.shape, dtype=np.float32)
    for voxel in np.ndindex(*source.shape[1:]):
        origin = tuple(np.subtract(voxel, shift_voxels))
        if all(0 <= index < edge for index, edge in zip(origin, source.shape[1:], strict=True)):
            expected[(0, *voxel)] = np.float32(source[(0, *origin)]) * np.float32(scale)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6)


def test_flip_mirrors_left_and_right_only() -> None:
    found = views(Augment(flip=1.0, shift_voxels=0, gain=0.0, noise=0.0))
    np.testing.assert_array_equal(found.numpy(), np.flip(views(OFF).numpy(), axis=2))


def test_flip_falls_on_about_the_stated_part_of_scans() -> None:
    augment = Augment(flip=0.25, shift_voxels=0, gain=0.0, noise=0.0)
    plain = views(OFF)
    flipped = sum(
        int((found != still).any())
        for batch in range(200)
        for found, still in zip(views(augment, batch=batch), plain, strict=True)
    )
    # 1000 draws at 0.25: four standard deviations are 55.
    assert abs(flipped - 250) < 55


def test_shifts_reach_the_stated_size_in_both_directions_along_every_axis() -> None:
    augment = Augment(flip=0.0, shift_voxels=1, gain=0.0, noise=0.0)
    plain = views(OFF).numpy()[0]
    seen = set()
    for batch in range(150):
        found = views(augment, batch=batch).numpy()[0]
        for moved in np.ndindex(3, 3, 3):
            out = torch.empty(plain.shape)
            shift_scaled(torch.from_numpy(plain), [step - 1 for step in moved], 1.0, out=out)
            if np.array_equal(out.numpy(), found):
                seen.add(moved)
                break
        else:
            raise AssertionError("a view is no shift by at most one voxel")
    assert len(seen) == 27


def test_gain_stays_within_its_limits_and_differs_between_scans() -> None:
    augment = Augment(flip=0.0, shift_voxels=0, gain=0.2, noise=0.0)
    dim = torch.full((5, 1, 4, 4, 4), 100, dtype=torch.uint8)
    gains = [
        augment(dim, scale=1 / 255, seed=0, epoch=0, batch=batch)[:, 0, 0, 0, 0].numpy() * 255 / 100
        for batch in range(60)
    ]
    assert np.min(gains) == pytest.approx(0.8, abs=0.02)
    assert np.max(gains) == pytest.approx(1.2, abs=0.02)
    assert np.min(gains) >= 0.8 - 1e-6
    assert np.max(gains) <= 1.2 + 1e-6
    assert len(set(gains[0].tolist())) == 5


def test_noise_is_centred_differs_between_scans_and_never_exceeds_its_limit() -> None:
    grey = torch.full((6, 1, 16, 16, 16), 0.5)
    augment = Augment(flip=0.0, shift_voxels=0, gain=0.0, noise=0.05)
    added = augment(grey, scale=1.0, seed=0, epoch=0, batch=0) - 0.5
    spread = added.flatten(1).std(dim=1)
    assert (added.flatten(1).mean(dim=1).abs() < 0.005).all()
    assert (spread <= 0.05 * 1.05).all()
    assert len(set(spread.tolist())) == 6
    normal = (added / spread.view(-1, 1, 1, 1, 1)).flatten(1).numpy()
    assert np.abs(np.corrcoef(normal) - np.eye(6)).max() < 0.1


def test_the_stored_volumes_are_not_changed() -> None:
    stored = volumes("float32")
    before = stored.clone()
    ALL(stored, scale=1.0, seed=0, epoch=0, batch=0)
    assert torch.equal(stored, before)


def test_parts_of_a_batch_are_seen_as_in_the_whole_batch() -> None:
    augment = Augment(flip=0.5, shift_voxels=2, gain=0.2, noise=0.1)
    voxels = torch.randint(256, (7, 1, 6, 5, 4), dtype=torch.uint8)
    whole = augment(voxels, scale=1 / 255, seed=3, epoch=4, batch=5)
    draws = augment.draw(7, voxels[0].numel(), seed=3, epoch=4, batch=5)
    parts = [draws.views(voxels[start:stop], scale=1 / 255, first=start) for start, stop in ((0, 3), (3, 4), (4, 7))]
    assert torch.equal(torch.cat(parts), whole)
