"""Splits are by subject, disjoint, complete, of the stated sizes, and a function of subjects and seed alone."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from trainer.data.splits import SPLITS, split_around, split_subjects

subjects = st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=8, max_size=60)
fractions = st.floats(0.01, 0.4)
GOLDEN_VALIDATION = ("sub-01", "sub-08")
GOLDEN_TEST = ("sub-02", "sub-06", "sub-09")
GOLDEN_TRAIN = ("sub-03", "sub-04", "sub-05", "sub-07", "sub-10", "sub-11")
GOLDEN_AROUND = (("sub-07", "sub-08", "sub-11"), ("sub-03", "sub-04", "sub-05", "sub-06", "sub-09", "sub-10"))


@given(subjects, fractions, fractions, st.integers(0, 2**32))
def test_parts_are_disjoint_complete_and_of_the_stated_sizes(
    ids: set[str], validation: float, test: float, seed: int
) -> None:
    split = split_subjects(ids, validation=validation, test=test, seed=seed)
    parts = [split.of(name) for name in SPLITS]
    assert frozenset().union(*parts) == ids
    assert sum(len(part) for part in parts) == len(ids)
    assert len(split.validation) == max(1, round(validation * len(ids)))
    assert len(split.test) == max(1, round(test * len(ids)))


@given(subjects, st.integers(0, 1000), st.randoms())
def test_order_and_repeats_of_the_subjects_do_not_matter(ids: set[str], seed: int, random) -> None:
    listed = sorted(ids) * 3
    random.shuffle(listed)
    kwargs = {"validation": 0.2, "test": 0.2, "seed": seed}
    assert split_subjects(listed, **kwargs) == split_subjects(sorted(ids), **kwargs)


def test_without_equal_content_a_split_is_what_it_always_was() -> None:
    """Golden: drawn by the version before persons could stay together; a run that goes on must find its own split."""
    ids = [f"sub-{number:02d}" for number in range(12)]
    split = split_subjects(ids, validation=0.2, test=0.25, seed=3, train=0.8)
    assert (split.validation, split.test) == (GOLDEN_VALIDATION, GOLDEN_TEST)
    assert split.train == GOLDEN_TRAIN
    around = split_around(
        {name: "01"[index % 2] for index, name in enumerate(ids)}, ids[:3], validation=0.3, seed=(5, 1)
    )
    assert (around.validation, around.train) == GOLDEN_AROUND
    named = split_subjects([f"north/{name}" for name in ids], validation=0.2, test=0.25, seed=3, train=0.8)
    assert named.test == tuple(f"north/{name}" for name in GOLDEN_TEST)


@given(subjects, st.data(), fractions, fractions, st.integers(0, 1000))
def test_who_stays_together_is_on_one_side_and_nobody_is_lost(
    ids: set[str], data: st.DataObject, validation: float, test: float, seed: int
) -> None:
    shuffled = data.draw(st.permutations(sorted(ids)))
    sizes = data.draw(st.lists(st.integers(2, 4), max_size=5))
    together, start = [], 0
    for size in sizes:
        together.append(frozenset(shuffled[start : start + size]))
        start += size
    together = [group for group in together if len(group) > 1]
    num_units = len(ids) - sum(len(group) - 1 for group in together)
    assume(num_units >= 3 and start <= len(ids) - 3)
    split = split_subjects(ids, validation=validation, test=test, seed=seed, together=together)
    parts = [split.of(name) for name in SPLITS]
    assert sorted([*split.train, *split.validation, *split.test]) == sorted(ids)
    assert all(parts)
    assert all(sum(bool(group & part) for part in parts) == 1 for group in together)
    largest = max(map(len, together), default=1)
    for part, fraction in ((split.validation, validation), (split.test, test)):
        assert len(part) <= max(1, round(fraction * len(ids)), largest)
    held = split_around(dict.fromkeys(ids, "x"), [min(ids)], validation=0.3, seed=(seed,), together=together)
    beside = next((group for group in together if min(ids) in group), frozenset({min(ids)}))
    assert set(held.train) | set(held.validation) == ids - beside
    assert all(not (group & held.of("train") and group & held.of("validation")) for group in together)


def test_persons_who_all_share_content_with_each_other_cannot_be_split() -> None:
    with pytest.raises(UsageError, match=r"5 subjects cannot be split .* and 2 groups of them share none with each"):
        split_subjects("abcde", validation=0.2, test=0.2, seed=0, together=[frozenset("abcd")])


def test_another_seed_gives_another_split() -> None:
    ids = [f"sub-{number:02d}" for number in range(40)]
    splits = {split_subjects(ids, validation=0.2, test=0.2, seed=seed) for seed in range(20)}
    assert len(splits) == 20


def test_every_subject_is_held_out_by_some_seed() -> None:
    ids = [f"sub-{number}" for number in range(6)]
    held_out = {
        subject for seed in range(60) for subject in split_subjects(ids, validation=0.2, test=0.2, seed=seed).test
    }
    assert held_out == set(ids)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_too_few_subjects_are_refused_with_their_number(num: int) -> None:
    with pytest.raises(UsageError, match=rf"^{num} subjects cannot be split into training, 1 validation and 1 test"):
        split_subjects([f"sub-{number}" for number in range(num)], validation=0.15, test=0.15, seed=0)


def test_fractions_that_leave_nobody_to_train_on_are_refused() -> None:
    with pytest.raises(UsageError, match=r"10 subjects .* 6 validation and 4 test subjects; .*split\.validation"):
        split_subjects([str(number) for number in range(10)], validation=0.6, test=0.4, seed=0)


def test_a_part_of_the_training_subjects_is_held_by_every_larger_part_and_leaves_the_others_alone() -> None:
    names = [f"s{number}" for number in range(40)]
    parts = [split_subjects(names, validation=0.2, test=0.2, seed=4, train=part) for part in (0.25, 0.5, 1.0)]
    assert [len(part.train) for part in parts] == [6, 12, 24]
    assert set(parts[0].train) < set(parts[1].train) < set(parts[2].train)
    assert {(part.validation, part.test) for part in parts} == {(parts[2].validation, parts[2].test)}


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=5), st.sampled_from(["0", "1", None]), min_size=12),
    st.floats(0.05, 0.5),
    st.integers(0, 1000),
)
def test_around_a_fold_each_class_validates_by_its_share_and_who_has_none_trains(
    classes: dict[str, str | None], validation: float, seed: int
) -> None:
    test = sorted(classes)[:3]
    rest = {subject: name for subject, name in classes.items() if subject not in test}
    counts = {name: sum(own == name for own in rest.values()) for name in ("0", "1")}
    assume(max(counts.values()) > 1)
    split = split_around(classes, test, validation=validation, seed=(seed, 0, 1))
    assert split.test == tuple(test)
    assert sorted(split.train + split.validation + split.test) == sorted(classes)
    for name, count in counts.items():
        found = sum(rest[subject] == name for subject in split.validation)
        assert found == (0 if count < 2 else min(max(1, round(validation * count)), count - 1))
    assert None not in {rest[subject] for subject in split.validation}
    shuffled = dict(sorted(classes.items(), reverse=True))
    assert split_around(shuffled, reversed(test), validation=validation, seed=(seed, 0, 1)) == split


def test_a_fold_whose_rest_cannot_validate_is_refused() -> None:
    classes = {"a": "0", "b": "1", "c": "0", "d": None}
    with pytest.raises(UsageError, match=r"^3 subjects outside a fold of 1 leave 0 to validate and 3 to train on"):
        split_around(classes, ["a"], validation=0.2, seed=(0,))
