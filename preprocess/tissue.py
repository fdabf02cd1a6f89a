"""Brightness by tissue: the grey values of CSF, grey and white matter of a T1w head, and the coil's shading.

Fitted without labels to voxels in the middle of the head, in turns: three Gaussians with one standard deviation to the
histogram of the grey values, and a polynomial of second order to the logarithm of each voxel over the mean that its
grey value makes likely (as Wells et al. 1996, there with fixed means). For the polynomial a voxel counts less the
steeper the grey value changes around it, since a voxel that two tissues share says nothing about the shading. A last
fit to all voxels has mixtures of neighbouring tissues beside the pure ones (Santago and Gage 1993), because at 2 mm
more voxels of the cortex are shared than pure; without it the mean of CSF follows how much of it a head has.

All sums are over histograms and small matrices, in a fixed number of steps: equal voxels give equal results.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.types import Finding, FloatArray, TissueFit

_Numbers = npt.NDArray[np.float64]

STORED_MEANS = (0.25, 0.58, 0.80)
"""Where the means of CSF, grey and white matter lie in a stored volume of `intensity = "tissue"`.

They keep the distances that the three have in T1w scans, so that no contrast is stretched much. Black is 0. Between the
four values brightness is linear; above white matter it rises at the mean slope from CSF to white matter and ends at 1,
so that fat and vessels, which are brighter, stay apart from white matter.
"""
_HALF_AXES_MM, _MIDDLE_MM = np.array([58.0, 72.0, 50.0]), np.array([0.0, -4.0, 8.0])
"""The fitted region, right, anterior and superior of the box's middle: nearly all brain, above the skull's base."""
_NUM_SAMPLES, _FEWEST_SAMPLES = 25_000, 2_500
"""Voxels that are looked at, and how few say nothing: 8 mm voxels are too large for the cortex."""
_DARK, _BRIGHT = 0.1, 2.5
"""Limits of what is fitted, in medians: air of the sinuses below, fat and contrast medium above."""
_NUM_BINS, _TOP = 256, 2.5
_FLAT = 0.1
"""Change from voxel to voxel, as a share of the grey value, at which a voxel counts half for the shading."""
_FIELD_ROUNDS, _FIRST_STEPS, _NEXT_STEPS, _LAST_STEPS = 7, 40, 12, 60
_EXPONENTS = [(i, j, k) for i in range(3) for j in range(3) for k in range(3) if 0 < i + j + k <= 2]
_SD, _PRIOR = 0.06, 0.02
"""Prior of the standard deviation, in medians; and its weight, as a share of the voxels, with that of the shares."""
_STRANGERS = 0.02
"""Share of voxels that are none of the tissues, with a uniform density; fixed, or it takes the CSF of young heads."""
_SHARES_OF_MIX = np.arange(1, 6) / 6
_MIXES = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    + [[1 - share, share, 0] for share in _SHARES_OF_MIX]
    + [[0, 1 - share, share] for share in _SHARES_OF_MIX]
)
"""How much of each tissue a component holds: three pure ones, then mixtures of neighbours in equal steps."""
_GROUP = np.array([0, 1, 2, *[3] * 5, *[4] * 5])
_EXPECTED_SHARES = np.array([0.06, 0.25, 0.40, 0.12, 0.17])
_PURE_SHARES = np.array([0.12, 0.45, 0.43])
_USUAL_CSF, _USUAL_GREY, _CSF_PRIOR, _GREY_PRIOR = 0.3, 0.73, 0.003, 0.01
"""Means in T1w as shares of white matter's, and weights of that expectation as shares of the voxels. Where hardly a
voxel is pure, several means of grey matter are nearly as likely; without it they change from scan to scan."""
_GREY_STARTS = (0.6, 0.7, 0.8)
_LEAST_CONTRAST, _LEAST_DEPTH, _LEAST_CSF, _MOST_GAP = 2.5, -0.005, 0.03, 4.0
_LEAST_SHARES, _MOST_SHARES = (0.01, 0.2, 0.2), (0.4, 0.65, 0.75)
"""Limits from docs/adr/0020-tissue-brightness.md."""


def fit_tissue(values_DHW: FloatArray, spacing_mm: npt.ArrayLike) -> TissueFit | None:
    """Fit three tissues and a shading to a head that lies in the middle of its box.

        fit = fit_tissue(values_DHW, 2.0)
        findings = contrast_findings(fit, name="sub-01")
        brightness_DHW = to_tissue_brightness(values_DHW, fit, 2.0)

    Args:
        values_DHW: grey values in any unit, black at 0, axes RAS+, the skull's vault in the middle (`find_head`).
        spacing_mm: edges of a voxel, one number or three.

    Returns:
        The fit, which may be implausible: see `contrast_findings`. None where too few voxels hold anything.
    """
    flat_indices, points_P3 = _region(values_DHW.shape, spacing_mm)
    grey_P, slope_P = _with_slopes(values_DHW, flat_indices)
    if np.count_nonzero(grey_P > 0) < _FEWEST_SAMPLES:
        return None
    median = float(np.median(grey_P[grey_P > 0]))
    kept_P = (grey_P > _DARK * median) & (grey_P < _BRIGHT * median)
    if np.count_nonzero(kept_P) < _FEWEST_SAMPLES:
        return None
    log_P = np.log(grey_P[kept_P] / median)
    flatness_P = 1 / (1 + (slope_P[kept_P] / (_FLAT * grey_P[kept_P])) ** 2)
    points_P3 = points_P3[kept_P]
    field, white, sd = _fit_field(log_P, flatness_P, points_P3)
    basis_PK = _basis(points_P3)
    log_field_P = basis_PK @ field
    field[0] -= log_field_P.mean()
    log_field_P -= log_field_P.mean()
    unshaded_P = np.exp(log_P - log_field_P)
    means, shares_G, sd, tissue_B = _fit_mixed(_histogram(unshaded_P, np.ones(len(unshaded_P))), white, sd)
    radius_P = np.sqrt((points_P3**2).sum(axis=1))
    belongs_3P = [np.interp(unshaded_P, _BINS, share_B) for share_B in tissue_B]
    _, grey_radius, white_radius = (float(belongs_P @ radius_P / (belongs_P.sum() + 1e-9)) for belongs_P in belongs_3P)
    low, high = np.percentile(log_field_P, (5, 95))
    return TissueFit(
        means=_rounded(means * median),
        fractions=_rounded(shares_G / shares_G.sum()),
        contrast=_rounded([(means[2] - means[1]) / sd])[0],
        bias=_rounded([np.exp(high - low)])[0],
        depth=_rounded([grey_radius - white_radius])[0],
        field=_rounded(field),
    )


def contrast_findings(fit: TissueFit | None, *, name: str) -> list[Finding]:
    """Why a fit is none of a T1w head; empty where it is plausible. None of them leaves a scan out.

    Args:
        fit: from `fit_tissue`.
        name: what messages call the scan.

    Returns:
        At most one finding: the order of the grey values is not that of T1w (`not_t1_like`), or three tissues do not
        stand apart (`no_three_tissues`), or their shares are those of no head (`tissue_shares`).
    """
    if fit is None:
        message = f"{name}: fewer than {_FEWEST_SAMPLES:,} voxels in the middle of the head hold anything; see the scan"
        return [Finding("no_three_tissues", message, leaves_out=False)]
    csf, grey, white = fit.means
    is_rising = _LEAST_CSF * white < csf < grey < white
    is_faint = fit.contrast < _LEAST_CONTRAST or (grey - csf) > _MOST_GAP * (white - grey)
    if fit.depth < _LEAST_DEPTH or fit.fractions[1] > _MOST_SHARES[1]:
        message = (
            f"{name}: grey levels are not those of a T1w head, as white matter is not the brightest tissue (depth "
            f"{fit.depth:.3f}, {fit.fractions[1]:.0%} of middle brightness); check whether this is T2w or FLAIR"
        )
        return [Finding("not_t1_like", message, leaves_out=False)]
    if not is_rising or is_faint or fit.fractions[1] < _LEAST_SHARES[1]:
        message = (
            f"{name}: CSF, grey and white matter do not stand apart: means {csf:.3g}, {grey:.3g} and {white:.3g}, the "
            f"latter two {fit.contrast:.1f} standard deviations apart, {fit.fractions[1]:.0%} grey matter; see the scan"
        )
        return [Finding("no_three_tissues", message, leaves_out=False)]
    limits = zip(("CSF", "grey matter", "white matter"), fit.fractions, _LEAST_SHARES, _MOST_SHARES, strict=True)
    for tissue, share, least, most in limits:
        if not least <= share <= most:
            message = (
                f"{name}: {share:.0%} of the middle of the head look like {tissue}, {least:.0%} to {most:.0%} are "
                "usual; see the scan"
            )
            return [Finding("tissue_shares", message, leaves_out=False)]
    return []


def to_tissue_brightness(values_DHW: FloatArray, fit: TissueFit, spacing_mm: npt.ArrayLike) -> FloatArray:
    """Remove the shading and put the tissues at `STORED_MEANS`.

    Args:
        values_DHW: grey values in the unit that was fitted.
        fit: a plausible one, with rising means.
        spacing_mm: edges of a voxel, one number or three.

    Returns:
        Brightness in [0, 1], float32.
    """
    csf, _, white = fit.means
    top = white + (1 - STORED_MEANS[2]) * (white - csf) / (STORED_MEANS[2] - STORED_MEANS[0])
    unshaded_DHW = values_DHW / shading(fit, values_DHW.shape, spacing_mm)
    brightness_DHW: FloatArray = np.interp(unshaded_DHW, (0.0, *fit.means, top), (0.0, *STORED_MEANS, 1.0)).astype(
        np.float32
    )
    return brightness_DHW


def shading(fit: TissueFit, shape: Sequence[int], spacing_mm: npt.ArrayLike) -> FloatArray:
    """The factor by which each voxel is too bright, float32 (D, H, W).

    Outside the fitted region it stays what it is at the region's edge in that direction: a polynomial would leave all
    bounds there.
    """
    right, anterior, superior = (axis.astype(np.float32) for axis in _axes(shape, spacing_mm))
    x, y, z = right[:, None, None], anterior[:, None], superior
    inward_DHW = 1 / np.sqrt(np.maximum(x * x + y * y + z * z, np.float32(1)))
    constant, *rest = (np.float32(value) for value in fit.field)
    of = dict(zip(_EXPONENTS, rest, strict=True))
    # A polynomial of x alone, of x and y, of x and z: few operations on the whole volume.
    linear_DHW = of[1, 0, 0] * x + of[0, 1, 0] * y + of[0, 0, 1] * z
    square_DHW = (of[2, 0, 0] * x * x + (of[1, 1, 0] * x + of[0, 2, 0] * y) * y) + (
        (of[1, 0, 1] * x + of[0, 0, 2] * z) * z + of[0, 1, 1] * y * z
    )
    square_DHW *= inward_DHW
    square_DHW += linear_DHW
    square_DHW *= inward_DHW
    square_DHW += constant
    return np.exp(square_DHW, out=square_DHW)


def _axes(shape: Sequence[int], spacing_mm: npt.ArrayLike) -> list[_Numbers]:
    """Coordinates along each axis, in half axes of the fitted region from its middle."""
    edges_mm = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
    return [
        ((np.arange(count) - (count - 1) / 2) * edge - middle) / half
        for count, edge, middle, half in zip(shape, edges_mm, _MIDDLE_MM, _HALF_AXES_MM, strict=True)
    ]


def _region(shape: Sequence[int], spacing_mm: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], _Numbers]:
    """Flat indices (P,) of the voxels that are looked at, and their points (P, 3), the voxels of the rim left out."""
    axes = _axes(shape, spacing_mm)
    inner = [np.flatnonzero(np.abs(axis[1:-1]) <= 1) + 1 for axis in axes]
    squares = [axis[indices] ** 2 for axis, indices in zip(axes, inner, strict=True)]
    places = np.argwhere(squares[0][:, None, None] + squares[1][:, None] + squares[2] <= 1)
    step = max(1, len(places) // _NUM_SAMPLES)
    places = places[step // 2 :: step]
    indices = [inner[axis][places[:, axis]] for axis in range(3)]
    points_P3 = np.stack([axes[axis][indices[axis]] for axis in range(3)], axis=1)
    return np.ravel_multi_index(indices, tuple(shape)), points_P3


def _with_slopes(values_DHW: FloatArray, flat_indices: npt.NDArray[np.intp]) -> tuple[_Numbers, _Numbers]:
    """Grey values (P,) and how much they change from voxel to voxel (P,)."""
    flat = np.ascontiguousarray(values_DHW).ravel()
    _, height, depth = values_DHW.shape
    squared_P = np.zeros(len(flat_indices))
    for step in (height * depth, depth, 1):
        squared_P += (flat[flat_indices + step].astype(np.float64) - flat[flat_indices - step]) ** 2 / 4
    return flat[flat_indices].astype(np.float64), np.sqrt(squared_P)


_BINS = np.linspace(0.0, _TOP, _NUM_BINS + 1)


def _histogram(grey_P: _Numbers, weight_P: _Numbers) -> _Numbers:
    """Weights by bin, each voxel shared by the two nearest: a little more gain moves no voxel by a whole bin."""
    place_P = np.clip(grey_P * (_NUM_BINS / _TOP), 0, _NUM_BINS - 1e-6)
    bin_P = place_P.astype(np.intp)
    share_P = place_P - bin_P
    lower_B = np.bincount(bin_P, (1 - share_P) * weight_P, _NUM_BINS + 1)
    upper_B = np.bincount(bin_P + 1, share_P * weight_P, _NUM_BINS + 1)
    return np.asarray(lower_B + upper_B, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Mixed:
    means: _Numbers
    sd: float
    share_KB: _Numbers
    likelihood: float


def _densities(means_K: _Numbers, shares_K: _Numbers, sd: float) -> tuple[_Numbers, _Numbers]:
    """Share of each component in a bin (K, B), and the density of all in it (B,)."""
    each_KB = (shares_K / (sd * np.sqrt(2 * np.pi)))[:, None] * np.exp(-0.5 * ((_BINS - means_K[:, None]) / sd) ** 2)
    all_B = each_KB.sum(axis=0) + _STRANGERS / _TOP
    return each_KB / all_B, all_B


def _basis(points_P3: _Numbers) -> _Numbers:
    x_P, y_P, z_P = points_P3.T
    return np.stack([np.ones(len(x_P)), *(x_P**i * y_P**j * z_P**k for i, j, k in _EXPONENTS)], axis=1)


def _fit_field(log_P: _Numbers, flatness_P: _Numbers, points_P3: _Numbers) -> tuple[_Numbers, float, float]:
    """Coefficients of the shading's logarithm, the mean of white matter, and the standard deviation of flat voxels."""
    basis_PK = _basis(points_P3)
    field = np.zeros(basis_PK.shape[1])
    means, shares, sd = np.percentile(np.exp(log_P), (5, 35, 75)), (1 - _STRANGERS) * _PURE_SHARES, 0.1
    for number in range(_FIELD_ROUNDS):
        unshaded_P = np.exp(log_P - basis_PK @ field)
        counts_B = _histogram(unshaded_P, flatness_P)
        weight = _PRIOR * counts_B.sum()
        for _ in range(_NEXT_STEPS if number else _FIRST_STEPS):
            share_3B, _ = _densities(means, shares, sd)
            owned_3B = share_3B * counts_B
            owned_3 = owned_3B.sum(axis=1)
            means = (owned_3B @ _BINS + weight * 1e-3 * means) / (owned_3 + weight * 1e-3)
            spread = (owned_3B * (_BINS - means[:, None]) ** 2).sum()
            sd = float(np.sqrt((spread + weight * _SD**2) / (owned_3.sum() + weight)))
            shares = owned_3 + weight * _PURE_SHARES
            shares *= (1 - _STRANGERS) / shares.sum()
        # In logarithms a class is narrower the brighter it is: its precision is (mean / sd)^2.
        precision_3B = share_3B * (means[:, None] / sd) ** 2
        precision_B = precision_3B.sum(axis=0) + 1e-9
        expected_B = (precision_3B * np.log(np.maximum(means, 1e-3))[:, None]).sum(axis=0) / precision_B
        weight_P = flatness_P * np.interp(unshaded_P, _BINS, precision_B)
        weighted_PK = basis_PK * weight_P[:, None]
        # einsum, not BLAS: its sums do not depend on the number of threads.
        normal_KK = np.einsum("pk,pl->kl", weighted_PK, basis_PK)
        normal_KK[np.diag_indices_from(normal_KK)] += 1e-4 * normal_KK[0, 0]
        right_K = np.einsum("pk,p->k", weighted_PK, log_P - np.interp(unshaded_P, _BINS, expected_B))
        field = np.linalg.solve(normal_KK, right_K)
        field[0] -= (basis_PK @ field).mean()
    return field, float(means[2]), sd


