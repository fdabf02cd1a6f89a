"""The coil's shading of a head by N4 (Tustison et al. 2010, SimpleITK), on a copy at 3 mm and on one thread.

The shading is smooth over centimetres, so the coarse copy tells it as well as the scan does, in a second. It is divided
out of the resampled volume, where it is interpolated, and the scan's own voxels stay as they are.
"""

import numpy as np

from preprocess.errors import ScanError
from preprocess.foreground import otsu_threshold
from preprocess.grey_levels import GreyLevels
from preprocess.preparation.head_copy import HeadCopy
from preprocess.preparation.imaging import from_itk, load_simpleitk, to_itk
from preprocess.preparation.steps import BiasField
from preprocess.types import Finding

_ITERATIONS = (50, 50, 30)
"""At most, by level, each with twice as many control points; ITK ends a level that changes by less than 0.001."""
_SHRINK = 2
"""To 6 mm for the fit: an eighth of the time, and the shading is smooth over centimetres."""
_MOST_RATIO = 10.0
"""Coils shade by up to a factor of 3 across a head; 10 and more is a fit that followed the head itself."""
_LEAST_VOXELS = 2000


def fit_bias_field(copy: HeadCopy, *, name: str) -> BiasField:
    """Estimate the shading of one head.

    Args:
        copy: the head at 3 mm.
        name: what messages call the scan.

    Raises:
        ScanError: `bias_field_failed`, which leaves no scan out: too little foreground, or no plausible shading.
        UsageError: SimpleITK is not installed.
    """
    sitk = load_simpleitk('bias_field = "n4"')
    values_XYZ = copy.values_XYZ
    levels = GreyLevels.of(values_XYZ)
    is_head_XYZ = values_XYZ > otsu_threshold(levels)
    if np.count_nonzero(is_head_XYZ) < _LEAST_VOXELS:
        raise _failure(
            f"{name}: N4 finds {np.count_nonzero(is_head_XYZ)} bright voxels of 3 mm, fewer than {_LEAST_VOXELS}"
        )
    image = to_itk(sitk, values_XYZ, copy.affine)
    mask = to_itk(sitk, is_head_XYZ.astype(np.uint8), copy.affine)
    coarse, coarse_mask = (sitk.Shrink(one, [_SHRINK] * 3) for one in (image, mask))
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetNumberOfThreads(1)
    method.SetMaximumNumberOfIterations(list(_ITERATIONS))
    try:
        method.Execute(coarse, coarse_mask)
        log_XYZ = from_itk(sitk, method.GetLogBiasFieldAsImage(image)).astype(np.float32)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][-120:]
        raise _failure(f"{name}: N4 ends with an error ({reason})") from error
    within = log_XYZ[is_head_XYZ].astype(np.float64)
    # Only the shape counts: brightness as a whole is set by percentiles afterwards.
    log_XYZ = log_XYZ - np.float32(np.median(within))
    low, high = np.percentile(within, (5, 95))
    ratio = float(np.exp(high - low))
    if not ratio <= _MOST_RATIO or not np.isfinite(log_XYZ).all():
        raise _failure(f"{name}: N4 finds a shading of {ratio:.3g} from dark to bright, more than {_MOST_RATIO:g}")
    return BiasField(log_XYZ, copy.affine, round(ratio, 4), int(method.GetElapsedIterations()))


def _failure(message: str) -> ScanError:
    return ScanError(
        Finding("bias_field_failed", f"{message}; kept with its shading; look at the scan", leaves_out=False)
    )
