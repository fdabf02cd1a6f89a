"""Every kind that evaluation measures has words of its own, and what is wanted follows the kind."""

from preprocess.manifest import Flagged
from trainer.evaluate.stress import CORRUPTIONS
from trainer.report.flag_rows import FLAG_WORDS, flag_row


def test_every_kind_has_words() -> None:
    pairs = {"own_visits", "another_person", "same_scanner", "other_scanner"}

    assert FLAG_WORDS.keys() == {"held_out", *CORRUPTIONS, *pairs}


def test_a_row_says_what_was_wanted() -> None:
    assert flag_row("noise", Flagged(share=1.0, num=32)) == {
        "name": "noise without a head", "share": "100%", "wanted": "at least 95%", "num": 32,
    }  # fmt: skip
    assert flag_row("held_out", Flagged(share=0.02, num=53))["wanted"] == "at most 5%"
    assert flag_row("new_kind", Flagged(share=0.5, num=2))["name"] == "new_kind"
