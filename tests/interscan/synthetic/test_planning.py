"""What plans share: streams that differ by their key, shares that are even at any size, and ranges."""

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.planning import check_range, even_share, stream
from preprocess.errors import UsageError


def test_streams_differ_by_seed_word_and_number_and_repeat_themselves() -> None:
    keys: list[tuple[int, str, int]] = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    draws = [stream(seed, word, number).random() for seed, word, number in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [stream(seed, word, number).random() for seed, word, number in keys]


@pytest.mark.parametrize("num_subjects", [20, 60, 500])
def test_every_prefix_holds_close_to_its_share(num_subjects: int) -> None:
    for seed in range(20):
        shares = np.array([even_share(seed, "test", number) for number in range(num_subjects)])
        for share in (0.1, 0.4, 0.7):
            # Free draws would have a standard deviation of 2.2 subjects at 20 and of 11 at 500.
            assert abs((shares < share).sum() - share * num_subjects) <= 3


def test_the_two_axes_are_not_related() -> None:
    pairs = np.array([[even_share(3, "one", n, 0), even_share(3, "two", n, 1)] for n in range(1000)])
    assert abs(stats.spearmanr(pairs).statistic) < 0.03
    assert stats.kstest(pairs[:, 0], "uniform").pvalue > 0.05
    counts = np.histogram2d(*pairs.T, bins=5, range=[[0, 1], [0, 1]])[0]
    assert counts.min() >= 30  # 40 on average


def test_ranges_are_refused_with_value_limit_and_remedy() -> None:
    check_range("size_px", 32, 32, 512)
    check_range("size_px", 512, 32, 512)
    for value, message in [
        (31, "size_px is 31, below 32; give 32 or more"),
        (513, "size_px is 513, above 512; give 512 or less"),
        (float("nan"), "size_px is nan, below 32"),
    ]:
        with pytest.raises(UsageError, match=message):
            check_range("size_px", value, 32, 512)
