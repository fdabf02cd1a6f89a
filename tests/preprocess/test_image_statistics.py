"""Image statistics against brute force, mirror images, and a cohort of made-up heads."""

import time

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from preprocess.image_statistics import ImageReferences, image_statistics, looks_groups
from tests.support.looks import head

SHAPE = (24, 24, 24)


def references(num_axes: int = 3, seed: int = 0) -> ImageReferences:
    draws = np.random.default_rng(seed)
    axes_KF = np.linalg.qr(draws.normal(size=(1728, num_axes)))[0].T
    looks = draws.normal(size=(30, 30)) * 0.1
    precision_SS = np.zeros((30, 30))
    for group in looks_groups().values():
        precision_SS[group, group] = (looks @ looks.T + np.eye(30))[group, group]
    spread_KK = draws.normal(size=(num_axes, num_axes))
    return ImageReferences(
        image_mean_DHW=draws.random((12, 12, 12)),
        image_axes_KF=axes_KF,
        image_sd_K=draws.uniform(0.5, 2.0, num_axes),
        visit_precision_KK=spread_KK @ spread_KK.T + np.eye(num_axes),
        looks_mean_S=draws.normal(size=30),
        looks_precision_SS=precision_SS,
        scanner_precision_SS=np.diag(np.arange(30.0)),
    )


def test_coarse_brightness_is_the_mean_of_blocks():
    volume = np.random.default_rng(1).random((1, *SHAPE), dtype=np.float32)

    found = image_statistics(volume)

    np.testing.assert_allclose(found.coarse_DHW, volume[0].reshape(12, 2, 12, 2, 12, 2).mean((1, 3, 5)), atol=1e-6)


def test_a_voxel_that_two_blocks_share_counts_for_each_in_part():
    volume = np.zeros((1, 18, 18, 18), np.float32)
    volume[0, 1] = 1.0

    coarse = image_statistics(volume).coarse_DHW

    # Blocks of 1.5 voxels: the second voxel lies half in the first block and half in the second.
    np.testing.assert_allclose(coarse[:, 0, 0], [1 / 3, 1 / 3] + [0] * 10, atol=1e-6)


def test_blur_thick_slices_and_salt_are_seen_in_detail():
    sharp = np.random.default_rng(2).random((1, 48, 48, 48), dtype=np.float32)
    smooth = sharp.copy()
    smooth[..., 1:] = (sharp[..., 1:] + sharp[..., :-1]) / 2
    group = looks_groups()["detail"]

    first, second = image_statistics(sharp).looks_S[group], image_statistics(smooth).looks_S[group]

    # White noise of variance s: differences over one and two voxels have variance 2 s, second differences 6 s.
    np.testing.assert_allclose(first[:9], [np.log(2 / 12), 0, np.log(3)] * 3, atol=0.03)
    # Averaged over two neighbours along the last axis: s / 2 over one voxel, s over two.
    np.testing.assert_allclose(second[7], np.log(2), atol=0.03)
    assert first[10] > second[10]


def test_the_statistics_of_a_mirror_image_are_those_that_mirroring_them_gives():
    volume = head(3, visit=1)

    mirrored, found = image_statistics(volume).mirrored(), image_statistics(volume[:, ::-1])

    np.testing.assert_allclose(mirrored.coarse_DHW, found.coarse_DHW, atol=1e-6)
    np.testing.assert_allclose(mirrored.looks_S, found.looks_S, atol=2e-5)
    assert not np.allclose(image_statistics(volume).coarse_DHW, found.coarse_DHW, atol=1e-3)


def test_distances_within_and_from_the_model_are_those_of_brute_force():
    known, found = references(), image_statistics(head(1))
    offset = (found.coarse_DHW - known.image_mean_DHW).ravel()
    along = known.image_axes_KF @ offset
    left = offset - sum(value * axis for value, axis in zip(along, known.image_axes_KF, strict=True))

    distances = known.distances(found)

    assert distances["layout"] == pytest.approx(np.linalg.norm(along / known.image_sd_K))
    assert distances["residual"] == pytest.approx(np.sqrt(np.mean(left**2)))
    for name in ("extent", "brightness", "detail"):
        group = looks_groups()[name]
        expected = mahalanobis(found.looks_S[group], known.looks_mean_S[group], known.looks_precision_SS[group, group])
        assert distances[name] == pytest.approx(expected), name


def test_contrast_counts_bright_tissue_that_lies_too_far_out_and_not_too_deep():
    known, (where,) = references(), [looks_groups()["contrast"]]
    volume = head(1)
    found = image_statistics(volume)
    mean = known.looks_mean_S.copy()

    for offset, is_far in ((-1.0, True), (1.0, False)):
        mean[where] = found.looks_S[where] + offset
        moved = ImageReferences.of({**vars_of(known), "looks_mean_S": mean})
        assert (moved.distances(found)["contrast"] > 0) is is_far


def vars_of(known: ImageReferences) -> dict[str, np.ndarray]:
    return {name: getattr(known, name) for name in ImageReferences.__slots__}


def test_identity_is_symmetric_and_0_for_one_scan_and_its_mirror_image():
    known = references()
    first, second = image_statistics(head(1)), image_statistics(head(2))

    assert known.identity(first, second) > 0
    assert known.identity(first, first) == known.identity(first, first.mirrored()) == 0


def test_two_scanners_differ_by_the_weighted_difference_of_the_numbers():
    known = references()
    first, second = image_statistics(head(1)), image_statistics(head(2))

    expected = np.sqrt(
        sum(weight * (a - b) ** 2 for weight, (a, b) in enumerate(zip(first.looks_S, second.looks_S, strict=True)))
    )

    assert known.scanner(first, second) == known.scanner(second, first) == pytest.approx(expected)
    assert known.scanner(first, first) == 0


def test_arrays_that_do_not_fit_each_other_are_refused():
    arrays = vars_of(references())

    with pytest.raises(ValueError, match=r"visit_precision_KK has shape \(2, 2\), expected \(3, 3\)"):
        ImageReferences.of({**arrays, "visit_precision_KK": np.eye(2)})
    with pytest.raises(KeyError, match="image_sd_K"):
        ImageReferences.of({name: array for name, array in arrays.items() if name != "image_sd_K"})


def test_an_empty_and_a_flat_volume_have_finite_statistics():
    for value in (0.0, 1.0):
        found = image_statistics(np.full((1, *SHAPE), value, np.float32))
        assert np.isfinite(found.looks_S).all()
        assert np.isfinite(found.coarse_DHW).all()


def test_a_volume_of_96_voxels_is_described_in_about_30_ms():
    volume = np.random.default_rng(0).random((1, 96, 96, 96), dtype=np.float32)
    image_statistics(volume)
    taken = []
    for _ in range(5):
        started = time.process_time()
        image_statistics(volume)
        taken.append(time.process_time() - started)

    # Processor time of the fastest of five, with room for slow machines.
    assert min(taken) < 0.12
