"""Draws what is measured of one person of the connectome cohort: two matrices, regional features, a T2 head, scores.

A `Population` is what all persons of a cohort share: where the regions lie, which tracts exist, which regions work
together. Three systems of regions carry what is to be found: `a` in front, `b` deep, `c` behind. How strongly a
measurement shows a system is a number with standard deviation 1.1 to 1.4 (`shown`); everything else is nuisance.
"""

import gzip
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

from interscan.synthetic.pose import draw_pose
from interscan.synthetic.shapes import coverage, ellipsoid, mirrored, union
from interscan.synthetic.waves import draw_waves
from preprocess.types import FloatArray

PAIRS = 43
"""Regions of one hemisphere."""

REGIONS = 2 * PAIRS + 1
"""Left, right, and the brain stem last: 34 cortical and 9 deep structures a side make 87."""

FEATURES = 20
CLINICAL_COLUMNS = ("age_years", "sex", "education_years", "bmi", "systolic_mmhg", "memory", "attention", "speed")
"""The last three are scores with mean 50 and standard deviation about 10; low is bad."""

_SYSTEM_PAIRS = 9
_SHOWING_FEATURES = 10
"""The first features, which see system b; the others do not."""

_BRAIN_RADII_MM = (64.0, 80.0, 60.0)
_T2_SHAPE = (48, 56, 50)
T2_SPACING_MM = 4.0
"""Between the 3 mm of a fast scan and the 4.5 mm that the default quality limits accept."""

Systems = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ConnectomeLook:
    """How things look, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    "A sd" below is a change by 1 of the number that a modality shows of its part.

    Attributes:
        tract_mm: chance of a tract falls to 1/e over this distance; with 45 mm about a quarter of all pairs have one.
        weight_mm: the same for the weight of a tract.
        tract_spread: sd of the log weight of a tract beside its length, the same for all persons.
        edge_noise: sd of the log weight of an edge between persons.
        edge_loss: chance that tractography misses a tract.
        sc_effect: log weight of the edges within system a, for a sd.
        sc_gain: sd of the log of the global strength; hardware and head, nothing else.
        frames: time points behind a functional matrix; 200 are 7 minutes at 2 s.
        system_loading: loading of the shared signal of system a and of system c, next to noise of 1.
        network_loading: loading of six smooth networks at random places, at their middle.
        network_mm: their width, one sd.
        network_gain: sd of the log of a network's strength between persons.
        global_loading: loading of the signal all regions share.
        global_gain: sd of the log of its strength; motion and breathing.
        fc_effect: log loading of system a or c, for a sd.
        feature_noise: sd of a feature in a region between persons; the unit of the next four.
        feature_pattern: sd of a feature over regions, the same for all persons.
        feature_effect: shift of the first ten features in system b, for a sd.
        feature_gain: sd of the log gain of all features of a person; features have a mean of 5 units.
        feature_scanner: sd of a machine's shift of a feature, everywhere in the brain.
        t2_effect: change of the contrast of a region of system b, for a sd; white matter is 0.55, fluid 1.
        t2_noise: sd of either noise channel, on the same scale.
        t2_contrast: mean of the contrast of regions to white matter, sd over regions, sd between persons.
        t2_bias: sd of the log of the receive bias over the head.
        t2_gain: sd of the log of the brightness of a scan.
        region_mm: half-axes of a region, one sd of its smooth ellipsoid.
        score_effect: loss of a score, in its sd of 10, for a sd.
        score_noise: sd of a score's own noise, in the same unit.
        score_age: points a score loses a year, impaired or not.
    """

    tract_mm: float = 45.0
    weight_mm: float = 60.0
    tract_spread: float = 0.4
    edge_noise: float = 0.35
    edge_loss: float = 0.1
    sc_effect: float = 0.5
    sc_gain: float = 0.25
    frames: int = 200
    system_loading: float = 0.6
    network_loading: float = 0.6
    network_mm: float = 25.0
    network_gain: float = 0.2
    global_loading: float = 0.5
    global_gain: float = 0.4
    fc_effect: float = 0.35
    feature_noise: float = 1.0
    feature_pattern: float = 0.8
    feature_effect: float = 1.0
    feature_gain: float = 0.1
    feature_scanner: float = 0.5
    t2_effect: float = 0.08
    t2_noise: float = 0.02
    t2_contrast: tuple[float, float, float] = (0.12, 0.03, 0.03)
    t2_bias: float = 0.05
    t2_gain: float = 0.2
    region_mm: tuple[float, float, float] = (7.0, 8.0, 7.0)
    score_effect: float = 0.8
    score_noise: float = 0.4
    score_age: float = 0.3


