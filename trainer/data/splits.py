"""Splits by subject, made before any pair is; a pure function of the subjects and the seed."""

from collections.abc import Iterable, Mapping, Sequence
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


def split_around(
    class_by_subject: Mapping[str, str | None],
    test: Iterable[str],
    *,
    validation: float,
    seed: Sequence[int],
    train: float = 1.0,
) -> Split:
    """Divide the subjects that a fold does not test into validation and training, alike in classes.

    Args:
        class_by_subject: every subject with its class; None for those without a score, who only ever train.
        test: the fold's test subjects.
        validation: fraction of the others of each class that validates, rounded, at least one where a class has two.
        seed: the same numbers and subjects give the same split.
        train: fraction of each class's rest that trains, rounded, at least one; a larger one holds the smaller.

    Raises:
        UsageError: nobody is left to validate, or to train on.
    """
    held_out = frozenset(test)
    by_class: dict[str | None, list[str]] = {}
    for subject in sorted(class_by_subject.keys() - held_out):
        by_class.setdefault(class_by_subject[subject], []).append(subject)
    generator = np.random.default_rng([*seed, 0x5B12])
    chosen: dict[str, list[str]] = {"train": [], "validation": []}
    for name in sorted(by_class, key=lambda name: (name is None, name or "")):
        own = by_class[name]
        shuffled = [own[place] for place in generator.permutation(len(own))]
        num_validation = 0
        if name is not None and len(own) > 1:
            num_validation = min(max(1, round(validation * len(own))), len(own) - 1)
        rest = shuffled[num_validation:]
        chosen["validation"] += shuffled[:num_validation]
        chosen["train"] += rest[: max(1, round(train * len(rest)))]
    if not chosen["validation"] or not chosen["train"]:
        raise UsageError(
            f"{sum(map(len, by_class.values()))} subjects outside a fold of {len(held_out)} leave "
            f"{len(chosen['validation'])} to validate and {len(chosen['train'])} to train on; bring more subjects"
        )
    return Split(
        train=tuple(sorted(chosen["train"])),
        validation=tuple(sorted(chosen["validation"])),
        test=tuple(sorted(held_out)),
    )
