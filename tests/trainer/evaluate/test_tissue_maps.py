"""Shares of tissue by block against a head that was made of known tissues; nothing where there are none."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.tissue import STORED_MEANS
from preprocess.transforms import to_stored
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from tests.support.cohorts import MODALITY, TinyScan, record, write_store
from trainer.evaluate.tissue_maps import tissue_maps

CSF, GREY, WHITE = STORED_MEANS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two volumes of brightness by tissue: left half CSF and right half white matter; grey matter with a black edge."""
    volumes = [np.full((1, 16, 16, 16), CSF), np.full((1, 16, 16, 16), GREY)]
    volumes[0][:, 8:] = WHITE
    volumes[1][:, :4] = 0.0
    location = Location(tmp_path / "tissue")
    recipe = VolumeRecipe(grid=(16, 16, 16), spacing_mm=12.0, intensity="tissue")
    prepare_arrays(location, recipe, [MODALITY], 2)
    array, records = open_rows(location, MODALITY), []
    for row, unit in enumerate(volumes):
        voxels = to_stored(unit.astype(np.float32), "uint8")
        write_row(array, location.uri, row, voxels)
        records.append(record(row, TinyScan(f"sub-{row}", "ses-1", 0.0, 25.0), voxels))
    commit(location, recipe, records)
    return Store.open(location)


def test_shares_are_those_of_the_blocks_and_air_is_no_tissue(store: Store) -> None:
    found = tissue_maps(store, MODALITY, [0, 1], 4)
    assert found is not None
    csf, white = found.reshape(2, 2, 4, 4, 4).swapaxes(0, 1)
    np.testing.assert_allclose(csf[0, :2], 1, atol=0.02)  # rounded to 255 steps
    np.testing.assert_allclose(csf[0, 2:], 0, atol=0.02)
    np.testing.assert_allclose(white[0, :2], 0, atol=0.02)
    np.testing.assert_allclose(white[0, 2:], 1, atol=0.02)
    np.testing.assert_allclose(found[1], 0, atol=0.02)


def test_a_grid_that_does_not_divide_the_volume_gives_none(store: Store) -> None:
    assert tissue_maps(store, MODALITY, [0, 1], 5) is None


def test_scans_that_show_no_tissues_give_none_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = write_store(tmp_path / "store")
    assert tissue_maps(noise, MODALITY, [0, 1, 2], 4) is None
    assert "3 of 3 scans of T1w do not show three tissues" in caplog.text