LOOK = ConnectomeLook()


@dataclass(frozen=True, slots=True)
class Machine:
    """An MR machine and its protocol; persons are scanned on one of two by chance.

    Attributes:
        name: as the table calls it.
        number: 0 or 1, picks its shift of the features.
        log_sc_gain: added to the log of the global structural strength.
        log_global_gain: added to the log of the strength of the global functional signal.
        t2_scale: stored value of fluid.
    """

    name: str
    number: int
    log_sc_gain: float
    log_global_gain: float
    t2_scale: float


MACHINES = (Machine("cedar-3T", 0, 0.15, -0.1, 900.0), Machine("dogwood-3T", 1, -0.15, 0.1, 520.0))


@dataclass(frozen=True, slots=True)
class Population:
    """What all persons of a cohort share.

    Attributes:
        positions_R3: middle of each region, RAS mm, origin in the middle of the brain.
        systems: numbers of the regions of system a, b and c; disjoint, both sides alike.
        tracts_RR: mean weight of each connection, 0 where there is no tract; symmetric, upper half filled.
        loadings_RK: loadings of a, c, six networks and the global signal on the time series.
        patterns_RF: mean of each feature in each region, in units of its noise.
        units_F: what a feature is measured in, 1 to 1000.
        shifts_MF: shift by each machine of each feature, in units of its noise.
        contrast_R: mean T2 contrast of each region to white matter.
    """

    positions_R3: npt.NDArray[np.float64]
    systems: Systems
    tracts_RR: npt.NDArray[np.float64]
    loadings_RK: npt.NDArray[np.float64]
    patterns_RF: npt.NDArray[np.float64]
    units_F: npt.NDArray[np.float64]
    shifts_MF: npt.NDArray[np.float64]
    contrast_R: npt.NDArray[np.float64]


def draw_population(rng: np.random.Generator) -> Population:
    """Draw the regions and all that depends on them."""
    positions_R3, systems = _place_regions(rng)
    distance_RR = np.linalg.norm(positions_R3[:, None] - positions_R3, axis=2)
    has_tract = rng.random((REGIONS, REGIONS)) < np.exp(-distance_RR / LOOK.tract_mm)
    has_tract[np.arange(PAIRS), np.arange(PAIRS) + PAIRS] = True  # the corpus callosum joins like with like
    spread_RR = np.exp(LOOK.tract_spread * rng.normal(size=(REGIONS, REGIONS)))
    tracts_RR = np.triu(has_tract * np.exp(-distance_RR / LOOK.weight_mm) * spread_RR, 1)
    middles = rng.choice(REGIONS, 6, replace=False)
    loadings_RK = np.zeros((REGIONS, 9))
    loadings_RK[systems[0], 0] = loadings_RK[systems[2], 1] = LOOK.system_loading
    loadings_RK[:, 2:8] = LOOK.network_loading * np.exp(-0.5 * (distance_RR[:, middles] / LOOK.network_mm) ** 2)
    loadings_RK[:, 8] = LOOK.global_loading
    return Population(
        positions_R3=positions_R3,
        systems=systems,
        tracts_RR=tracts_RR,
        loadings_RK=loadings_RK,
        patterns_RF=5 + LOOK.feature_pattern * rng.normal(size=(REGIONS, FEATURES)),
        units_F=10 ** rng.uniform(0, 3, FEATURES),
        shifts_MF=LOOK.feature_scanner * rng.normal(size=(len(MACHINES), FEATURES)),
        contrast_R=LOOK.t2_contrast[0] + LOOK.t2_contrast[1] * rng.normal(size=REGIONS),
    )


