"""Repeated cross-validation whose folds never split a patient: rows in, rows out.

The same labels, subjects and seed give the same folds in whatever order the rows come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from preprocess.errors import UsageError

Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]

MAX_SHUFFLES = 50
"""Subjects whose scans differ in label can leave a fold without a class; as many shuffles are tried to avoid it."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the rows into training and test subjects.

    Attributes:
        repeat: which repeat it belongs to, from 0.
        number: which fold of the repeat, from 0.
        train_K: rows of the training subjects, ascending.
        test_L: rows of the test subjects, ascending; over the folds of a repeat every row is tested once.
    """

    repeat: int
    number: int
    train_K: Integers
    test_L: Integers


def fewest_subjects(subject_ids_N: Names, labels_N: npt.ArrayLike) -> tuple[str, int]:
    """The class that the fewest subjects have, and how many: the most folds that can each hold every class.

    Args:
        subject_ids_N: (N,) who.
        labels_N: (N,) classes.
    """
    subject_N, label_N, names = _checked(subject_ids_N, labels_N)
    pairs = np.unique(np.column_stack([label_N, subject_N]), axis=0)
    count_C = np.bincount(pairs[:, 0], minlength=len(names))
    rarest = int(count_C.argmin())
    return names[rarest], int(count_C[rarest])


def patient_folds(
    subject_ids_N: Names, labels_N: npt.ArrayLike, *, num_folds: int, num_repeats: int, seed: int
) -> tuple[Fold, ...]:
    """Divide rows into folds by subject, alike in classes, several times over.

    Every test fold holds every class, so that scores such as AUC exist in each.

    Args:
        subject_ids_N: (N,) who; rows of one subject stay together.
        labels_N: (N,) classes; a continuous score is to be binned before.
        num_folds: folds of a repeat, at least 2.
        num_repeats: repeats, each with another shuffle, at least 1.
        seed: the same seed gives the same folds; more repeats leave the first ones as they were.

    Returns:
        num_folds * num_repeats folds, repeat by repeat.

    Raises:
        UsageError: a class has fewer subjects than there are folds, or no shuffle gives every fold every class.
        ValueError: no rows, unequal lengths, labels that are no classes, or too few folds or repeats.
    """
    subject_N, label_N, names = _checked(subject_ids_N, labels_N)
    if num_folds < 2 or num_repeats < 1:
        raise ValueError(f"num_folds is {num_folds} (at least 2), num_repeats is {num_repeats} (at least 1)")
    rarest, count = fewest_subjects(subject_N, np.asarray(names)[label_N])
    if count < num_folds:
        raise UsageError(
            f"class {rarest} has {count} subjects, fewer than the {num_folds} folds; "
            f"lower the number of folds to {max(count, 2)} or bring more subjects"
        )
    folds: list[Fold] = []
    for repeat in range(num_repeats):
        tests = _shuffled_tests(subject_N, label_N, num_folds, [seed, repeat])
        for number, test_L in enumerate(tests):
            rest = np.ones(len(label_N), dtype=bool)
            rest[test_L] = False
            folds.append(Fold(repeat, number, np.flatnonzero(rest), test_L))
    return tuple(folds)


def _shuffled_tests(subject_N: Integers, label_N: Integers, num_folds: int, entropy: list[int]) -> list[Integers]:
    num_classes = int(label_N.max()) + 1
    for shuffle in range(MAX_SHUFFLES):
        state = int(np.random.SeedSequence([*entropy, shuffle]).generate_state(1)[0])
        splitter = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=state)
        tests = [np.asarray(test, dtype=np.int64) for _, test in splitter.split(label_N, label_N, subject_N)]
        if all(len(np.unique(label_N[test])) == num_classes for test in tests):
            return tests
    raise UsageError(
        f"none of {MAX_SHUFFLES} shuffles gives each of {num_folds} folds every class, since subjects have scans of "
        "several classes; lower the number of folds"
    )


def _checked(subject_ids_N: Names, labels_N: npt.ArrayLike) -> tuple[Integers, Integers, list[str]]:
    """Numbers for subjects and classes in sorted order, and the names of the classes."""
    subjects, labels = np.asarray(subject_ids_N), np.asarray(labels_N)
    if subjects.ndim != 1 or subjects.shape != labels.shape or labels.size == 0:
        raise ValueError(f"subjects {subjects.shape} and labels {labels.shape} must be equal, non-empty vectors")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise ValueError("labels hold numbers that are no classes; bin a continuous score before it is divided")
    names, label_N = np.unique(labels, return_inverse=True)
    subject_N = np.unique(subjects, return_inverse=True)[1]
    return subject_N.astype(np.int64), label_N.astype(np.int64), [str(name) for name in names]
