"""An analytic head for T1w pictures: one person's anatomy, and what a given atrophy does to it.

Head coordinates are RAS millimetres with the origin near the anterior commissure. The same person keeps shape, folds
and skull at every visit; only `atrophy` (0 none, 1 severe) moves the ventricles, cortex, sulci and hippocampi. Sizes
are round numbers within the adult range of anatomy textbooks; they are not fitted to a data set.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from interscan.synthetic.shapes import Point, coverage, mirrored, tube, union
from interscan.synthetic.waves import Waves, draw_waves
from preprocess.types import FloatArray


class Tissue(IntEnum):
    """What a voxel can hold; the number indexes a palette."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    BONE = 3
    MARROW = 4
    CSF = 5
    CORTEX = 6
    WHITE = 7
    DEEP_GREY = 8
    VENTRICLE = 9
    HIPPOCAMPUS = 10
    VITREOUS = 11


@dataclass(frozen=True, slots=True)
class Wear:
    """What full atrophy (1.0) does, chosen once; the effect is linear in atrophy.

    Attributes:
        ventricle_mm: added radius of the lateral ventricles. 4 mm takes a median person from 20 to 61 ml, the range
            from normal to severe.
        cortex_share: share of the cortical thickness lost; 0.2 is what severe Alzheimer's disease does in temporal
            cortex.
        sulcus_mm: added width of a sulcus; wide sulci of 2 to 3 mm are the sign a radiologist reads first.
        inset_mm: added gap between brain and skull.
        hippocampus_share: share of the hippocampal radius lost; 0.2 of the radius is about half of the volume.
    """

    ventricle_mm: float = 4.0
    cortex_share: float = 0.2
    sulcus_mm: float = 1.4
    inset_mm: float = 1.2
    hippocampus_share: float = 0.2


WEAR = Wear()


@dataclass(frozen=True, slots=True)
class Ageing:
    """What 25 years do to a cohort with `ageing`, chosen once; linear in years after `from_years`.

    Attributes:
        from_years: age without effect.
        cortex_share: share of the cortical thickness lost in 25 years, half of what full atrophy takes.
        sulcus_mm: added width of a sulcus.
        ventricle_mm: added radius of the lateral ventricles, a third of what full atrophy adds.
    """

    from_years: float = 60.0
    cortex_share: float = 0.1
    sulcus_mm: float = 0.8
    ventricle_mm: float = 1.3


AGEING = Ageing()


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One person; nothing here knows about atrophy, outcome or scanner.

    Attributes:
        scale: size relative to the template along R, A, S.
        ventricle_mm: personal offset of the ventricle radius.
        cortex_mm: thickness of the cortex without atrophy.
        sulcus_mm: width of a sulcus without atrophy.
        skull_mm: thickness of the skull.
        scalp_mm: thickness of the scalp.
        bend: three smooth fields that displace the template, one per axis.
        folds: field whose zero sheets are the sulci.
        depths: field that varies how deep sulci run.
    """

    scale: Point
    ventricle_mm: float
    cortex_mm: float
    sulcus_mm: float
    skull_mm: float
    scalp_mm: float
    bend: tuple[Waves, Waves, Waves]
    folds: Waves
    depths: Waves


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a person. Spreads are those of adults: head size 3 %, proportions 2 %, cortex 2.8 +- 0.12 mm.

    The ventricles differ by 0.8 mm in radius between people of the same atrophy, a fifth of the way from none to
    severe: size alone hints at the score and does not settle it.
    """
    size = 1 + 0.03 * float(np.clip(rng.normal(), -2, 2))
    ratios = 1 + 0.02 * np.clip(rng.normal(size=3), -2, 2)
    return Anatomy(
        scale=(size * float(ratios[0]), size * float(ratios[1]), size * float(ratios[2])),
        ventricle_mm=0.8 * float(np.clip(rng.normal(), -2, 2)),
        cortex_mm=2.8 + 0.12 * float(np.clip(rng.normal(), -2, 2)),
        sulcus_mm=1.0 + 0.2 * float(np.clip(rng.normal(), -2, 2)),
        skull_mm=6.0 + 0.7 * float(np.clip(rng.normal(), -2, 2)),
        scalp_mm=5.5 + 0.8 * float(np.clip(rng.normal(), -2, 2)),
        bend=(draw_waves(rng, 3, 80, 160), draw_waves(rng, 3, 80, 160), draw_waves(rng, 3, 80, 160)),
        folds=draw_waves(rng, 40, 17, 26),
        depths=draw_waves(rng, 6, 30, 60),
    )


