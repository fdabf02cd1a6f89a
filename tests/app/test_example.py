"""The bundled example is the generator's, of the days and the age that are stated."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from app.example import VISIT_NAMES, example, example_file
from tests.support.example import NAMES, SEED, chosen, make


def test_days_and_age_are_those_of_the_person_that_was_generated() -> None:
    visits = [session.day for session in chosen().sessions if not session.rescan_of]

    assert VISIT_NAMES == NAMES
    assert [visit.day for visit in example().visits] == visits
    assert example().age == chosen().age
    assert chosen().trajectory == "declining"


def test_no_demo_has_trained_on_the_person() -> None:
    """The demo's cohort has seed 0; the person's is another, and each seed draws its own people."""
    assert SEED != 0


@pytest.mark.slow
def test_the_scans_are_what_the_generator_makes(tmp_path: Path) -> None:
    for name, image in make(tmp_path / "cohort").items():
        bundled = nib.load(example_file(name))
        np.testing.assert_allclose(bundled.affine, image.affine)
        # Another NumPy may round a voxel otherwise.
        difference = np.abs(np.asarray(bundled.dataobj, dtype=float) - np.asarray(image.dataobj, dtype=float))
        assert difference.max() <= 1


def test_each_file_is_small_and_a_head_of_two_millimetres() -> None:
    for name in VISIT_NAMES:
        assert example_file(name).stat().st_size < 700_000
        assert nib.load(example_file(name)).header.get_zooms()[0] <= 2.4
