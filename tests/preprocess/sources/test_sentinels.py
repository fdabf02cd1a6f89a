"""Codes for missing: recognised by the rest of their column, and never against the user's word."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from preprocess.sources.sentinels import FAR, HIGH, NEAR, Choice, codes_in, read_choice

NOTHING = Choice()


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([29, 27, 30, -4], {-4}),  # ADNI's passively missing, in a scale
        ([29, 27, 30, -1], {-1}),
        ([1, 0, -1, 1, -1], set()),  # declined, stable, improved
        ([0, 0.5, 1, 2, -4], {-4}),  # halves are a scale too: CDR
        ([0, 0.5, 1, 2, -96, -99], {-96, -99}),
        ([29, 27, -1, -4, -99], {-1, -4, -99}),
        ([-1.2, 0.3, -4, 1.1], set()),  # z-scores
        ([-1.2, 0.3, -4, 1.1, -999], {-999}),
        ([-4, -3, 2], set()),
        ([3456.7, 4012.5, -4], {-4}),  # a volume in mm3 is never near -4
        ([3456.7, 4012.5, -9999], {-9999}),
        ([0.5, 1.25, 2.0, -1], set()),  # a change may be negative
        ([-80, 50, -99], set()),
        ([12, 16, 20, 99], {99}),  # years of education
        ([10, 45, 80, 99], set()),  # percentages
        ([70, 81, 88, 99], set()),  # ages
        ([28, 29, 25, 888, 999], {888, 999}),
        ([5, 99], set()),  # too few to tell
        ([-99], {-99}),
        ([-4], set()),
        ([], set()),
    ],
)
def test_a_code_is_recognised_by_what_the_rest_of_its_column_is(values: list[float], codes: set[float]) -> None:
    assert codes_in("mmse", values, NOTHING) == codes


@given(st.lists(st.integers(0, 80), min_size=1), st.sampled_from(sorted(NEAR | FAR)), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(values: list[int], code: float, rng: Random) -> None:
    column = [float(value) for value in values] + [code]
    mixed = column * 2
    rng.shuffle(mixed)
    assert codes_in("x", column, NOTHING) == {code}
    assert code in codes_in("x", mixed, NOTHING)


@given(st.lists(st.floats(-1e6, 1e6)))
def test_only_known_codes_are_ever_read_as_missing(values: list[float]) -> None:
    assert codes_in("x", values, NOTHING) <= (NEAR | FAR | HIGH)


def test_the_user_has_the_last_word_column_by_column() -> None:
    choice = read_choice(["mmse=-5", "cdr = 9"], ["mmse=-4"])
    assert codes_in("mmse", [28, -4, -5, -1], choice) == {-5, -1}
    assert codes_in("cdr", [0, 1, 9], choice) == {9}
    assert codes_in("faq", [28, -4, -5], choice) == set()


@pytest.mark.parametrize(
    ("missing", "kept", "message"),
    [
        (["mmse"], [], "--missing mmse: write column=number, for example --missing mmse=-4"),
        ([], ["mmse=x"], "--not-missing mmse=x: write column=number"),
        (["a=1"], ["a=1"], "a=1 is given to --missing and to --not-missing; choose one"),
    ],
)
def test_a_choice_that_cannot_be_followed_is_one_line(missing: list[str], kept: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_choice(missing, kept)
    assert message in str(caught.value)
