"""Two make-believe MR scanners: from anatomy and pose to the int16 voxels and affine a machine would store.

What differs: contrast, receive bias, noise, voxel edges and intensity scale. What a picture holds is
`scale * |bias * tissue + noise|` with complex Gaussian noise, so magnitudes are Rician (Gudbjartsson and Patz 1995).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interscan.synthetic.brain.layers_brain import brain_layers
from interscan.synthetic.brain.layers_head import head_layers
from interscan.synthetic.brain.phantom import Anatomy, Tissue
from interscan.synthetic.brain.render import Grid, paint, upsample
from interscan.synthetic.pose import draw_pose
from interscan.synthetic.waves import Waves, draw_waves
from preprocess.types import FloatArray

FIELD_OF_VIEW_MM = (176.0, 224.0, 192.0)
"""Sagittal slab, phase and read extent: a usual T1w prescription."""

_CENTRE_MM = (0.0, -7.0, 0.0)
"""Where the technician puts the middle of the field of view, in head coordinates of a straight head."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """One machine and its protocol.

    Attributes:
        name: as the tables call it.
        manufacturer: sidecar field `Manufacturer`.
        model: sidecar field `ManufacturersModelName`.
        field_tesla: sidecar field `MagneticFieldStrength`.
        spacing_mm: voxel edges at `spacing_mm` 1.0 of the cohort.
        signal: T1w signal of each tissue relative to white matter.
        noise: standard deviation of either noise channel relative to white matter.
        bias: size of the receive bias; 0.15 makes the picture vary by about 15 % (one sd) over the head.
        coil_seed: picks the coil's own bias pattern, the same at every scan.
        scale: stored value of white matter.
    """

    name: str
    manufacturer: str
    model: str
    field_tesla: float
    spacing_mm: tuple[float, float, float]
    signal: dict[Tissue, float]
    noise: float
    bias: float
    coil_seed: int
    scale: float


SCANNERS: tuple[Scanner, Scanner] = (
    Scanner(
        name="alder-3T",
        manufacturer="Synthetic Alder",
        model="Alder Phantom 3",
        field_tesla=3.0,
        spacing_mm=(1.0, 1.0, 1.0),
        signal={
            Tissue.AIR: 0.0,
            Tissue.FAT: 1.25,
            Tissue.MUSCLE: 0.48,
            Tissue.BONE: 0.06,
            Tissue.MARROW: 0.62,
            Tissue.CSF: 0.20,
            Tissue.CORTEX: 0.62,
            Tissue.WHITE: 1.0,
            Tissue.DEEP_GREY: 0.74,
            Tissue.VENTRICLE: 0.20,
            Tissue.HIPPOCAMPUS: 0.62,
            Tissue.VITREOUS: 0.16,
        },
        noise=0.025,
        bias=0.15,
        coil_seed=3,
        scale=560.0,
    ),
    Scanner(
        name="birch-1.5T",
        manufacturer="Synthetic Birch",
        model="Birch Phantom 15",
        field_tesla=1.5,
        spacing_mm=(1.2, 1.0, 1.0),
        signal={
            Tissue.AIR: 0.0,
            Tissue.FAT: 1.40,
            Tissue.MUSCLE: 0.52,
            Tissue.BONE: 0.08,
            Tissue.MARROW: 0.75,
            Tissue.CSF: 0.27,
            Tissue.CORTEX: 0.70,
            Tissue.WHITE: 1.0,
            Tissue.DEEP_GREY: 0.80,
            Tissue.VENTRICLE: 0.27,
            Tissue.HIPPOCAMPUS: 0.70,
            Tissue.VITREOUS: 0.20,
        },
        noise=0.035,
        bias=0.07,
        coil_seed=15,
        scale=310.0,
    ),
)
"""1.5 T shows less contrast between grey and white matter, more noise and less bias than 3 T; vendors scale freely."""


def grid_of(scanner: Scanner, spacing_mm: float) -> Grid:
    """The scanner's voxel lattice; `spacing_mm` multiplies its edges, the field of view stays."""
    edges = tuple(edge * spacing_mm for edge in scanner.spacing_mm)
    shape = tuple(round(extent / edge) for extent, edge in zip(FIELD_OF_VIEW_MM, edges, strict=True))
    origin = tuple(
        middle - edge * (count - 1) / 2 for middle, edge, count in zip(_CENTRE_MM, edges, shape, strict=True)
    )
    return Grid(shape_XYZ=shape, spacing_mm=edges, origin_mm=origin)  # type: ignore[arg-type]


def acquire(
    anatomy: Anatomy, atrophy: float, scanner: Scanner, grid: Grid, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Scan a head once: new pose, the scanner's bias with a little of the day, new noise.

    Args:
        anatomy: who.
        atrophy: 0..1, how worn.
        scanner: which machine.
        grid: its voxels.
        rng: everything random about this scan.

    Returns:
        int16 (X, Y, Z), RAS; the affine is `grid.affine`: the head moved, the machine did not.
    """
    pose = draw_pose(rng)
    signal = np.array([scanner.signal[tissue] for tissue in Tissue], np.float32) * np.float32(scanner.scale)
    coil = draw_waves(np.random.default_rng(scanner.coil_seed), 4, 220, 420)
    today = draw_waves(rng, 4, 180, 400)
    noise = np.random.Generator(np.random.SFC64(int(rng.integers(2**63))))
    picture_XYZ = paint([*head_layers(anatomy), *brain_layers(anatomy, atrophy)], grid, pose, signal)
    picture_XYZ *= _bias(scanner, coil, today, grid)
    return _magnitude(picture_XYZ, scanner.noise * scanner.scale, noise)


def _bias(scanner: Scanner, coil: Waves, today: Waves, grid: Grid) -> FloatArray:
    """Receive bias exp(b), b mostly the coil's and a fifth the day's; float32 (X, Y, Z)."""
    node_mm = 16.0
    counts = [int(np.ceil(n * e / node_mm)) + 5 for n, e in zip(grid.shape_XYZ, grid.spacing_mm, strict=True)]
    first = [start - 2 * node_mm for start in grid.origin_mm]
    axes = [(first[i] + node_mm * np.arange(counts[i])).astype(np.float32) for i in range(3)]
    nodes_3P = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    log_bias = np.float32(scanner.bias) * (coil.at(nodes_3P) + np.float32(0.2) * today.at(nodes_3P))
    return upsample(np.exp(log_bias).reshape(counts), node_mm, first, grid)


def _magnitude(picture_XYZ: FloatArray, noise: float, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Magnitude of signal plus complex noise, rounded to int16; slice by slice to stay in cache."""
    stored = np.empty(picture_XYZ.shape, np.int16)
    for signal_YZ, out_YZ in zip(picture_XYZ, stored, strict=True):
        real, imaginary = rng.standard_normal((2, *signal_YZ.shape), dtype=np.float32)
        real *= np.float32(noise)
        imaginary *= np.float32(noise)
        real += signal_YZ
        np.sqrt(real * real + imaginary * imaginary, out=real)
        out_YZ[...] = np.minimum(np.rint(real), 32767)
    return stored
