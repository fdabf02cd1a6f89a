"""Batches a program gives are checked before anything is read, and come as the store holds them, in the order given."""

import numpy as np
import pytest
import torch

from interscan import InterscanError, VolumeStream, open_store
from preprocess.errors import StoreError, UsageError
from tests.support.stores import volumes, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "store"
    write_store(folder, 6, left_out=(3,))
    return open_store(folder)


def read(store, batches, **options):
    with VolumeStream(store, "T1w", batches, **options) as stream:
        return [batch.numpy() for batch in stream]


@pytest.mark.parametrize(
    "batches",
    [
        [[5, 0], [1, 1, 2]],
        [(5, 0), (1, 1, 2)],
        [np.array([5, 0], np.int32), np.array([1, 1, 2], np.uint8)],
        [torch.tensor([5, 0]), torch.tensor([1, 1, 2])],
        (rows for rows in ([5, 0], [1, 1, 2])),
    ],
    ids=["lists", "tuples", "arrays", "tensors", "generator"],
)
def test_batches_come_in_the_order_given_however_they_are_written_down(store, batches):
    first, second = read(store, batches)

    np.testing.assert_array_equal(first, volumes(6)[[5, 0]])
    np.testing.assert_array_equal(second, volumes(6)[[1, 1, 2]])


def test_several_volumes_of_a_sample_stand_on_an_axis_of_their_own(store):
    (batch,) = read(store, [[[0, 1], [2, 5]]])

    np.testing.assert_array_equal(batch, volumes(6)[[[0, 1], [2, 5]]])


def test_no_batches_are_no_error(store):
    assert read(store, []) == []


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([[0], [6]], r"batches\[1\]: no row 6 among the 5 rows of T1w"),
        ([[0, -1]], r"batches\[0\]: no row -1 among"),
        ([[3]], r"no row 3 .* it was left out: row 3: empty; export the scan again; take rows of records"),
        ([[]], r"batches\[0\] has shape \(0,\)"),
        ([0, 1], r"batches\[0\] has shape \(\)"),
        ([[0.0, 1.0]], "dtype float64"),
        ([[True, False]], "dtype bool"),
        ([["0"]], "give row numbers"),
        ([[[[0]]]], r"shape \(1, 1, 1\)"),
        ([[[0, 1], [2]]], r"batches\[0\] is no array of row numbers: .*; give every sample equally many rows"),
    ],
)
def test_a_batch_that_names_no_rows_of_the_store_is_refused_in_one_line(store, batches, words):
    with pytest.raises(UsageError, match=words) as caught:
        VolumeStream(store, "T1w", batches)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_flight": 0}, "in_flight is 0; it must be at least 1"),
        ({"max_left_out": -1}, "max_left_out is -1; it must be at least 0"),
        ({"budget_bytes": 100}, r"two batches of 2 volumes take .* budget is .*budget_bytes"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_limit(store, options, words):
    with pytest.raises(UsageError, match=words):
        VolumeStream(store, "T1w", [[0, 1]], **options)


def test_a_place_in_the_stead_of_an_open_store_is_refused_with_what_to_give():
    with pytest.raises(UsageError, match="store is of type str; give what open_store returns"):
        VolumeStream("store", "T1w", [[0]])


def test_an_unknown_modality_is_refused_with_those_of_the_store(store):
    with pytest.raises(StoreError, match="no modality 'T2w'; the store has T1w"):
        VolumeStream(store, "T2w", [[0]])


def test_a_row_lost_since_is_named_or_left_out_as_asked(tmp_path):
    store = write_store(tmp_path / "store", 4)
    store.location.delete(store.layout("T1w").key(2))

    with pytest.raises(InterscanError, match="row 2 of T1w: its object is missing"):
        read(store, [[0, 2]])
    with VolumeStream(store, "T1w", [[0, 2]], max_left_out=1) as stream:
        (batch,) = [(voxels.numpy().copy(), stream.kept.tolist()) for voxels in stream]
    np.testing.assert_array_equal(batch[0], volumes(4)[[0]])
    assert batch[1] == [0]
