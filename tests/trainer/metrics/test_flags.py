"""Only what should be flagged and is too seldom is named."""

from preprocess.manifest import Flagged
from trainer.metrics.flags import seldom_flagged


def test_what_is_flagged_too_seldom_is_named_and_what_should_not_be_flagged_is_not() -> None:
    flagged = {
        "held_out": Flagged(share=0.02, num=50),
        "mirrored": Flagged(share=0.0, num=32),
        "noise": Flagged(share=1.0, num=32),
        "blurred_3_mm": Flagged(share=0.5, num=32),
    }

    (sentence,) = seldom_flagged(flagged)
    assert sentence == "Of held-out scans or pairs of the kind blurred_3_mm, only 50% of 32 are flagged."
