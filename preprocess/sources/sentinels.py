"""Codes for `not known` in columns of scores: recognised by the column's other values. Pure.

A number is never a code by itself: -4 is ADNI's code in a column of test scores and a value in a column of z-scores.
So a candidate counts as missing only where the column's other values make it implausible:

near codes -1 -4 -7 -8 -9      the others are a scale (whole or half numbers, none below 0), or all of them are more
                               than ten times as far from 0 as the code; -1 beside 0 and 1 alone is a grade
far codes  -88 -96 ... -99999  no other is below 0, or the code lies further below all others than they spread
high codes 88 99 888 ... 99999 there are three others or more, none below 0, and the code is more than two and a half
                               times the largest

`Choice` overrides this column by column.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from preprocess.errors import UsageError

NEAR = frozenset({-1.0, -4.0, -7.0, -8.0, -9.0})
FAR = frozenset({-88.0, -96.0, -97.0, -98.0, -99.0, -888.0, -999.0, -8888.0, -9999.0, -99999.0})
HIGH = frozenset({88.0, 99.0, 888.0, 999.0, 8888.0, 9999.0, 99999.0})
_CLEARLY_HIGHER = 2.5
"""99 among years of education up to 30 is a code; among percentages up to 45 it may be one of them."""
_CLEARLY_FURTHER = 10.0
_FEWEST_OTHERS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user says about codes, by column.

    Attributes:
        missing: values that mean missing.
        kept: values that are scores, whatever they look like.
    """

    missing: frozenset[tuple[str, float]] = frozenset()
    kept: frozenset[tuple[str, float]] = frozenset()


def read_choice(missing: Collection[str], kept: Collection[str]) -> Choice:
    """The options `--missing mmse=-4` and `--not-missing zscore=-4`.

    Raises:
        UsageError: not of the form column=number, or one value under both.
    """
    choice = Choice(_pairs("--missing", missing), _pairs("--not-missing", kept))
    for column, value in sorted(choice.missing & choice.kept):
        raise UsageError(f"{column}={value:g} is given to --missing and to --not-missing; choose one")
    return choice


def _pairs(option: str, texts: Collection[str]) -> frozenset[tuple[str, float]]:
    pairs = set()
    for text in texts:
        found = re.fullmatch(r"\s*(.+?)\s*=\s*([-+]?\d+(?:\.\d+)?)\s*", text)
        if found is None:
            raise UsageError(f"{option} {text}: write column=number, for example {option} mmse=-4")
        pairs.add((found[1], float(found[2])))
    return frozenset(pairs)


def codes_in(column: str, values: Collection[float], choice: Choice) -> set[float]:
    """The values of a column that mean missing.

    Args:
        column: its heading.
        values: all numbers in it; order and repetition do not matter, but for how many there are.
        choice: what the user says.
    """
    declared = {value for name, value in choice.missing if name == column}
    kept = {value for name, value in choice.kept if name == column}
    others = [value for value in values if value not in NEAR | FAR | HIGH | declared]
    candidates = set(values) & (NEAR | FAR | HIGH) - kept - declared
    # What is a value and no code belongs to the others of the rest: 88 beside 99 in a column of percentages.
    found: set[float] = set()
    for code in sorted(candidates, key=abs):
        if _is_code(code, others):
            found.add(code)
        else:
            others.append(code)
    return (found | declared) & set(values)


def _is_code(code: float, others: Collection[float]) -> bool:
    if not others:
        return code in FAR
    lowest, highest = min(others), max(others)
    if code in FAR:
        return lowest >= 0 or code < lowest - (highest - lowest)
    if code in HIGH:
        return len(others) >= _FEWEST_OTHERS and lowest >= 0 and code > _CLEARLY_HIGHER * highest
    if code == -1 and set(others) <= {0.0, 1.0}:
        return False
    is_scale = lowest >= 0 and all(value * 2 == int(value * 2) for value in others)
    return is_scale or lowest > _CLEARLY_FURTHER * abs(code)
