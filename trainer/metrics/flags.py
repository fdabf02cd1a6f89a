"""How often spoilt scans should be flagged, and what is said where they are flagged less often."""

from collections.abc import Mapping

from preprocess.manifest import Flagged

WANTED = 0.95
"""Share of spoilt scans, of pairs of two people and of pairs on two scanners that should be flagged as such."""
NOT_TO_BE_FLAGGED = frozenset({"held_out", "mirrored", "own_visits", "same_scanner"})
MOST = 0.05
"""Share of these that may be flagged all the same."""


def seldom_flagged(flagged: Mapping[str, Flagged]) -> tuple[str, ...]:
    """What should be flagged and is too seldom, in sentences.

    Args:
        flagged: by kind of scan or pair.
    """
    return tuple(
        f"Of held-out scans or pairs of the kind {kind}, only {found.share:.0%} of {found.num} are flagged."
        for kind, found in flagged.items()
        if kind not in NOT_TO_BE_FLAGGED and found.share < WANTED
    )
