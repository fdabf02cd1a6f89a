"""Progression told apart by scanner: pairs whose two scans come from one scanner, and pairs between two scanners.

A model that reads the scanner can look good over both kinds of pairs together: where patients change to a new machine
as they decline, the change of machine tells the decline.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.metrics.evaluation import Metric
from trainer.metrics.progression import macro_f1, progression_scores
from trainer.metrics.tasks import interval_maker

Names = npt.ArrayLike | Sequence[str]


def scanner_strata(
    labels_P: npt.ArrayLike,
    probabilities_P3: npt.ArrayLike,
    scanner_earlier_P: Names,
    scanner_later_P: Names,
    subject_ids_P: Names,
    *,
    seed: int,
    num_resamples: int = 2000,
) -> dict[str, Metric]:
    """Macro-F1 of the pairs on one scanner and of those that changed it, each with its own chance level.

    Args:
        labels_P: (P,) 0 improved, 1 stable, 2 declined.
        probabilities_P3: (P, 3) rows summing to 1.
        scanner_earlier_P: (P,) scanner of the earlier scan, empty where unknown; such a pair is in neither group.
        scanner_later_P: (P,) scanner of the later scan.
        subject_ids_P: (P,) whose pair.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Returns:
        `same_scanner_macro_f1` and `changed_scanner_macro_f1`. A group without a pair has no value and says why in its
        note.

    Raises:
        ValueError: unequal lengths, a class outside 0 to 2, or rows that are no probabilities.
    """
    label_P, probability_P3 = np.asarray(labels_P, dtype=np.int64), np.asarray(probabilities_P3, dtype=np.float64)
    earlier_P, later_P, subject_P = (np.asarray(one) for one in (scanner_earlier_P, scanner_later_P, subject_ids_P))
    if {one.shape for one in (label_P, earlier_P, later_P, subject_P)} != {(len(probability_P3),)}:
        raise ValueError(
            f"labels {label_P.shape}, scanners {earlier_P.shape} and {later_P.shape}, subject_ids {subject_P.shape} "
            f"and {len(probability_P3)} rows of probabilities; one each is needed"
        )
    known_P = (earlier_P != "") & (later_P != "")
    same_P = known_P & (earlier_P == later_P)
    num_unknown = int((~known_P).sum())
    left_out = f"{num_unknown} of {len(label_P)} pairs left out, whose scanners are not known" if num_unknown else ""

    def score(chosen_P: npt.NDArray[np.bool_], missing: str) -> Metric:
        if not chosen_P.any():
            reason = missing if known_P.any() else "the scanners of both scans are known of no pair"
            return Metric(value=None, num=0, note=reason)
        label_K, probability_K3 = label_P[chosen_P], probability_P3[chosen_P]
        guess_K = probability_K3.argmax(axis=1)
        put = interval_maker(subject_P[chosen_P], len(label_K), seed, num_resamples)
        chance = progression_scores(label_K, probability_K3).macro_f1_chance
        metric = put(lambda rows: macro_f1(label_K[rows], guess_K[rows]), chance)
        return metric.model_copy(update={"note": "; ".join(filter(None, [metric.note, left_out]))})

    return {
        "same_scanner_macro_f1": score(same_P, "no pair has both scans from one scanner"),
        "changed_scanner_macro_f1": score(known_P & ~same_P, "no pair changes the scanner"),
    }
