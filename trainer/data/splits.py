"""Splits by subject, made before any pair is; a pure function of the subjects and the seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from preprocess.errors import UsageError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Which subjects train, validate and test; the split manifest is this as JSON.

    Attributes:
        train: subjects that everything fitted sees.
        validation: subjects that choose and calibrate.
        test: subjects that nothing sees before `evaluate`.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, name: str) -> frozenset[str]:
        """The subjects of one part."""
        parts: Mapping[str, tuple[str, ...]] = {"train": self.train, "validation": self.validation, "test": self.test}
        return frozenset(parts[name])


def split_subjects(
    subject_ids: Iterable[str], *, validation: float, test: float, seed: int, train: float = 1.0
) -> Split:
    """Divide subjects at random into three parts.

    Args:
        subject_ids: in any order, repeats allowed.
        validation: fraction of subjects that validate, rounded, at least one.
        test: fraction of subjects that are held out, rounded, at least one.
        seed: the same seed and subjects give the same split.
        train: fraction of all others that trains, rounded, at least one; a larger one holds the smaller.

    Raises:
        UsageError: fewer than three subjects, or nothing left to train on.
    """
    ordered = sorted(set(subject_ids))
    num_validation = max(1, round(validation * len(ordered)))
    num_test = max(1, round(test * len(ordered)))
    if len(ordered) - num_validation - num_test < 1:
        raise UsageError(
            f"{len(ordered)} subjects cannot be split into training, {num_validation} validation and {num_test} test "
            "subjects; bring more subjects or lower split.validation and split.test"
        )
    shuffled = [ordered[place] for place in np.random.default_rng([seed, 0x5B11]).permutation(len(ordered))]
    rest = shuffled[num_validation + num_test :]
    rest = rest[: max(1, round(train * len(rest)))]
    return Split(
        train=tuple(sorted(rest)),
        validation=tuple(sorted(shuffled[:num_validation])),
        test=tuple(sorted(shuffled[num_validation : num_validation + num_test])),
    )