def draw_structure(people: Population, shown_a: float, machine: Machine, rng: np.random.Generator) -> FloatArray:
    """A structural connectome, shape (87, 87): symmetric, non-negative, zero where no tract was found."""
    log_RR = LOOK.edge_noise * rng.normal(size=(REGIONS, REGIONS))
    log_RR += machine.log_sc_gain + LOOK.sc_gain * rng.normal()
    log_RR[np.ix_(people.systems[0], people.systems[0])] += LOOK.sc_effect * shown_a
    found_RR = rng.random((REGIONS, REGIONS)) >= LOOK.edge_loss
    upper_RR = (people.tracts_RR * found_RR * np.exp(log_RR)).astype(np.float32)
    matrix: FloatArray = upper_RR + upper_RR.T
    return matrix


def draw_function(
    people: Population, shown_a: float, shown_c: float, machine: Machine, rng: np.random.Generator
) -> FloatArray:
    """A functional connectome, shape (87, 87): correlations of time series made of nine signals and noise."""
    gains_K = np.exp(LOOK.network_gain * rng.normal(size=people.loadings_RK.shape[1]))
    gains_K[0], gains_K[1] = np.exp(LOOK.fc_effect * shown_a), np.exp(LOOK.fc_effect * shown_c)
    gains_K[8] = np.exp(machine.log_global_gain + LOOK.global_gain * rng.normal())
    series_RT = (people.loadings_RK * gains_K) @ rng.normal(size=(len(gains_K), LOOK.frames))
    series_RT += rng.normal(size=series_RT.shape)
    upper_RR = np.triu(np.clip(np.corrcoef(series_RT), -1, 1), 1).astype(np.float32)
    matrix: FloatArray = upper_RR + upper_RR.T + np.eye(REGIONS, dtype=np.float32)
    return matrix


def draw_features(people: Population, shown_b: float, machine: Machine, rng: np.random.Generator) -> FloatArray:
    """Regional features, shape (87, 20), each in its own unit."""
    values_RF = people.patterns_RF + LOOK.feature_noise * rng.normal(size=people.patterns_RF.shape)
    values_RF[people.systems[1], :_SHOWING_FEATURES] += LOOK.feature_effect * shown_b
    values_RF = (values_RF + people.shifts_MF[machine.number]) * np.exp(LOOK.feature_gain * rng.normal())
    features: FloatArray = (values_RF * people.units_F).astype(np.float32)
    return features


