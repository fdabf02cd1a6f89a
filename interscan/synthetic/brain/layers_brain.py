"""The brain as paintable layers: hindbrain, folded cerebrum, and the deep structures with the ventricles.

The pial surface is the hull of the hemispheres cut by the fissure between them, by the Sylvian fissures and by sulci:
the zero sheets of a smooth random field, limited in depth. Cortex is what lies within one thickness of that surface,
so thickness and sulcal width are known numbers, and atrophy changes them and nothing else about the folds.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from interscan.synthetic.brain.layers_head import cavity, temporal_cavity, upper_cavity
from interscan.synthetic.brain.phantom import WEAR, Anatomy, Tissue, lateral_ventricles, template
from interscan.synthetic.brain.render import Layer
from interscan.synthetic.shapes import coverage, ellipsoid, mirrored, tube, union
from preprocess.types import FloatArray

Painted = Iterator[tuple[int, FloatArray]]

_SULCUS_DEPTH_MM = 14.0
"""Middle depth of a sulcus; those of adults run 8 to 25 mm."""


def brain_layers(anatomy: Anatomy, atrophy: float) -> list[Layer]:
    """Layers of one person's brain at one atrophy (0..1), to be painted over the head."""
    return [_hindbrain(anatomy), _cerebrum(anatomy, atrophy), _deep(anatomy, atrophy)]


def _flat(points_3XYZ: FloatArray) -> FloatArray:
    return points_3XYZ.reshape(3, -1)