def _fit_mixed(counts_B: _Numbers, white: float, sd: float) -> tuple[_Numbers, _Numbers, float, _Numbers]:
    """Means (3,), amounts (3,), standard deviation, and share of each tissue in a bin (3, B): the likeliest fit."""
    fits = [_climb(counts_B, white * np.array([_USUAL_CSF, grey, 1.0]), sd) for grey in _GREY_STARTS]
    likeliest = max(fits, key=lambda fit: fit.likelihood)
    owned_KB = likeliest.share_KB * counts_B
    amounts = np.einsum("ki,k->i", _MIXES, owned_KB.sum(axis=1))
    return likeliest.means, amounts, likeliest.sd, np.einsum("ki,kb->ib", _MIXES, likeliest.share_KB)


def _climb(counts_B: _Numbers, means: _Numbers, sd: float) -> _Mixed:
    """Expectation and maximisation from one start, maximum a posteriori."""
    shares = (1 - _STRANGERS) * _EXPECTED_SHARES
    split_K = np.where(_GROUP < 3, 1.0, 1 / len(_SHARES_OF_MIX))
    total = counts_B.sum()
    weight = _PRIOR * total
    # Rows that are 0 where CSF and grey matter have their usual share of white matter.
    unusual_23 = np.array([[1.0, 0.0, -_USUAL_CSF], [0.0, 1.0, -_USUAL_GREY]])
    prior_2 = total * np.array([_CSF_PRIOR, _GREY_PRIOR])
    for _ in range(_LAST_STEPS):
        share_KB, all_B = _densities(_MIXES @ means, shares[_GROUP] * split_K, sd)
        owned_KB = share_KB * counts_B
        owned_K = owned_KB.sum(axis=1)
        normal_33 = np.einsum("k,ki,kj->ij", owned_K, _MIXES, _MIXES) + 1e-6 * total * np.eye(3)
        normal_33 += np.einsum("r,ri,rj->ij", prior_2, unusual_23, unusual_23)
        means = np.linalg.solve(normal_33, np.einsum("ki,k->i", _MIXES, owned_KB @ _BINS) + 1e-6 * total * means)
        spread = (owned_KB * (_BINS - (_MIXES @ means)[:, None]) ** 2).sum()
        sd = float(np.sqrt((spread + weight * _SD**2) / (owned_K.sum() + weight)))
        shares = np.bincount(_GROUP, owned_K) + weight * _EXPECTED_SHARES
        shares *= (1 - _STRANGERS) / shares.sum()
    prior = weight * (_EXPECTED_SHARES @ np.log(shares) - np.log(sd) - (_SD / sd) ** 2 / 2)
    prior -= float(prior_2 @ (unusual_23 @ means) ** 2) / (2 * sd**2)
    return _Mixed(means, sd, share_KB, float(counts_B @ np.log(all_B) + prior))


def _rounded(values: npt.ArrayLike) -> tuple[float, ...]:
    """Six digits: what processors round differently beyond them decides no stored voxel then."""
    return tuple(float(f"{value:.6g}") for value in np.asarray(values, dtype=np.float64))
