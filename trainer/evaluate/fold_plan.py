"""Plans a cross-validation: who is tested, who validates and who trains in every fold, from subjects and scores alone.

Every subject with a score is tested once a repeat. Subjects without one only ever train.
Subjects that share scans of equal content are tested together, and then none of them trains. Nothing is read or
written.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from preprocess.errors import UsageError
from trainer.data.cohort import Cohort
from trainer.data.splits import Split, split_around
from trainer.metrics.folds import patient_folds
from trainer.metrics.repeated import FoldSize
from trainer.recipe import Task

MAX_BINS = 5
"""Bins of a continuous score. In fifths, a fold of 20 subjects holds 4 of each, so that its mean score hardly moves;
finer bins would add little, and each needs as many subjects as there are folds."""


@dataclass(frozen=True)
class PlannedFold:
    """One run to train and to measure.

    Attributes:
        repeat: which repeat it belongs to, from 0.
        number: which fold of the repeat, from 0.
        seed: seed of the fold's run; each fold has its own, so that first weights and batches vary with the division.
        split: who trains, validates and is tested.
        size: subjects with a score; those that validate count as training, since the model is chosen on them.
    """

    repeat: int
    number: int
    seed: int
    split: Split
    size: FoldSize

    @property
    def name(self) -> str:
        """Name of the fold's files and folders."""
        return f"repeat-{self.repeat:02d}-fold-{self.number:02d}"

    @property
    def split_sha256(self) -> str:
        """What distinguishes this division from another one."""
        return hashlib.sha256(json.dumps(asdict(self.split)).encode()).hexdigest()


def plan_folds(
    cohort: Cohort,
    *,
    outcome: str,
    task: Task,
    num_folds: int,
    num_repeats: int,
    validation: float,
    seed: int,
    train: float = 1.0,
) -> tuple[PlannedFold, ...]:
    """Divide a cohort by subject into folds that are alike in the outcome, and each fold's rest into two parts.

    Classes and grades are alike by value. A continuous score is by quantile bins of the subjects' mean scores: five, or
    fewer where a bin would hold fewer subjects than there are folds.

    Args:
        cohort: what the recipe reads of the store.
        outcome: name of the score, for messages.
        task: the recipe's task; it decides which values folds are made alike in.
        num_folds: number of folds in each repeat, at least 2.
        num_repeats: at least 1; more of them leave the first ones as they were.
        validation: fraction of a fold's training subjects that validates.
        seed: decides the folds, the parts within each and the runs' seeds.
        train: fraction of the rest that trains.

    Returns:
        num_folds * num_repeats folds, repeat by repeat.

    Raises:
        UsageError: nobody has a score, a class has fewer subjects than there are folds, too few subjects are left to
            train on, or a classification has not two classes.
    """
    if num_folds < 2 or num_repeats < 1:
        raise UsageError(f"{num_folds} folds and {num_repeats} repeats; at least 2 folds and 1 repeat are needed")
    scored = cohort.scored()
    if not len(scored):
        raise UsageError(f"no subject of the store has {outcome}, so there is nothing to test; check the tables")
    if task in ("severity", "classification"):
        values = np.unique(scored.scores_N)
        if task == "classification" and len(values) != 2:
            raise UsageError(f"task is 'classification' and {outcome} has {len(values)} values; it needs two")
        subjects = list(scored.subject_ids)
        labels = [_class_name(outcome, score) for score in scored.scores_N]
        # A subject whose scans differ counts as its highest when the validation subjects are chosen.
        known = {
            subject: _class_name(outcome, scored.scores_N[indices].max())
            for subject, indices in scored.indices_by_subject.items()
        }
    else:
        known = score_bins(
            {subject: scored.scores_N[indices].mean() for subject, indices in scored.indices_by_subject.items()},
            outcome=outcome,
            num_folds=num_folds,
        )
        subjects, labels = list(known), list(known.values())
    everyone = {subject: known.get(subject) for subject in cohort.indices_by_subject}
    planned = []
    groups = [cohort.group_of[subject] for subject in subjects]
    for fold in patient_folds(groups, labels, num_folds=num_folds, num_repeats=num_repeats, seed=seed):
        split = split_around(
            everyone,
            {subjects[row] for row in fold.test_L},
            validation=validation,
            train=train,
            seed=(seed, fold.repeat, fold.number),
            together=cohort.together,
        )
        num_train = len((split.of("train") | split.of("validation")) & known.keys())
        state = np.random.SeedSequence([seed, fold.repeat, fold.number]).generate_state(1)[0]
        planned.append(
            PlannedFold(
                repeat=fold.repeat,
                number=fold.number,
                seed=int(state) >> 1,  # 31 bits, which every library takes
                split=split,
                size=FoldSize(fold.repeat, num_train, len(split.test)),
            )
        )
    return tuple(planned)


def score_bins(score_by_subject: Mapping[str, float], *, outcome: str, num_folds: int) -> dict[str, str]:
    """Quantile bins of subjects by score, each with a name that states its range.

    Args:
        score_by_subject: one score each.
        outcome: name of the score.
        num_folds: least subjects of a bin, where there are as many at all.
    """
    ordered = sorted(score_by_subject, key=lambda subject: (score_by_subject[subject], subject))
    num_bins = int(np.clip(len(ordered) // num_folds, 1, MAX_BINS))
    bins: dict[str, str] = {}
    for indices in np.array_split(np.arange(len(ordered)), num_bins):
        low, high = (score_by_subject[ordered[index]] for index in (indices[0], indices[-1]))
        bins |= {ordered[index]: f"{outcome} {low:g} to {high:g}" for index in indices}
    return bins


def _class_name(outcome: str, score: float) -> str:
    return f"{outcome} {score:g}"