def draw_head(people: Population, shown_b: float, machine: Machine, rng: np.random.Generator) -> bytes:
    """A T2 head as a gzipped NIfTI file: int16, the lattice lies askew with the head.

    Scalp, skull, fluid, white matter and ventricles are ellipsoids; each region is a smooth one with its own contrast.
    """
    scale_3 = 1 + 0.03 * np.clip(rng.normal(size=3), -2, 2)
    axes = [(np.arange(n) - (n - 1) / 2) * T2_SPACING_MM / s for n, s in zip(_T2_SHAPE, scale_3, strict=True)]
    points_3XYZ = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    wide_mm = float(rng.normal(0, 1.0))
    half = mirrored(points_3XYZ)
    ventricles = coverage(ellipsoid(half, (9.0, 4.0, 10.0), (5.0 + wide_mm, 26.0, 8.0 + wide_mm)), T2_SPACING_MM)
    brain = coverage(
        union(
            ellipsoid(points_3XYZ, (0.0, 0.0, 0.0), _BRAIN_RADII_MM),
            ellipsoid(points_3XYZ, (0.0, -18.0, -58.0), (13.0, 13.0, 26.0)),
        ),
        T2_SPACING_MM,
    )
    contrast_R = people.contrast_R + LOOK.t2_contrast[2] * rng.normal(size=REGIONS)
    contrast_R[people.systems[1]] += LOOK.t2_effect * shown_b
    bumps = [
        np.exp(-0.5 * ((axis - people.positions_R3[:, [i]]) / LOOK.region_mm[i]) ** 2) for i, axis in enumerate(axes)
    ]
    plane_RXY = (contrast_R[:, None] * bumps[0])[:, :, None] * bumps[1][:, None, :]
    grey_XYZ = (plane_RXY.reshape(REGIONS, -1).T @ bumps[2]).reshape(_T2_SHAPE)
    signal_XYZ = np.zeros(_T2_SHAPE)
    for share, signal in (
        (_shell(points_3XYZ, 16.0), 0.45),
        (_shell(points_3XYZ, 9.0), 0.05),
        (_shell(points_3XYZ, 3.0), 1.0),
        (brain, 0.55 + grey_XYZ),
        (ventricles, 1.0),
    ):
        signal_XYZ += share * (signal - signal_XYZ)
    waves = draw_waves(rng, 4, 220, 420)
    bias_XYZ = np.exp(LOOK.t2_bias * waves.at(points_3XYZ.reshape(3, -1)).reshape(_T2_SHAPE))
    noise_2XYZ = LOOK.t2_noise * rng.normal(size=(2, *_T2_SHAPE))
    picture_XYZ = np.hypot(signal_XYZ * bias_XYZ + noise_2XYZ[0], noise_2XYZ[1])
    picture_XYZ *= machine.t2_scale * np.exp(LOOK.t2_gain * rng.normal())
    pose = draw_pose(rng)
    affine = np.eye(4)
    affine[:3, :3] = pose.rotation * T2_SPACING_MM
    affine[:3, 3] = pose.shift_mm - affine[:3, :3] @ ((np.array(_T2_SHAPE) - 1) / 2)
    image = nib.Nifti1Image(np.minimum(np.rint(picture_XYZ), 32767).astype(np.int16), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def draw_scores(shown_c: float, rng: np.random.Generator) -> tuple[float, ...]:
    """The numbers of `CLINICAL_COLUMNS`, rounded as a chart has them; only the last three know of system c."""
    age = float(np.clip(rng.normal(68, 7), 50, 90))
    sex = int(rng.integers(2))
    education = float(np.clip(np.rint(rng.normal(13, 3)), 6, 22))
    bmi, systolic = float(rng.normal(26, 3.5)), float(rng.normal(132, 14))
    loss_3 = LOOK.score_effect * shown_c + LOOK.score_noise * rng.normal(size=3)
    scores = np.rint(50 - 10 * loss_3 - LOOK.score_age * (age - 68) + 0.5 * (education - 13))
    return (round(age, 1), sex, education, round(bmi, 1), round(systolic), *(float(score) for score in scores))


def _place_regions(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], Systems]:
    """Regions evenly over the right half of the brain (the best of 30 candidates each time), mirrored; the systems."""
    radii_3 = 0.88 * np.array(_BRAIN_RADII_MM)
    right_P3 = np.empty((0, 3))
    while len(right_P3) < PAIRS:
        candidates_C3 = rng.uniform(-1, 1, (120, 3))
        inside = (np.linalg.norm(candidates_C3, axis=1) <= 1) & (candidates_C3[:, 0] * radii_3[0] > 8)
        candidates_C3 = (candidates_C3[inside] * radii_3)[:30]
        gaps_CP = np.linalg.norm(candidates_C3[:, None] - right_P3, axis=2)
        best = int(np.argmax(gaps_CP.min(axis=1))) if len(right_P3) else 0
        right_P3 = np.vstack([right_P3, candidates_C3[best]])
    by_front = np.argsort(-right_P3[:, 1])
    front, between, behind = np.split(by_front, [_SYSTEM_PAIRS, PAIRS - _SYSTEM_PAIRS])
    deep = between[np.argsort(np.linalg.norm(right_P3[between], axis=1))[:_SYSTEM_PAIRS]]
    positions_R3 = np.vstack([right_P3 * (-1, 1, 1), right_P3, [(0.0, -18.0, -62.0)]])
    a, b, c = (np.sort(np.concatenate([pairs, pairs + PAIRS])) for pairs in (front, deep, behind))
    return positions_R3, (a, b, c)


def _shell(points_3XYZ: FloatArray, beyond_mm: float) -> FloatArray:
    """Share of each voxel in the ellipsoid that lies `beyond_mm` outside the brain."""
    right, front, up = _BRAIN_RADII_MM
    radii_mm = (right + beyond_mm, front + beyond_mm, up + beyond_mm)
    return coverage(ellipsoid(points_3XYZ, (0.0, 0.0, 0.0), radii_mm), T2_SPACING_MM)