def _hindbrain(anatomy: Anatomy) -> Layer:
    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        side = mirrored(at)
        lobes = union(
            ellipsoid(side, (20.0, -61.0, -36.0), (30.0, 27.0, 19.0)),
            ellipsoid(at, (0.0, -58.0, -36.0), (12.0, 22.0, 20.0)),
            blend_mm=5.0,
        )
        lobes = np.maximum(lobes, cavity(at) + 3)
        core = union(
            ellipsoid(side, (18.0, -55.0, -35.0), (17.0, 12.0, 7.0)),
            ellipsoid(at, (0.0, -52.0, -36.0), (4.0, 9.0, 7.0)),
            blend_mm=4.0,
        )
        stem = union(
            tube(
                at,
                [
                    (0.0, -22.0, -4.0),
                    (0.0, -27.0, -24.0),
                    (0.0, -35.0, -55.0),
                    (0.0, -41.0, -72.0),
                    (0.0, -42.0, -130.0),
                ],
                [15.0, 12.0, 7.5, 5.5, 5.0],
            ),
            ellipsoid(at, (0.0, -23.0, -30.0), (17.0, 12.0, 14.0)),
            blend_mm=5.0,
        )
        peduncle = tube(side, [(8.0, -32.0, -31.0), (18.0, -50.0, -34.0)], [6.0, 5.0])
        fourth = ellipsoid(at, (0.0, -42.0, -34.0), (7.0, 4.5, 10.0))
        leaves = np.sqrt((at[1] + 45) ** 2 + (at[2] + 33) ** 2 + (0.5 * at[0]) ** 2)
        return np.stack([lobes, core, stem, peduncle, fourth, leaves]).reshape(6, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        lobes, core, stem, peduncle, fourth, leaves = values_KXYZ
        yield Tissue.CORTEX, coverage(lobes, edge_mm)
        # Folia 4.5 mm apart: dark clefts from outside, white leaves between them; coarse voxels cannot show them.
        seen = np.float32(np.clip(1.6 - 0.4 * edge_mm, 0, 1))
        wave = np.cos(leaves * np.float32(2 * np.pi / 4.5))
        inside = coverage(lobes + np.float32(0.5), 2.0)
        yield Tissue.CSF, inside * np.maximum(wave - np.float32(0.3), 0) * (seen * np.float32(0.35))
        rim = coverage(core - np.float32(7.0), 6.0)
        yield Tissue.WHITE, rim * np.maximum(-wave - np.float32(0.2), 0) * (seen * np.float32(0.6))
        yield Tissue.WHITE, coverage(np.minimum(np.minimum(core, stem), peduncle), edge_mm)
        yield Tissue.CSF, coverage(fourth, edge_mm)

    return Layer((-58.0, -96.0, -135.0), (58.0, 2.0, 2.0), 3.0, fields, shade)


def _cerebrum(anatomy: Anatomy, atrophy: float) -> Layer:
    inset_mm = np.float32(1.8 + WEAR.inset_mm * atrophy)
    cortex_mm = np.float32(anatomy.cortex_mm * (1 - WEAR.cortex_share * atrophy))
    half_sulcus_mm = np.float32((anatomy.sulcus_mm + WEAR.sulcus_mm * atrophy) / 2)

    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:
        head_3P = _flat(head_3XYZ)
        at = template(anatomy, head_3P)
        side = mirrored(at)
        upper, temporal = upper_cavity(at), temporal_cavity(at)
        # The temporal poles stop short of the midline; between them lie brainstem and sella.
        hull = union(upper, np.maximum(temporal, 15 - side[0]), blend_mm=6.0)
        core = ellipsoid(at, (0.0, -16.0, 4.0), (30.0, 40.0, 20.0))
        sylvian = (at[2] + 7 + 0.45 * at[1]) / np.float32(np.hypot(1, 0.45))
        beyond = np.sqrt(
            np.maximum(36 - side[0], 0) ** 2 + np.maximum(at[1] - 26, 0) ** 2 + np.maximum(-46 - at[1], 0) ** 2
        )
        # Sulci matter only in the shell they can reach; two nodes more feed the gradient and the interpolation.
        shell = (hull < 3 * node_mm) & (core > -3 * node_mm)
        folds, slope = _folds(anatomy, head_3P, shell, head_3XYZ.shape[1:], node_mm)
        deepest = np.full_like(folds, _SULCUS_DEPTH_MM)
        deepest[shell] += 3 * anatomy.depths.at(head_3P[:, shell])
        return np.stack([hull, at[0], core, sylvian, beyond, folds, slope, deepest]).reshape(8, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        hull, midline, core, sylvian, beyond, folds, slope, deepest = values_KXYZ
        depth = -hull - inset_mm
        fissure = np.sqrt(midline**2 + np.minimum(core, 0) ** 2) - half_sulcus_mm * np.float32(1.2)
        lateral = np.sqrt(sylvian**2 + beyond**2) - half_sulcus_mm * np.float32(1.8)
        # The fissures carry cortex of their own, so sulci start from them too.
        surface = np.minimum(depth, np.minimum(fissure, lateral))
        sheet = folds / np.maximum(slope, np.float32(0.05))
        sulcus = np.sqrt(sheet**2 + np.maximum(surface - deepest, 0) ** 2) - half_sulcus_mm
        pial = np.minimum(surface, sulcus)
        yield Tissue.CORTEX, coverage(-pial, edge_mm)
        yield Tissue.WHITE, coverage(cortex_mm - pial, edge_mm)
        # White matter of the middle: no cortex lines the ventricles.
        yield Tissue.WHITE, coverage(core, edge_mm)

    return Layer((-76.0, -112.0, -50.0), (76.0, 76.0, 84.0), 3.0, fields, shade)


def _folds(
    anatomy: Anatomy, head_3P: FloatArray, shell_P: npt.NDArray[np.bool_], shape: tuple[int, ...], node_mm: float
) -> tuple[FloatArray, FloatArray]:
    """The folding field and the length of its gradient per mm, both (P,), zero outside the shell.

    Points are drawn most of the way onto a shell around the middle of their hemisphere first, so that sheets run
    inwards from the surface as sulci do, not along it.
    """
    near_3P = head_3P[:, shell_P]
    centred = near_3P - np.array([0.0, -15.0, 6.0], np.float32)[:, None]
    centred[0] -= 20 * np.tanh(near_3P[0] / 12)
    radius = np.sqrt(centred[0] ** 2 + (centred[1] / 1.3) ** 2 + centred[2] ** 2)
    pulled = centred * (np.float32(60) / np.maximum(radius, 12)) ** np.float32(0.6)
    field = np.zeros(shell_P.shape, np.float32)
    field[shell_P] = anatomy.folds.at(pulled)
    slopes = np.gradient(field.reshape(shape), np.float32(node_mm))
    slope = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2).ravel()
    return field, slope


def _deep(anatomy: Anatomy, atrophy: float) -> Layer:
    offset_mm = anatomy.ventricle_mm + WEAR.ventricle_mm * atrophy
    lean = 1 - WEAR.hippocampus_share * atrophy

    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        side = mirrored(at)
        # The callosum rides on the ventricles: it rises by what they gain.
        rise = offset_mm
        callosum = tube(
            np.stack([np.maximum(side[0] - 14, 0), at[1], at[2]]),
            [
                (0.0, 26.0, -4.0),
                (0.0, 33.0, 4.0),
                (0.0, 27.0, 15.0 + rise / 2),
                (0.0, 8.0, 20.5 + rise),
                (0.0, -15.0, 23.0 + rise),
                (0.0, -34.0, 20.0 + rise),
                (0.0, -45.0, 10.0),
            ],
            [2.0, 4.5, 3.5, 3.0, 3.0, 3.2, 5.5],
        )
        grey = union(
            ellipsoid(side, (12.0, -19.0, 6.0), (9.0, 15.0, 8.5)),
            ellipsoid(side, (14.0 + offset_mm, 14.0, 3.0), (5.5, 11.0, 8.0)),
            ellipsoid(side, (26.0, 2.0, 0.0), (5.5, 16.0, 10.0)),
        )
        third = np.maximum(ellipsoid(at, (0.0, -12.0, -2.0), (30.0, 14.0, 11.0)), side[0] - (1.4 + 0.4 * offset_mm))
        hippocampus = tube(
            side, [(24.0, -8.0, -22.0), (28.0, -20.0, -17.0), (26.0, -34.0, -8.0)], [6.2 * lean, 4.8 * lean, 3.0 * lean]
        )
        ventricles = lateral_ventricles(at, offset_mm)
        return np.stack([callosum, grey, third, hippocampus, ventricles]).reshape(5, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        callosum, grey, third, hippocampus, ventricles = values_KXYZ
        yield Tissue.WHITE, coverage(callosum, edge_mm)
        yield Tissue.DEEP_GREY, coverage(grey, edge_mm)
        yield Tissue.CSF, coverage(third, edge_mm)
        yield Tissue.HIPPOCAMPUS, coverage(hippocampus, edge_mm)
        yield Tissue.VENTRICLE, coverage(ventricles, edge_mm)

    return Layer((-58.0, -90.0, -36.0), (58.0, 48.0, 42.0), 2.5, fields, shade)
