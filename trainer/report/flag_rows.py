"""The report's table of what the checks of an answer flag: a name for each kind, and what was wanted."""

from preprocess.manifest import Flagged
from trainer.metrics.flags import MOST, NOT_TO_BE_FLAGGED, WANTED

FLAG_WORDS = {
    "held_out": "as they are",
    "mirrored": "left and right exchanged, which cannot be told by looking",
    "noise": "noise without a head",
    "shuffled": "voxels shuffled",
    "upside_down": "upside down",
    "back_to_front": "back to front",
    "half_empty": "one half empty",
    "inverted": "black and white exchanged",
    "blurred_3_mm": "blurred by 3 mm",
    "salt_20_percent": "20 % of the voxels white",
    "shifted_20_mm": "shifted by 20 mm",
    "slices_3_9_mm": "slices of 3.9 mm",
    "flair_like": "contrast as in FLAIR",
    "own_visits": "two visits of one person, as not of one person",
    "another_person": "two people, as not of one person",
    "same_scanner": "two visits on one scanner, as on two",
    "other_scanner": "two visits on two scanners, as on two",
}
"""By kind, in the order of `Evaluation.flagged`; a kind without words stands under its own name."""


def flag_row(kind: str, found: Flagged) -> dict[str, object]:
    """One row: name, share, what was wanted, and how many were tried.

    Args:
        kind: what was done to a scan, or what kind of pair it is.
        found: how many are flagged.
    """
    wanted = f"at most {MOST:.0%}" if kind in NOT_TO_BE_FLAGGED else f"at least {WANTED:.0%}"
    return {"name": FLAG_WORDS.get(kind, kind), "share": f"{found.share:.0%}", "wanted": wanted, "num": found.num}
