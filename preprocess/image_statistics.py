"""What one stored volume looks like in a few numbers, and how far that lies from the scans a model was trained on.

No network is asked: a network may map what it has never seen onto what it knows. All distances are the same for a
volume and its mirror image, which nobody can tell apart by looking.

Coarse brightness is held against a low-rank model of the training scans (their principal components): the distance
within it, in standard deviations, and what it leaves unexplained. The other numbers stand in groups, each with a
Mahalanobis distance of its own. Two scans are of one person where their coarse brightness differs no more than that of
two visits does, each direction weighted by how much visits differ there; so atrophy, which visits show, counts little.
They are of one scanner where brightness and detail differ no more than those of visits on one scanner do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from preprocess.types import FloatArray

Floats = npt.NDArray[np.float64]
CheckName = Literal["layout", "residual", "extent", "brightness", "detail", "contrast", "identity", "scanner"]
"""Checks of one scan, and `identity` and `scanner` of two."""

COARSE_EDGE = 12
"""Blocks along each axis; 16 mm each in the default box."""
_FOREGROUND = 0.1
_INNER_RADIUS = 0.6
"""Radius of the middle of the head in half edges of the box, as preprocessing has it: nearly all brain."""
_OUTLIER = 0.3
"""A voxel that differs as much from the mean of its six neighbours is salt, or the edge of a cut."""
_SMALL = 1e-6
_GROUPS: tuple[tuple[CheckName, int], ...] = (("extent", 13), ("brightness", 5), ("detail", 11), ("contrast", 1))


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """The numbers of one volume.

    Attributes:
        coarse_DHW: mean brightness of blocks, `COARSE_EDGE` along each axis or as many as there are voxels.
        looks_S: `extent` (share of the foreground; along each axis the log ratio of its halves and where 5, 50 and
            95 % of it end), `brightness` (percentiles 5, 25, 50, 75 and 95 in the middle of the head), `detail` (along
            each axis the log mean square of first differences and the log ratios of those over two voxels and of
            second differences to it; logs of the median difference from six neighbours and of the share of outliers)
            and `contrast` (mean radius of the brightest quarter of the middle of the head).
    """

    coarse_DHW: Floats
    looks_S: Floats

    def mirrored(self) -> "ImageStatistics":
        """Those of the same volume, left and right exchanged."""
        looks_S = self.looks_S.copy()
        looks_S[1], looks_S[2:5] = -self.looks_S[1], 1 - self.looks_S[4:1:-1]
        return ImageStatistics(self.coarse_DHW[::-1], looks_S)


def image_statistics(volume_CDHW: FloatArray) -> ImageStatistics:
    """Describe a volume; below 30 ms at 96^3.

        found = image_statistics(store.read(row, "T1w") * np.float32(1 / 255))
        references.distances(found)["detail"]

    Args:
        volume_CDHW: in [0, 1], axes RAS+, at least 8 voxels along each axis; of several channels the first is taken.
    """
    volume_DHW = np.ascontiguousarray(volume_CDHW[0], dtype=np.float32)
    # Means of pairs of voxels: every second voxel would not be the same of a mirrored volume.
    half_DHW = _block_means(volume_DHW, max(edge // 2 for edge in volume_DHW.shape))
    looks_S = np.concatenate([_extent(half_DHW), _brightness(half_DHW), _detail(volume_DHW), _contrast(half_DHW)])
    return ImageStatistics(_block_means(volume_DHW, COARSE_EDGE).astype(np.float64), looks_S)


@dataclass(frozen=True, slots=True)
class ImageReferences:
    """The training scans' statistics, as references.npz holds them; see `manifest.IMAGE_REFERENCE_ARRAYS`.

    Attributes:
        image_mean_DHW: mean coarse brightness.
        image_axes_KF: principal components, each over the flattened blocks.
        image_sd_K: standard deviation along each.
        visit_precision_KK: inverse covariance of the difference of two visits of one person; zeros where unknown.
        looks_mean_S: mean of the other numbers.
        looks_precision_SS: inverse covariance, zero between groups.
        scanner_precision_SS: inverse covariance of the difference of two visits of one person on one scanner, zero
            beyond `brightness` and `detail`; all zeros where scanners are unknown.
    """

    image_mean_DHW: Floats
    image_axes_KF: Floats
    image_sd_K: Floats
    visit_precision_KK: Floats
    looks_mean_S: Floats
    looks_precision_SS: Floats
    scanner_precision_SS: Floats

    @classmethod
    def of(cls, arrays: Mapping[str, npt.ArrayLike]) -> "ImageReferences":
        """The arrays of references.npz by name.

        Raises:
            KeyError: one is missing.
            ValueError: shapes do not fit each other.
        """
        found = cls(**{field.name: np.asarray(arrays[field.name], dtype=np.float64) for field in fields(cls)})
        num_axes, num_looks = len(found.image_sd_K), sum(size for _, size in _GROUPS)
        expected = {
            "image_axes_KF": (num_axes, found.image_mean_DHW.size),
            "visit_precision_KK": (num_axes, num_axes),
            "looks_mean_S": (num_looks,),
            "looks_precision_SS": (num_looks, num_looks),
            "scanner_precision_SS": (num_looks, num_looks),
        }
        for name, shape in expected.items():
            if getattr(found, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(found, name).shape}, expected {shape}")
        return found

    def distances(self, found: ImageStatistics) -> dict[CheckName, float]:
        """How far a volume lies from the training scans, by check; `contrast` only counts bright tissue too far out."""
        offset_F = (found.coarse_DHW - self.image_mean_DHW).ravel()
        along_K = self.image_axes_KF @ offset_F
        left_F = offset_F - along_K @ self.image_axes_KF
        distances: dict[CheckName, float] = {
            "layout": float(np.sqrt(np.square(along_K / self.image_sd_K).sum())),
            "residual": float(np.sqrt(np.square(left_F).mean())),
        }
        offset_S = found.looks_S - self.looks_mean_S
        for name, group in looks_groups().items():
            squared = float(offset_S[group] @ self.looks_precision_SS[group, group] @ offset_S[group])
            distances[name] = float(np.sqrt(max(squared, 0.0)))
        if offset_S[looks_groups()["contrast"]][0] < 0:
            distances["contrast"] = 0.0
        return distances

    def identity(self, first: ImageStatistics, second: ImageStatistics) -> float:
        """How far two volumes differ beyond what visits of one person do, 0 or more; mirrored if that is nearer."""
        differences = (
            self.image_axes_KF @ (first.coarse_DHW - other_DHW).ravel()
            for other_DHW in (second.coarse_DHW, second.coarse_DHW[::-1])
        )
        squared = min(float(along_K @ self.visit_precision_KK @ along_K) for along_K in differences)
        return float(np.sqrt(max(squared, 0.0)))

    def scanner(self, first: ImageStatistics, second: ImageStatistics) -> float:
        """How far brightness and detail differ beyond what visits on one scanner do, 0 or more."""
        difference_S = first.looks_S - second.looks_S
        return float(np.sqrt(max(float(difference_S @ self.scanner_precision_SS @ difference_S), 0.0)))


def looks_groups() -> dict[CheckName, slice]:
    """Where each group stands in `ImageStatistics.looks_S`."""
    ends = np.cumsum([size for _, size in _GROUPS])
    return {name: slice(int(end) - size, int(end)) for (name, size), end in zip(_GROUPS, ends, strict=True)}


def _block_means(volume_DHW: FloatArray, edge: int) -> FloatArray:
    """Means of equal blocks, `edge` along each axis; a voxel that two blocks share counts for each in part."""
    for axis in range(3):
        weights_BN = _averages(volume_DHW.shape[axis], min(edge, volume_DHW.shape[axis]))
        volume_DHW = np.moveaxis(np.tensordot(weights_BN, volume_DHW, axes=(1, axis)), 0, axis)
    return volume_DHW


@lru_cache(maxsize=16)
def _averages(num: int, blocks: int) -> FloatArray:
    """How much each of `num` voxels counts for each of the equal blocks they are divided into."""
    ends = np.linspace(0, num, blocks + 1)
    index = np.arange(num)
    overlap_BN = np.minimum(ends[1:, None], index + 1) - np.maximum(ends[:-1, None], index)
    return np.asarray(np.maximum(overlap_BN, 0) * blocks / num, dtype=np.float32)


@lru_cache(maxsize=8)
def _radius(shape: tuple[int, ...]) -> FloatArray:
    """Distance of each voxel from the middle, in half edges of the box."""
    axes = [np.linspace(-1.0, 1.0, edge, dtype=np.float32) ** 2 for edge in shape]
    radius_DHW: FloatArray = np.sqrt(axes[0][:, None, None] + axes[1][:, None] + axes[2])
    return radius_DHW


def _extent(volume_DHW: FloatArray) -> Floats:
    is_inside = volume_DHW > _FOREGROUND
    numbers = [float(is_inside.mean())]
    for axis in range(3):
        share = is_inside.mean(axis=tuple(other for other in range(3) if other != axis))
        half = len(share) // 2
        numbers.append(float(np.log((share[:half].mean() + 1e-3) / (share[-half:].mean() + 1e-3))))
        # With 0 in front, so that the quantiles of a mirrored profile are 1 minus those of the other side.
        below = np.concatenate([[0.0], np.cumsum(share)]) / max(float(share.sum()), _SMALL)
        ends = np.linspace(0.0, 1.0, len(below))
        numbers.extend(float(np.interp(part, below, ends)) for part in (0.05, 0.5, 0.95))
    return np.asarray(numbers)


def _brightness(volume_DHW: FloatArray) -> Floats:
    middle = volume_DHW[_radius(volume_DHW.shape) <= _INNER_RADIUS]
    return np.percentile(middle, (5, 25, 50, 75, 95)).astype(np.float64)


def _detail(volume_DHW: FloatArray) -> Floats:
    middle = tuple(slice(edge // 6, edge - edge // 6) for edge in volume_DHW.shape)
    inner_DHW = np.ascontiguousarray(volume_DHW[middle])
    numbers: list[float] = []
    for axis in range(3):
        step = np.diff(inner_DHW, axis=axis)
        first, second = (np.moveaxis(step, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        one, two, bend = _power(step), _power(first + second), _power(first - second)
        numbers += [np.log(one), np.log(two / one), np.log(bend / one)]
    own = inner_DHW[1:-1, 1:-1, 1:-1]
    around = (
        inner_DHW[2:, 1:-1, 1:-1]
        + inner_DHW[:-2, 1:-1, 1:-1]
        + inner_DHW[1:-1, 2:, 1:-1]
        + inner_DHW[1:-1, :-2, 1:-1]
        + inner_DHW[1:-1, 1:-1, 2:]
        + inner_DHW[1:-1, 1:-1, :-2]
    )
    roughness = np.abs(own - around / 6)
    of_head = roughness[own > _FOREGROUND]
    numbers.append(np.log(float(np.median(of_head)) + 1e-3) if of_head.size else np.log(1e-3))
    numbers.append(np.log(float((roughness > _OUTLIER).mean()) + 1e-4))
    return np.asarray(numbers)


def _power(differences: FloatArray) -> float:
    flat = np.ascontiguousarray(differences).ravel()
    return float(flat @ flat) / flat.size + _SMALL


def _contrast(volume_DHW: FloatArray) -> Floats:
    """In T1w heads the brightest quarter is white matter, deep inside; where the cortex is brighter, it lies out."""
    radius_DHW = _radius(volume_DHW.shape)
    inside = radius_DHW <= _INNER_RADIUS
    brightness, radius = volume_DHW[inside], radius_DHW[inside]
    return np.asarray([float(radius[brightness >= np.percentile(brightness, 75)].mean())])
