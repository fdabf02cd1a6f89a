"""Where planes lie, from made-up frames; test_dicom_series has the same with files and dcm2niix."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.dicom_geometry import arrange, plane_of, split_volumes
from preprocess.dicom_headers import Frame
from preprocess.errors import ScanError
from tests.support.series import AXIAL, CORONAL, SAGITTAL


def frames(count: int = 10, step_mm: float = 1.5) -> list[Frame]:
    return [Frame((8, 6), (-10.0, -20.0, index * step_mm), AXIAL, (2.0, 3.0)) for index in range(count)]


def test_columns_rows_and_slices_are_the_axes_and_lps_becomes_ras() -> None:
    stack = arrange(frames(), name="x")
    np.testing.assert_allclose(
        stack.affine, [[-3, 0, 0, 10], [0, -2, 0, 20], [0, 0, 1.5, 0], [0, 0, 0, 1]], rtol=0, atol=1e-12
    )
    assert stack.step_mm == pytest.approx(1.5)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(10)))
def test_the_order_of_files_does_not_count(order: list[int]) -> None:
    made = frames()
    stack = arrange([made[index] for index in order], name="x")
    assert [order[place[0]] for place in stack.places] == list(range(10))


def test_planes_at_one_place_stay_together() -> None:
    stack = arrange([*frames(), frames()[3]], name="x")
    assert stack.places[3] == (3, 10)


def test_several_volumes_are_told_apart_by_their_headers() -> None:
    both = [*frames(), *(replace(frame, echo=(30.0, 2.0)) for frame in frames())]
    assert split_volumes(both) == [list(range(10)), list(range(10, 20))]
    with pytest.raises(ScanError, match="2 echoes in one series"):
        arrange(both, name="x")


@pytest.mark.parametrize(
    ("orientation", "plane"), [(AXIAL, "axial"), (SAGITTAL, "sagittal"), (CORONAL, "coronal"), ((), "")]
)
def test_the_plane_has_the_name_of_the_field(orientation: tuple[float, ...], plane: str) -> None:
    assert plane_of(orientation) == plane


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_no_geometry(value: float) -> None:
    made = frames()
    made[2] = replace(made[2], position_mm=(0.0, value, 3.0))
    with pytest.raises(ScanError, match="1 of 10 slices have no ImagePositionPatient") as caught:
        arrange(made, name="x")
    assert caught.value.finding.code == "geometry_bad"
