"""A visit's modalities come from their own streams, each object requested once, and absent ones never."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import StoreError, UsageError
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, write_store
from tests.support.visits import ARRAYS, VOLUME, default_visits, stored_of, write_visits
from trainer.data.cohort import Cohort, read_visits
from trainer.data.stream import StreamOptions
from trainer.data.visits import VisitStream

NAMES = (*ARRAYS, VOLUME)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_visits(tmp_path / "store", default_visits(12, volume=True))


def batches_of(cohort: Cohort, size: int = 5) -> tuple[list[np.ndarray], list[np.ndarray]]:
    assert cohort.present_NM is not None
    parts = [slice(start, start + size) for start in range(0, len(cohort), size)]
    return [cohort.rows_N[part] for part in parts], [cohort.present_NM[part] for part in parts]


@pytest.mark.parametrize("reuse", [True, False])
def test_every_present_row_comes_as_stored_in_the_plans_order_and_absent_ones_are_zeros(
    store: Store, reuse: bool
) -> None:
    cohort = read_visits(store, NAMES, "impaired")
    rows, present = batches_of(cohort)
    visits = default_visits(12, volume=True)
    seen = 0
    with VisitStream(store, NAMES, rows, present, StreamOptions(reuse=reuse)) as stream:
        for rows_B, present_BM, batch in zip(rows, present, stream, strict=True):
            inputs, found_BM = batch.inputs(torch.device("cpu"))
            np.testing.assert_array_equal(found_BM.numpy(), present_BM)
            for index, row in enumerate(rows_B):
                for column, name in enumerate(NAMES):
                    stored = stored_of(visits[row], name).astype(np.float64) / (255 if name == VOLUME else 1)
                    expected = stored if name in visits[row].has else np.zeros_like(stored)
                    np.testing.assert_allclose(inputs[name][index].numpy(), expected, rtol=1e-6)
                    assert present_BM[index, column] == (name in visits[row].has)
                    seen += name in visits[row].has
    assert seen == stream.counts.requests == sum(len(visit.has) for visit in visits)
    assert stream.counts.bytes_fetched > 0


def test_a_modality_that_no_visit_of_a_batch_or_of_the_plan_has_comes_empty(store: Store) -> None:
    cohort = read_visits(store, NAMES, "impaired")
    rows, present = batches_of(cohort, size=4)
    present = [one.copy() for one in present]
    present[1][:, 0] = False
    for one in present:
        one[:, 4] = False
    with VisitStream(store, NAMES, rows, present, StreamOptions(reuse=True)) as stream:
        batches = [batch.inputs(torch.device("cpu"))[0] for batch in stream]
    assert not batches[1]["SC"].any()
    assert batches[0]["SC"].any()
    assert all(batch["T2"].shape == (4, 1, 32, 32, 32) and not batch["T2"].any() for batch in batches)
    assert stream.counts.requests == sum(int(one.sum()) for one in present)


def test_scans_are_visits_with_one_modality_and_samples_that_are_lost_are_named_by_their_indices(
    tmp_path: Path,
) -> None:
    store = write_store(tmp_path / "scans", default_scans(num_subjects=4, odd=False, rescans=False))
    store.location.delete(store.layout(MODALITY).key(7))
    rows = [np.array([[0, 1], [3, 4], [6, 7]]), np.array([[9, 10], [1, 2]])]
    present = [np.ones((batch.size, 1), dtype=np.bool_) for batch in rows]
    with VisitStream(store, (MODALITY,), rows, present, StreamOptions(max_left_out=1)) as stream:
        first, second = stream
    assert (first.left_out.tolist(), len(first), len(first.stored[MODALITY])) == ([2], 4, 4)
    assert (second.left_out.tolist(), len(second)) == ([], 4)
    for batch, kept in ((first, [0, 1, 3, 4]), (second, [9, 10, 1, 2])):
        inputs, present_NM = batch.inputs(torch.device("cpu"))
        expected = np.stack([store.read(row, MODALITY) for row in kept]).astype(np.float32) / 255
        np.testing.assert_allclose(inputs[MODALITY].numpy(), expected, rtol=1e-6)
        assert bool(present_NM.all())


def test_a_part_of_a_batch_is_that_part_of_the_whole_and_repeated_visits_stand_side_by_side(store: Store) -> None:
    cohort = read_visits(store, NAMES, "impaired")
    with VisitStream(store, NAMES, [cohort.rows_N], [cohort.presence_NM]) as stream:
        (batch,) = stream
    cpu = torch.device("cpu")
    whole, whole_NM = batch.inputs(cpu)
    twice, twice_NM = batch.repeated(2).inputs(cpu)
    assert torch.equal(twice_NM, whole_NM.repeat_interleave(2, dim=0))
    for name in NAMES:
        parts = [batch.inputs(cpu, part=slice(start, start + 5))[0][name] for start in range(0, len(batch), 5)]
        assert torch.equal(torch.cat(parts), whole[name])
        assert torch.equal(twice[name], whole[name].repeat_interleave(2, dim=0))


def test_a_row_said_to_be_there_whose_object_is_not_is_named(store: Store) -> None:
    cohort = read_visits(store, NAMES, "impaired")
    rows, present = batches_of(cohort)
    with (
        VisitStream(store, NAMES, rows, [np.ones_like(one) for one in present]) as stream,
        pytest.raises(StoreError, match="row 0 of SC: its object is missing"),
    ):
        list(stream)


def test_a_budget_below_two_batches_is_refused(store: Store) -> None:
    cohort = read_visits(store, NAMES, "impaired")
    with pytest.raises(UsageError, match="--budget-gb"):
        VisitStream(store, NAMES, *batches_of(cohort), StreamOptions(budget_bytes=10_000))
