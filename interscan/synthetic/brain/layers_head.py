"""The head around the brain as paintable layers: skin, fat, muscle, face, skull, neck and the fluid inside the skull.

Nothing here depends on atrophy: the skull of a grown person does not follow the brain.
"""

from collections.abc import Iterator

import numpy as np

from interscan.synthetic.brain.phantom import Anatomy, Tissue, template
from interscan.synthetic.brain.render import Layer
from interscan.synthetic.shapes import coverage, ellipsoid, mirrored, tube, union
from preprocess.types import FloatArray

Painted = Iterator[tuple[int, FloatArray]]


def upper_cavity(points_3P: FloatArray) -> FloatArray:
    """Inside of the skull above its base: where the hemispheres lie, without the temporal lobes."""
    vault = ellipsoid(points_3P, (0.0, -17.0, 10.0), (66.0, 84.0, 63.0))
    # The base rises forwards, from the tentorium (-19 mm) to the roof of the orbits (-15 mm).
    base = (np.float32(-17.0) + np.float32(0.05) * points_3P[1]) - points_3P[2]
    return -union(-vault, -base, blend_mm=14.0)


def temporal_cavity(points_3P: FloatArray) -> FloatArray:
    """Middle cranial fossae: where the temporal lobes lie."""
    return ellipsoid(mirrored(points_3P), (37.0, -6.0, -18.0), (26.0, 40.0, 24.0))


def cavity(points_3P: FloatArray) -> FloatArray:
    """The whole inside of the skull, with the posterior fossa."""
    posterior = ellipsoid(points_3P, (0.0, -56.0, -30.0), (53.0, 39.0, 30.0))
    brainstem = tube(points_3P, [(0.0, -26.0, -20.0), (0.0, -36.0, -58.0)], [19.0, 15.0])
    return union(upper_cavity(points_3P), temporal_cavity(points_3P), posterior, brainstem, blend_mm=10.0)


def head_layers(anatomy: Anatomy) -> list[Layer]:
    """Layers of one person from the skin to the fluid under the skull, lowest first."""
    return [_skin(anatomy), _neck(anatomy), _face(anatomy), _skull(anatomy)]


def _flat(points_3XYZ: FloatArray) -> FloatArray:
    return points_3XYZ.reshape(3, -1)