def aged(anatomy: Anatomy, years: float) -> Anatomy:
    """The same person at an age, atrophy not counted; hippocampi and the gap to the skull stay as they are."""
    worn = (years - AGEING.from_years) / 25
    return replace(
        anatomy,
        cortex_mm=anatomy.cortex_mm * (1 - AGEING.cortex_share * worn),
        sulcus_mm=anatomy.sulcus_mm + AGEING.sulcus_mm * worn,
        ventricle_mm=anatomy.ventricle_mm + AGEING.ventricle_mm * worn,
    )


def true_ventricle_mm3(anatomy: Anatomy, atrophy: float) -> float:
    """Volume of both lateral ventricles in mm3, from the shape itself: no pose, noise or scanner.

    Integrated on a 2 mm lattice; the soft edge is half a step wide, since a ramp of width e adds e**2 / (12 r**2) to a
    tube of radius r. Against a lattice of 0.5 mm the error stays below 0.5 %.
    """
    spacing_mm = 2.0
    low = np.array([-56.0, -90.0, -34.0])
    shape = (57, 71, 40)
    axes = [(low[i] + spacing_mm * np.arange(shape[i])).astype(np.float32) for i in range(3)]
    points_3P = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    level = lateral_ventricles(template(anatomy, points_3P), anatomy.ventricle_mm + WEAR.ventricle_mm * atrophy)
    return float(coverage(level, spacing_mm / 2).sum(dtype=np.float64) * spacing_mm**3)


def template(anatomy: Anatomy, head_3P: FloatArray) -> FloatArray:
    """Where points (3, P) of this person's head lie in the template, in mm."""
    scaled = head_3P / np.array(anatomy.scale, np.float32)[:, None]
    bend_mm = np.float32(1.2)  # keeps the two sides recognisably unequal without leaving the adult range
    return scaled + bend_mm * np.stack([waves.at(head_3P) for waves in anatomy.bend])


def lateral_ventricles(points_3P: FloatArray, offset_mm: float) -> FloatArray:
    """Both lateral ventricles: frontal horn, body, atrium, occipital and temporal horns, all radii plus `offset_mm`."""
    side = mirrored(points_3P)
    horns = offset_mm * 0.6
    out = max(0.0, offset_mm) * 0.8
    body = tube(
        side,
        [
            (5.0 + out, 31.0, -2.0),
            (5.5 + out, 18.0, 8.0),
            (6.0 + out, -5.0, 15.0),
            (11.0 + out, -28.0, 14.0),
            (24.0, -42.0, 4.0),
        ],
        [3.5 + offset_mm, 5.5 + offset_mm, 5.0 + offset_mm, 5.7 + offset_mm, 6.5 + offset_mm],
    )
    occipital = tube(side, [(24.0, -42.0, 4.0), (23.0, -68.0, 3.0)], [5.0 + horns, 1.8 + horns])
    temporal = tube(
        side, [(24.0, -42.0, 4.0), (33.0, -30.0, -9.0), (32.0, -10.0, -17.0)], [4.6 + horns, 2.4 + horns, 1.6 + horns]
    )
    # A septum of 2 mm on the midline stays: wider ventricles grow outwards.
    both: FloatArray = np.maximum(union(body, occipital, temporal, blend_mm=3.0), np.float32(1.0) - side[0])
    return both
