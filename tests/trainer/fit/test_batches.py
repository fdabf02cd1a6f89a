"""The batches of a run hold the planned scans with their own labels, view by view, the same ones in every process."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, write_store
from tests.support.loops import EXACT
from tests.support.visits import ARRAYS, default_visits, stored_of, write_visits
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort, read_cohort, read_visits
from trainer.data.sampling import Sampler, Sampling
from trainer.fit.batches import TrainingBatches
from trainer.fit.supply import Supply, SupplyOptions

OFF = Augment(flip=0.0, shift_voxels=0, gain=0.0, noise=0.0)
STRONG = Augment(flip=0.5, shift_voxels=2, gain=0.2, noise=0.05)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=6, odd=False))


def batches_of(
    store: Store, cohort: Cohort, modalities: tuple[str, ...], *, sampling: Sampling, **settings: object
) -> TrainingBatches:
    sampler = Sampler(cohort, sampling=sampling, batch_size=4, subjects_per_epoch=1.0, seed=3)
    supply = Supply(store, modalities, num_volumes=len(cohort), options=SupplyOptions(), compute=EXACT)
    return TrainingBatches(sampler, supply, compute=EXACT, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sampling", "num_views"), [("pairs", 1), ("scans", 2)])
def test_views_without_augmentation_are_the_stored_scans_with_their_own_labels(
    store: Store, sampling: Sampling, num_views: int
) -> None:
    cohort = read_cohort(store, MODALITY, "mmse")
    batches = batches_of(store, cohort, (MODALITY,), sampling=sampling, augment={MODALITY: OFF}, num_views=num_views)
    plan = batches.sampler.batches(0)
    with batches.supply, batches.read(plan) as stream:
        for number, (indices_BK, read) in enumerate(zip(plan, stream, strict=True)):
            views = batches.views(indices_BK, read, epoch=0, batch=number)
            inputs, present_NM = views.inputs(slice(0, len(views)))
            seen_N = indices_BK.repeat(num_views, axis=1).ravel()
            stored = np.stack([store.read(int(row), MODALITY) for row in cohort.rows_N[seen_N]])
            np.testing.assert_allclose(inputs[MODALITY].numpy(), stored / 255, atol=1e-6)
            assert present_NM.shape == (len(seen_N), 1)
            assert bool(present_NM.all())
            labels = batches.labels(indices_BK)
            np.testing.assert_array_equal(labels.scores_BK.ravel(), cohort.scores_N[seen_N].astype(np.float32))
            np.testing.assert_array_equal(labels.days_BK.ravel(), cohort.days_N[seen_N].astype(np.float32))
            assert batches.subjects(indices_BK) == [cohort.subject_ids[index] for index in seen_N]


def test_views_depend_on_epoch_and_batch_alone_and_parts_are_those_of_the_whole(store: Store) -> None:
    cohort = read_cohort(store, MODALITY, "mmse")
    batches = batches_of(store, cohort, (MODALITY,), sampling="scans", augment={MODALITY: STRONG}, num_views=2)
    indices_BK = batches.sampler.batches(0)[0]
    with batches.supply, batches.read([indices_BK]) as stream:
        (read,) = stream
    first, again, other = (
        batches.views(indices_BK, read, epoch=epoch, batch=2).inputs(slice(0, 2 * indices_BK.size))[0][MODALITY]
        for epoch in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])  # two views of one scan
    views = batches.views(indices_BK, read, epoch=1, batch=2)
    parts = [views.inputs(slice(start, start + 3))[0][MODALITY] for start in range(0, len(views), 3)]
    assert torch.equal(torch.cat(parts), first)


def test_visits_with_several_modalities_come_as_stored_with_zeros_for_what_is_absent(tmp_path: Path) -> None:
    visits = default_visits(9)
    store = write_visits(tmp_path / "visits", visits)
    cohort = read_visits(store, tuple(ARRAYS), "impaired")
    batches = batches_of(store, cohort, tuple(ARRAYS), sampling="scans", augment={})
    plan = batches.sampler.batches(0)
    with batches.supply, batches.read(plan) as stream:
        for number, (indices_BK, read) in enumerate(zip(plan, stream, strict=True)):
            views = batches.views(indices_BK, read, epoch=0, batch=number)
            for index, row in enumerate(cohort.rows_N[indices_BK[:, 0]]):
                inputs, present_1M = views.inputs(slice(index, index + 1))
                for column, (name, shape) in enumerate(ARRAYS.items()):
                    has = name in visits[row].has
                    assert bool(present_1M[0, column]) is has
                    expected = stored_of(visits[row], name) if has else np.zeros(shape, np.float32)
                    np.testing.assert_array_equal(inputs[name][0].numpy(), expected)