def _skin(anatomy: Anatomy) -> Layer:
    wall_mm = anatomy.skull_mm + anatomy.scalp_mm

    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        vault = ellipsoid(at, (0.0, -17.0, 8.0), (66.0 + wall_mm, 84.0 + wall_mm, 65.0 + wall_mm))
        occiput = ellipsoid(at, (0.0, -52.0, -30.0), (58.0 + wall_mm, 43.0 + wall_mm, 32.0 + wall_mm))
        face = ellipsoid(at, (0.0, 30.0, -62.0), (60.0, 55.0, 70.0))
        neck = tube(at, [(0.0, -28.0, -50.0), (0.0, -34.0, -140.0)], [56.0, 56.0])
        nose = tube(at, [(0.0, 80.0, -28.0), (0.0, 95.0, -58.0), (0.0, 88.0, -66.0)], [5.0, 9.0, 10.0])
        skin = union(union(vault, occiput, face, neck, blend_mm=18.0), nose, blend_mm=8.0)
        # Under the skin: muscle of face and neck; over the vault the fat reaches the bone.
        deep = union(union(face, neck, blend_mm=14.0) + 8, occiput + 6.5, blend_mm=10.0)
        return np.stack([skin, deep]).reshape(2, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        skin, deep = values_KXYZ
        yield Tissue.MUSCLE, coverage(skin, edge_mm)
        yield Tissue.FAT, coverage(skin + np.float32(1.8), edge_mm)
        yield Tissue.MUSCLE, coverage(deep, edge_mm)

    return Layer((-95.0, -130.0, -135.0), (95.0, 125.0, 105.0), 5.0, fields, shade)


def _neck(anatomy: Anatomy) -> Layer:
    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        airway = tube(at, [(0.0, 8.0, -48.0), (0.0, 2.0, -75.0), (0.0, 4.0, -120.0)], [7.0, 6.0, 8.0])
        spine = tube(at, [(0.0, -23.0, -60.0), (0.0, -24.0, -130.0)], [10.0, 11.0])
        arches = tube(at, [(0.0, -42.0, -66.0), (0.0, -42.0, -130.0)], [14.0, 14.0])
        canal = tube(at, [(0.0, -38.0, -52.0), (0.0, -42.0, -75.0), (0.0, -42.0, -130.0)], [13.0, 9.5, 9.0])
        jaw = tube(
            mirrored(at),
            [(48.0, 2.0, -52.0), (45.0, 12.0, -85.0), (22.0, 62.0, -108.0), (0.0, 72.0, -112.0)],
            [5.0, 6.0, 7.0, 7.0],
        )
        palate = ellipsoid(at, (0.0, 48.0, -72.0), (24.0, 28.0, 6.0))
        return np.stack([airway, spine, arches, canal, jaw, palate]).reshape(6, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        airway, spine, arches, canal, jaw, palate = values_KXYZ
        yield Tissue.BONE, coverage(np.minimum(np.minimum(spine, arches), np.minimum(jaw, palate)), edge_mm)
        yield Tissue.MARROW, coverage(np.minimum(spine, np.minimum(jaw, palate)) + np.float32(2.0), edge_mm)
        yield Tissue.CSF, coverage(canal, edge_mm)
        yield Tissue.AIR, coverage(airway, edge_mm)

    return Layer((-62.0, -64.0, -135.0), (62.0, 88.0, -38.0), 4.0, fields, shade)


def _face(anatomy: Anatomy) -> Layer:
    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        side = mirrored(at)
        orbit = tube(side, [(31.0, 62.0, -30.0), (20.0, 24.0, -25.0)], [17.0, 6.0])
        eye = ellipsoid(side, (31.0, 63.0, -30.0), (12.0, 12.0, 12.0))
        nerve = tube(side, [(29.0, 51.0, -29.0), (18.0, 20.0, -23.0)], [2.5, 2.5])
        nasal = ellipsoid(side, (7.0, 58.0, -50.0), (5.5, 30.0, 17.0))
        turbinates = union(
            tube(side, [(8.0, 40.0, -58.0), (8.0, 76.0, -59.0)], [3.5, 3.5]),
            tube(side, [(8.0, 42.0, -48.0), (8.0, 70.0, -47.0)], [3.0, 3.0]),
        )
        maxillary = ellipsoid(side, (30.0, 50.0, -58.0), (13.0, 16.0, 12.0))
        frontal = ellipsoid(side, (8.0, 67.0, -8.0), (8.0, 3.0, 8.0))
        sphenoid = ellipsoid(at, (0.0, 20.0, -33.0), (13.0, 12.0, 8.0))
        bone = union(nasal, maxillary, sphenoid, blend_mm=4.0) - np.float32(2.0)
        air = np.minimum(np.minimum(np.maximum(nasal, -turbinates), maxillary), np.minimum(frontal, sphenoid))
        return np.stack([orbit, eye, nerve, bone, air]).reshape(5, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        orbit, eye, nerve, bone, air = values_KXYZ
        yield Tissue.BONE, coverage(orbit - np.float32(2.0), edge_mm)
        yield Tissue.FAT, coverage(orbit, edge_mm)
        yield Tissue.MUSCLE, coverage(np.minimum(nerve, eye - np.float32(1.0)), edge_mm)
        yield Tissue.VITREOUS, coverage(eye, edge_mm)
        yield Tissue.BONE, coverage(bone, edge_mm)
        yield Tissue.AIR, coverage(air, edge_mm)

    return Layer((-56.0, 4.0, -80.0), (56.0, 96.0, 12.0), 3.0, fields, shade)


def _skull(anatomy: Anatomy) -> Layer:
    thickness_mm = np.float32(anatomy.skull_mm)

    def fields(head_3XYZ: FloatArray, node_mm: float) -> FloatArray:  # noqa: ARG001
        at = template(anatomy, _flat(head_3XYZ))
        clivus = tube(at, [(0.0, 2.0, -32.0), (0.0, -14.0, -50.0)], [7.0, 4.5])
        return np.stack([cavity(at), clivus]).reshape(2, *head_3XYZ.shape[1:])

    def shade(values_KXYZ: FloatArray, edge_mm: float) -> Painted:
        inside, clivus = values_KXYZ
        yield Tissue.BONE, coverage(np.minimum(inside - thickness_mm, clivus - np.float32(1.5)), edge_mm)
        # Diploe: the marrow between the two dark tables.
        yield Tissue.MARROW, coverage(np.abs(inside - thickness_mm / 2) - np.float32(1.0), edge_mm)
        yield Tissue.MARROW, coverage(clivus, edge_mm)
        yield Tissue.CSF, coverage(inside, edge_mm)

    return Layer((-82.0, -118.0, -76.0), (82.0, 82.0, 90.0), 5.0, fields, shade)
