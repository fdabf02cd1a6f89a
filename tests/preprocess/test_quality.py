"""The quality check: each limit from both sides, and the wrapped integers that public scans hold."""

import numpy as np
import pytest

from preprocess.quality import check_image
from preprocess.recipe import Quality
from preprocess.types import Image
from tests.support.images import centred_affine, head

LIMITS = Quality(max_spacing_mm=4.5, min_extent_mm=60.0)


def image_of(voxels: np.ndarray, spacing_mm: object = 4.0, dtype: str = "int16") -> Image:
    affine = centred_affine((*voxels.shape, 1, 1)[:3], spacing_mm)  # type: ignore[arg-type]
    return Image(voxels.astype(np.float32), affine, dtype)


def codes(image: Image) -> list[str]:
    findings = check_image(image, LIMITS, name="sub-01_T1w")
    for finding in findings:
        assert finding.leaves_out
        assert finding.message.startswith("sub-01_T1w: ")
        assert "\n" not in finding.message
    return [finding.code for finding in findings]


def test_a_plain_head_has_no_finding() -> None:
    assert codes(image_of(head())) == []


@pytest.mark.parametrize(("spacing_mm", "expected"), [(4.4, []), (4.6, ["too_coarse"]), (5.0, ["too_coarse"])])
def test_the_coarsest_axis_decides(spacing_mm: float, expected: list[str]) -> None:
    assert codes(image_of(head(), (1.5, 1.5, spacing_mm))) == expected


def test_a_slab_is_too_small() -> None:
    assert codes(image_of(head()[:, :, :14])) == ["too_small"]  # 56 mm
    assert codes(image_of(head()[:, :, :15])) == []  # 60 mm


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_voxel_in_many_is_found(bad: float) -> None:
    voxels = head().astype(np.float32)
    voxels[3, 4, 5] = bad
    assert codes(image_of(voxels)) == ["non_finite"]


def test_a_constant_image_is_empty() -> None:
    assert codes(image_of(np.full((48, 48, 48), 7))) == ["empty"]


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 48, 2)])
def test_only_3d_enters(shape: tuple[int, ...]) -> None:
    assert codes(image_of(np.zeros(shape))) == ["not_3d"]


def test_negative_values_wrapped_round_in_uint16_are_found() -> None:
    signed = head().astype(np.int32) - 40  # background noise below zero, as after a filter with side lobes
    wrapped = (signed % 65536).astype(np.uint16)
    assert wrapped.max() > 65_000
    assert codes(image_of(wrapped, dtype="uint16")) == ["wrapped"]
    few = head().astype(np.uint16)
    few[0, 0, :9] = 65_527  # the maximum of a public scan: nine below zero
    assert codes(image_of(few, dtype="uint16")) == ["wrapped"]


def test_a_scan_that_uses_all_of_uint16_is_not_taken_for_wrapped() -> None:
    full = (head().astype(np.float64) / head().max() * 65_500).astype(np.uint16)
    assert codes(image_of(full, dtype="uint16")) == []


def test_all_reasons_are_told_at_once() -> None:
    voxels = np.full((10, 48, 48), 3.0)
    assert codes(image_of(voxels, 5.0)) == ["too_coarse", "too_small", "empty"]


@pytest.mark.parametrize(
    ("away_mm", "expected"),
    [
        (1900.0, []),
        (2100.0, [("origin_far", False)]),
        (2e6, [("bad_geometry", True)]),
        (3e38, [("bad_geometry", True)]),
    ],
)
def test_a_scan_that_lies_where_no_scanner_puts_one_is_said(away_mm: float, expected: list[tuple[str, bool]]) -> None:
    image = image_of(head())
    image.affine[1, 3] += away_mm
    findings = check_image(image, LIMITS, name="x")
    assert [(finding.code, finding.leaves_out) for finding in findings] == expected
