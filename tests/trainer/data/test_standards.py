"""Means and sds are NumPy's over the given rows, per column where columns are quantities of their own."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import StoreError
from preprocess.writer import open_rows, write_row
from tests.support.visits import ARRAYS, default_visits, write_visits
from trainer.data.standards import fit_standard, standard_shape


@pytest.mark.parametrize(("row_shape", "shape"), [((4,), (4,)), ((87, 20), (20,)), ((87, 87), ())])
def test_columns_of_tables_stand_for_themselves_and_the_entries_of_connectomes_together(
    row_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert standard_shape(row_shape) == shape


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_mean_and_sd_are_numpys_over_the_rows_requested(tmp_path: Path, name: str) -> None:
    visits = default_visits(40)
    store = write_visits(tmp_path, visits)
    rows_N = np.array([row for row, visit in enumerate(visits) if name in visit.has and row % 5])
    assert len(rows_N) > 20  # more than one batch of the stream
    stored = np.stack([store.read(int(row), name) for row in rows_N]).astype(np.float64)
    axes = None if name in ("SC", "FC") else tuple(range(stored.ndim - 1))
    found = fit_standard(store, name, rows_N)
    np.testing.assert_allclose(found.mean, stored.mean(axis=axes), rtol=1e-12)
    np.testing.assert_allclose(found.sd, stored.std(axis=axes), rtol=1e-12)


def test_a_feature_that_never_changes_is_not_divided_by_zero(tmp_path: Path) -> None:
    store = write_visits(tmp_path)
    standard = fit_standard(store, "clinical", np.array([1, 1]))
    np.testing.assert_array_equal(standard.sd, np.ones(4))
    np.testing.assert_array_equal(standard.mean, store.read(1, "clinical"))


def test_a_row_with_nan_is_named(tmp_path: Path) -> None:
    store = write_visits(tmp_path)
    write_row(open_rows(store.location, "clinical"), "", 2, np.array([1, np.nan, 0, 0], dtype=np.float32))
    with pytest.raises(StoreError, match="row 2 of clinical holds NaN or infinity"):
        fit_standard(store, "clinical", np.array([1, 2, 4]))
