"""Tissue fit: means, shading and order against simulated heads whose truth is known, scikit-learn, and real scans."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.mixture import GaussianMixture

from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.tissue import STORED_MEANS, contrast_findings, fit_tissue, shading, to_tissue_brightness
from preprocess.transforms import to_volume
from preprocess.types import FloatArray, TissueFit
from preprocess.volumes import prepare_volume
from tests.support.images import gz, head_file, nifti

T1W = (0.3, 0.7, 1.0)
T2W = (1.0, 0.5, 0.35)
FLAIR = (0.25, 0.95, 0.85)
SPACING_MM = 3.0
SHAPE = (64, 64, 64)


def labels(seed: int = 0) -> np.ndarray:
    """CSF, grey and white matter (0, 1, 2) as folded sheets around a white core with ventricles; -1 is outside."""
    axis_mm = (np.arange(64) - 31.5) * SPACING_MM
    x, y, z = np.meshgrid(axis_mm, axis_mm, axis_mm, indexing="ij")
    radius = np.sqrt((x / 68) ** 2 + (y / 82) ** 2 + (z / 68) ** 2)
    folds = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    depth = 1 - radius + 0.14 * folds / folds.std()  # 0 at the brain's surface, 1 in its middle
    tissue = np.select([depth > 0.38, depth > 0.08], [2, 1], 0)
    ventricle = (np.abs(x) - 12) ** 2 / 9**2 + y**2 / 35**2 + (z - 8) ** 2 / 12**2 < 1
    return np.where(radius > 1.05, -1, np.where(ventricle, 0, tissue))


LABELS = labels()


def simulated(means: tuple[float, ...] = T1W, *, noise: float = 0.02, shade: float = 0.0, seed: int = 0) -> FloatArray:
    """The head in the given grey values, its shading of second order about `shade` at the edge, with noise."""
    grey = np.select([index == LABELS for index in range(3)], means, 0.0)
    clean = grey * np.exp(true_log_shading(shade))
    return np.abs(clean + np.random.default_rng(seed).normal(0, noise, SHAPE)).astype(np.float32)


def true_log_shading(shade: float) -> np.ndarray:
    axis = np.linspace(-1, 1, 64)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.log1p(shade) * (0.9 * x - 0.6 * y + 0.5 * z - 0.8 * x * x + 0.7 * y * y - 0.4 * x * z + 0.5 * y * z)


def fitted(values_DHW: FloatArray) -> TissueFit:
    fit = fit_tissue(values_DHW, SPACING_MM)
    assert fit is not None
    return fit


def codes(values_DHW: FloatArray) -> list[str]:
    return [finding.code for finding in contrast_findings(fit_tissue(values_DHW, SPACING_MM), name="x")]


@pytest.mark.parametrize("means", [T1W, (0.25, 0.6, 1.0), (0.35, 0.78, 1.0)])
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_means_and_shares_of_a_simulated_head_are_found(means: tuple[float, ...], noise: float) -> None:
    fit = fitted(simulated(means, noise=noise))
    assert contrast_findings(fit, name="x") == []
    np.testing.assert_allclose(fit.means, means, rtol=0.05)
    inside = ellipsoid() & (LABELS >= 0)
    truth = [np.mean(LABELS[inside] == tissue) for tissue in range(3)]
    np.testing.assert_allclose(fit.fractions, truth, atol=0.05)
    assert fit.bias < 1.05


def ellipsoid() -> np.ndarray:
    axis_mm = (np.arange(64) - 31.5) * SPACING_MM
    x, y, z = np.meshgrid(axis_mm, axis_mm, axis_mm, indexing="ij")
    found: np.ndarray = (x / 58) ** 2 + ((y + 4) / 72) ** 2 + ((z - 8) / 50) ** 2 <= 1
    return found


@pytest.mark.parametrize("means", [T1W, (0.35, 0.78, 1.0)])
def test_without_shading_the_means_are_those_of_scikit_learn(means: tuple[float, ...]) -> None:
    values = simulated(means, noise=0.03)
    mixture = GaussianMixture(3, means_init=np.array(means)[:, None], covariance_type="tied", tol=1e-6, max_iter=500)
    mixture.fit(values[ellipsoid() & (LABELS >= 0)][:, None])
    np.testing.assert_allclose(fitted(values).means, np.sort(mixture.means_.ravel()), rtol=0.02)


@pytest.mark.parametrize("shade", [0.2, -0.2])
def test_nine_tenths_of_a_shading_of_second_order_are_removed(shade: float) -> None:
    values = simulated(shade=shade)
    fit = fitted(values)
    inside = ellipsoid()
    left = np.log(shading(fit, SHAPE, SPACING_MM)) - true_log_shading(shade)
    assert left[inside].std() < 0.1 * true_log_shading(shade)[inside].std()
    assert fit.bias == pytest.approx(np.exp(np.ptp(np.percentile(true_log_shading(shade)[inside], (5, 95)))), rel=0.03)
    white = to_tissue_brightness(values, fit, SPACING_MM)[inside & (LABELS == 2)]
    assert (
        white.std() / white.mean() < 0.5 * values[inside & (LABELS == 2)].std() / values[inside & (LABELS == 2)].mean()
    )


def test_the_tissues_lie_at_their_fixed_values_and_black_at_0() -> None:
    values = simulated(shade=0.2)
    brightness = to_tissue_brightness(values, fitted(values), SPACING_MM)
    inside = ellipsoid()
    found = [np.median(brightness[inside & (tissue == LABELS)]) for tissue in range(3)]
    np.testing.assert_allclose(found, STORED_MEANS, atol=0.03)
    assert to_tissue_brightness(np.zeros(SHAPE, np.float32), fitted(values), SPACING_MM).max() == 0
    fat = to_tissue_brightness(values * 1.5, fitted(values), SPACING_MM)[inside & (LABELS == 2)]
    assert fat.max() == 1
    assert np.median(fat) > 0.95


def test_outside_the_fitted_region_the_shading_stays_within_what_it_is_at_its_edge() -> None:
    values = simulated(shade=0.2)
    factor = shading(fitted(values), SHAPE, SPACING_MM)
    rim = ellipsoid()
    assert factor.max() < factor[rim].max() * 1.02
    assert factor.min() > factor[rim].min() * 0.98


@pytest.mark.parametrize("gain", [1e-6, 0.37, 3.0, 4096.0])
def test_gain_does_not_matter(gain: float) -> None:
    values = simulated(shade=0.1)
    louder = values * np.float32(gain)
    np.testing.assert_allclose(np.array(fitted(louder).means) / gain, fitted(values).means, rtol=1e-4)
    first, second = (np.rint(255 * to_tissue_brightness(v, fitted(v), SPACING_MM)) for v in (values, louder))
    assert np.abs(first - second).max() <= 1
    assert np.mean(first != second) < 0.001


def test_another_noise_moves_the_means_by_less_than_one_grey_level_of_255() -> None:
    first, second = (np.array(fitted(simulated(noise=0.03, seed=seed)).means) for seed in (1, 2))
    assert np.abs(first - second).max() < 1 / 255


def test_slices_that_are_missing_at_the_top_move_the_means_by_less_than_one_per_cent() -> None:
    whole, cut = simulated(shade=0.1), simulated(shade=0.1)
    cut[:, :, 44:] = 0
    np.testing.assert_allclose(fitted(cut).means[1:], fitted(whole).means[1:], rtol=0.01)


@pytest.mark.parametrize("means", [T2W, FLAIR])
def test_a_contrast_that_is_not_that_of_t1w_is_told(means: tuple[float, ...]) -> None:
    assert codes(simulated(means)) == ["not_t1_like"]


def test_a_head_in_negative_is_told() -> None:
    values = simulated()
    assert codes(np.where(values > 0.15, 1.4 - values, values).astype(np.float32)) == ["not_t1_like"]


def test_one_tissue_is_not_three() -> None:
    assert codes(simulated((0.8, 0.8, 0.8))) != []
    assert codes(simulated((0.3, 0.97, 1.0), noise=0.05)) != []
    assert codes(np.zeros(SHAPE, np.float32)) == ["no_three_tissues"]
    assert codes(np.full(SHAPE, 5.0, np.float32)) != []


def test_shares_that_no_head_has_are_told() -> None:
    plausible = fitted(simulated())
    for fractions, code in (
        ((0.5, 0.25, 0.25), "tissue_shares"),
        ((0.001, 0.4, 0.599), "tissue_shares"),
        ((0.02, 0.21, 0.77), "tissue_shares"),
        ((0.1, 0.1, 0.8), "no_three_tissues"),
        ((0.05, 0.8, 0.15), "not_t1_like"),
    ):
        found = contrast_findings(replace(plausible, fractions=fractions), name="sub-01")
        assert [(finding.code, finding.leaves_out) for finding in found] == [(code, False)]
        assert found[0].message.startswith("sub-01: ")


def test_a_fit_that_fails_leaves_the_brightness_of_percentiles_and_a_finding() -> None:
    recipe = VolumeRecipe(grid=(48, 48, 48), spacing_mm=4.0)
    by_percentile = prepare_volume(head_file(), recipe, name="x")
    prepared = prepare_volume(head_file(), recipe.model_copy(update={"intensity": "tissue"}), name="x")
    assert {finding.code for finding in prepared.findings} & {"no_three_tissues", "not_t1_like", "tissue_shares"}
    assert prepared.values is not None
    np.testing.assert_array_equal(prepared.values, by_percentile.values)
    assert by_percentile.tissue is None
    assert by_percentile.findings == ()


def test_the_recipe_gives_a_volume_with_its_fit() -> None:
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    data = gz(nifti((simulated(shade=0.15) * 1000).astype(np.int16), affine))
    recipe = VolumeRecipe(grid=(64, 64, 64), spacing_mm=3.0, intensity="tissue", field_of_view="head")
    prepared = prepare_volume(data, recipe, name="x")
    assert prepared.tissue is not None
    assert contrast_findings(prepared.tissue, name="x") == []
    assert prepared.values is not None
    counts = np.bincount(prepared.values[prepared.values > 30].ravel(), minlength=256)
    assert abs(int(counts[180:230].argmax()) + 180 - 255 * STORED_MEANS[2]) <= 4
    assert abs(int(counts[120:160].argmax()) + 120 - 255 * STORED_MEANS[1]) <= 6


def t1w_scans(folder: Path) -> list[Path]:
    return sorted([*folder.glob("mri_age/*.nii.gz"), *folder.glob("mri_longitudinal/*/*/anat/*_T1w.nii.gz")])


TISSUE = VolumeRecipe(grid=(48, 48, 48), spacing_mm=4.0, intensity="tissue")


@pytest.mark.real_data
def test_real_t1w_scans_have_three_tissues_in_the_usual_order(real_data: Path) -> None:
    scans = t1w_scans(real_data)
    assert len(scans) == 8
    for path in scans:
        prepared = prepare_volume(path.read_bytes(), TISSUE, name=path.name)
        assert prepared.tissue is not None
        assert prepared.findings == ()
        csf, grey, white = prepared.tissue.means
        # What inversion-recovery gradient echo and spin echo give with the relaxation times at 1.5 and 3 T.
        assert 0.2 < csf / white < 0.55
        assert 0.6 < grey / white < 0.9


@pytest.mark.real_data
def test_real_flair_and_t2w_scans_are_told_from_t1w(real_data: Path) -> None:
    paths = sorted(p for p in real_data.glob("mri_longitudinal/*/*/anat/*.nii.gz") if "T1w" not in p.name)
    assert len(paths) == 8
    for path in paths:
        data = path.read_bytes()
        prepared = prepare_volume(data, TISSUE, name=path.name)
        assert {finding.code for finding in prepared.findings} & {"not_t1_like", "no_three_tissues"}
        # The stored volume of percentiles says the same: whoever has no other recipe can ask it.
        stored = prepare_volume(data, TISSUE.model_copy(update={"intensity": "percentile"}), name=path.name).values
        assert stored is not None
        assert contrast_findings(fit_tissue(stored[0].astype(np.float32), 4.0), name=path.name) != []


@pytest.mark.real_data
def test_the_las_and_the_ras_file_of_one_head_give_the_same_volume(real_data: Path) -> None:
    first, second = (
        to_volume(read_nifti((real_data / "mni" / name).read_bytes(), name=name), TISSUE, name=name)
        for name in ("mni152_t1_2mm_LAS.nii.gz", "mni152_t1_2mm_RAS.nii.gz")
    )
    assert first.findings == ()
    assert first.tissue == second.tissue
    np.testing.assert_array_equal(first.voxels_CDHW, second.voxels_CDHW)
