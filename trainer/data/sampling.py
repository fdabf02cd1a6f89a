"""The batches of an epoch: a pure function of the cohort, the seed and the epoch.

A batch holds each subject at most once, since two scans of one subject in a batch are false negatives. Of subjects that
share scans of equal content an epoch draws one, for they may be one person. Subjects are divided evenly over the
batches of a round, so that no batch is a small remainder and no scan is planned twice.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError
from trainer.data.cohort import Cohort

Sampling = Literal["pairs", "scans", "visits"]
Batches = list[npt.NDArray[np.int64]]
"""One array a batch, shape (B, K): indices in the cohort of B subjects' K scans, earlier first."""
MIN_BATCH = 2
"""In-batch objectives need another subject to compare with."""


@dataclass(frozen=True)
class Sampler:
    """The batches of every epoch of a run; arguments of `plan_epoch`, without the epoch.

    Sampler(cohort, sampling="pairs", batch_size=16, subjects_per_epoch=1.0, seed=0).batches(epoch=3)
    """

    cohort: Cohort
    sampling: Sampling
    batch_size: int
    subjects_per_epoch: float
    seed: int
    num_visits: int = 3

    def batches(self, epoch: int) -> Batches:
        """The batches of an epoch, counted from 0; see `plan_epoch`."""
        return plan_epoch(
            self.cohort,
            sampling=self.sampling,
            num_visits=self.num_visits,
            batch_size=self.batch_size,
            subjects_per_epoch=self.subjects_per_epoch,
            seed=self.seed,
            epoch=epoch,
        )


def plan_epoch(
    cohort: Cohort,
    *,
    sampling: Sampling,
    batch_size: int,
    subjects_per_epoch: float,
    seed: int,
    epoch: int,
    num_visits: int = 3,
) -> Batches:
    """The batches of one epoch.

    Args:
        cohort: training scans.
        sampling: `pairs`: two visits of different days a subject (K = 2), drawn anew each epoch; `visits`: the same
            with `num_visits`; `scans`: every scan of the drawn subjects once, single (K = 1). A subject with more scans
            than there are batches waits with the rest, drawn anew each epoch: its scans may not meet each other.
        batch_size: subjects a batch, at most; one or a few more where a scan would be left alone.
        subjects_per_epoch: fraction of the subjects drawn each epoch, in (0, 1].
        seed: the run's seed; the same seed and epoch give the same batches.
        epoch: counted from 0.
        num_visits: K of `visits`; subjects with fewer days are left out.

    Raises:
        UsageError: too few subjects for a batch of two.
    """
    rng = np.random.default_rng([seed, epoch, 0xBA7C])
    num_together = {"pairs": 2, "visits": num_visits, "scans": 1}[sampling]
    usable = _visits_of_days(cohort, num_together) if num_together > 1 else cohort.indices_by_subject
    num_groups = len({cohort.group_of[subject] for subject in usable})
    if num_groups < MIN_BATCH:
        what = {1: "a scan", 2: "visits on two days"}.get(num_together, f"visits on {num_together} days")
        raise UsageError(
            f"{num_groups} training subjects have {what}; {MIN_BATCH} are the least a batch can hold; bring more "
            "subjects, or choose data.sampling = 'scans' where days are unknown"
        )
    subjects = sorted(usable)
    num_drawn = max(MIN_BATCH, round(subjects_per_epoch * num_groups))
    one_of_each: dict[str, str] = {}
    for index in rng.permutation(len(subjects)):
        one_of_each.setdefault(cohort.group_of[subjects[index]], subjects[index])
    drawn = list(one_of_each.values())[:num_drawn]
    if num_together > 1:
        samples = np.array(
            [np.sort(rng.choice(usable[subject], size=num_together, replace=False)) for subject in drawn]
        )
        return _divide(samples, batch_size)
    # Round r holds the r-th scan, in random order, of every subject that has so many: no subject twice in a batch.
    shuffled = [rng.permutation(usable[subject]) for subject in drawn]
    batches: Batches = []
    left_over: list[npt.NDArray[np.int64]] = []
    for turn in range(max(len(indices) for indices in shuffled)):
        scans = np.array([[indices[turn]] for indices in shuffled if len(indices) > turn])
        scans = scans[rng.permutation(len(scans))]
        if len(scans) >= MIN_BATCH:
            batches.extend(_divide(scans, batch_size))
        else:
            left_over.append(scans)
    for scans in left_over:
        _place_singles(batches, scans, cohort)
    return [batches[index] for index in rng.permutation(len(batches))]


def _visits_of_days(cohort: Cohort, num_days: int) -> dict[str, list[int]]:
    """One scan index for each day of every subject with at least so many days."""
    visits: dict[str, list[int]] = {}
    for subject_id, indices in cohort.indices_by_subject.items():
        by_day = {
            float(cohort.days_N[index]): index for index in reversed(indices) if not np.isnan(cohort.days_N[index])
        }
        if len(by_day) >= num_days:
            visits[subject_id] = [by_day[day] for day in sorted(by_day)]
    return visits


def _divide(samples_SK: npt.NDArray[np.int64], batch_size: int) -> Batches:
    num_batches = -(-len(samples_SK) // batch_size)
    if len(samples_SK) // num_batches < MIN_BATCH:
        num_batches = max(1, len(samples_SK) // MIN_BATCH)
    return list(np.array_split(samples_SK, num_batches))


def _place_singles(batches: Batches, scans: npt.NDArray[np.int64], cohort: Cohort) -> None:
    """Put the scans of a round too small for a batch into the smallest batches that lack their subject."""
    codes_N = cohort.subject_codes_N
    for scan in scans:
        fitting = [index for index, batch in enumerate(batches) if codes_N[scan[0]] not in codes_N[batch[:, 0]]]
        if fitting:
            smallest = min(fitting, key=lambda index: (len(batches[index]), index))
            batches[smallest] = np.concatenate([batches[smallest], scan[None]])
