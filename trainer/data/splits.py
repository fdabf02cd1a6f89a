"""Splits by subject, made before any pair is; a pure function of the subjects and the seed.

Persons of whom scans have equal content are divided as one: what is learned of the one is known of the other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.errors import UsageError

SPLITS = ("train", "validation", "test")
_Unit = tuple[str, ...]
"""Subjects that stay on one side of a split; mostly one."""


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
    subject_ids: Iterable[str],
    *,
    validation: float,
    test: float,
    seed: int,
    train: float = 1.0,
    together: Collection[frozenset[str]] = (),
) -> Split:
    """Divide subjects at random into three parts.

    Args:
        subject_ids: in any order, repeats allowed.
        validation: fraction of subjects that validate, rounded, at least one.
        test: fraction of subjects that are held out, rounded, at least one.
        seed: the same seed and subjects give the same split.
        train: fraction of all others that trains, rounded, at least one; a larger one holds the smaller.
        together: disjoint sets of subjects that stay on one side. One that is larger than what a part still lacks goes
            to a later part, training last; a part into which none fits gets the smallest.

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
    units = _units(ordered, together)
    shuffled = [units[index] for index in np.random.default_rng([seed, 0x5B11]).permutation(len(units))]
    chosen, shuffled = _fill(shuffled, num_validation)
    held_out, rest = _fill(shuffled, num_test)
    if not (chosen and held_out and rest):
        raise UsageError(
            f"{len(ordered)} subjects cannot be split into training, validation and test subjects: they share scans "
            f"of equal content, and {len(units)} groups of them share none with each other; bring more subjects"
        )
    return Split(
        train=_flat(_share(rest, train)),
        validation=_flat(chosen),
        test=_flat(held_out),
    )


def split_around(
    class_by_subject: Mapping[str, str | None],
    test: Iterable[str],
    *,
    validation: float,
    seed: Sequence[int],
    train: float = 1.0,
    together: Collection[frozenset[str]] = (),
) -> Split:
    """Divide the subjects that a fold does not test into validation and training, alike in classes.

    Args:
        class_by_subject: every subject with its class; None for those without a score, who only ever train.
        test: the fold's test subjects.
        validation: fraction of the others of each class that validates, rounded, at least one where a class has two.
        seed: the same numbers and subjects give the same split.
        train: fraction of each class's rest that trains, rounded, at least one; a larger one holds the smaller.
        together: disjoint sets of subjects that stay on one side: with a tested one the others do not train, and of the
            rest each counts as one subject, of the first class that its subjects have.

    Raises:
        UsageError: nobody is left to validate, or to train on.
    """
    held_out = frozenset(test)
    beside = held_out.union(*(group for group in together if group & held_out))
    by_class: dict[str | None, list[_Unit]] = {}
    for unit in _units(sorted(class_by_subject.keys() - beside), together):
        known = (class_by_subject[subject] for subject in unit)
        by_class.setdefault(next((name for name in known if name is not None), None), []).append(unit)
    generator = np.random.default_rng([*seed, 0x5B12])
    chosen: dict[str, list[_Unit]] = {"train": [], "validation": []}
    for name in sorted(by_class, key=lambda name: (name is None, name or "")):
        own = by_class[name]
        shuffled = [own[index] for index in generator.permutation(len(own))]
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
        train=_flat(chosen["train"]),
        validation=_flat(chosen["validation"]),
        test=tuple(sorted(held_out)),
    )


def member_splits(
    split: Split, num_members: int, *, seed: int, together: Collection[frozenset[str]] = ()
) -> tuple[Split, ...]:
    """Divide the training subjects into as many parts as an ensemble has members; each member trains without one part.

    Each training subject is thus unseen by one member, whose answers for it are as good as held out.

    Args:
        split: that of the whole run.
        num_members: at least 2.
        seed: the same seed and split give the same parts.
        together: disjoint sets of subjects that stay in one part.

    Returns:
        By member, the others as `train`, its own part as `validation`, and all whom no member sees as `test`.

    Raises:
        UsageError: fewer training subjects, or groups of them, than members.
    """
    units = _units(sorted(split.train), together)
    if len(units) < num_members:
        raise UsageError(
            f"{len(split.train)} training subjects in {len(units)} groups cannot be divided between "
            f"{num_members} members; bring more subjects or lower ensemble.members"
        )
    shuffled = [units[index] for index in np.random.default_rng([seed, 0x5B13]).permutation(len(units))]
    parts: list[list[_Unit]] = [[] for _ in range(num_members)]
    for unit in shuffled:
        # The smallest part first, so that groups of different sizes leave parts of equal size.
        min(parts, key=lambda part: sum(map(len, part))).append(unit)
    unseen = tuple(sorted({*split.validation, *split.test}))
    return tuple(
        Split(
            train=_flat(unit for other in parts if other is not part for unit in other),
            validation=_flat(part),
            test=unseen,
        )
        for part in parts
    )


def _units(subject_ids: Sequence[str], together: Collection[frozenset[str]]) -> list[_Unit]:
    """The subjects, those that stay together as one, in the order of the first of each."""
    group_of = {subject: group for group in together for subject in group}
    units: dict[frozenset[str], list[str]] = {}
    for subject in subject_ids:
        units.setdefault(group_of.get(subject, frozenset({subject})), []).append(subject)
    return [tuple(unit) for unit in units.values()]


def _fill(units: Sequence[_Unit], num_subjects: int) -> tuple[list[_Unit], list[_Unit]]:
    """The first units that fit into so many subjects, or else the smallest one, and the others; both in order."""
    chosen: list[_Unit] = []
    for unit in units:
        if sum(map(len, chosen)) + len(unit) <= num_subjects:
            chosen.append(unit)
    chosen = chosen or sorted(units, key=len)[:1]
    return chosen, [unit for unit in units if unit not in chosen]


def _share(units: Sequence[_Unit], fraction: float) -> list[_Unit]:
    """The first units, until they hold the fraction of the subjects; at least one."""
    num_chosen = max(1, round(fraction * sum(map(len, units))))
    ends = np.cumsum([len(unit) for unit in units])
    return list(units[: int(np.searchsorted(ends, num_chosen)) + 1])


def _flat(units: Iterable[_Unit]) -> tuple[str, ...]:
    return tuple(sorted(subject for unit in units for subject in unit))
