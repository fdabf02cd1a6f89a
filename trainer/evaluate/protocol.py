"""The protocol of repeated folds: fit on each fold's training subjects, score its test subjects, sum up by repeat.

See docs/methods/joint.md. Scores are computed fold by fold, averaged within a repeat, and then over repeats. The
interval is that of Nadeau and Bengio over all folds, since folds share training subjects; the sd over repeats is far
smaller and says only how much the division into folds matters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainer.evaluate.folds import CorrectedTest, Fold, corrected_resampled_t_test
from trainer.evaluate.probes import Examples, FitClassifier, Floats, Labels
from trainer.evaluate.published import BINARY_CHANCE, binary_scores

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """What one fold's probe said of its test rows.

    Attributes:
        fold: which rows trained and which were tested.
        probability_LK: (L, K) of the test rows.
        predicted_L: (L,) their classes, by the threshold of the fold where there are two.
        threshold: chosen on training subjects; None with more than two classes.
        chosen: whatever else was chosen on them.
        num_train: training subjects.
        num_test: test subjects.
    """

    fold: Fold
    probability_LK: Floats
    predicted_L: Labels
    threshold: float | None
    chosen: Mapping[str, float]
    num_train: int
    num_test: int


@dataclass(frozen=True, slots=True)
class FoldSize:
    """How many subjects a fold trained on and tested.

    Attributes:
        repeat: which repeat it belongs to, from 0.
        num_train: subjects that anything was fitted or chosen on.
        num_test: subjects that were scored.
    """

    repeat: int
    num_train: int
    num_test: int


@dataclass(frozen=True, slots=True)
class RepeatedFigure:
    """One score over repeated folds.

    Attributes:
        value: mean over repeats of the mean over a repeat's folds.
        sd: over repeats; None with one repeat.
        low: lower end of the corrected resampled t interval over all folds; None where the score does not vary.
        high: upper end; None likewise.
        chance: level of guessing; None where guessing has no meaning.
        by_fold_R: the score of each fold, repeat by repeat.
        num_repeats: repeats.
        num_train: training subjects of a fold, on average.
        num_test: test subjects of a fold, on average.
    """

    value: float
    sd: float | None
    low: float | None
    high: float | None
    chance: float | None
    by_fold_R: tuple[float, ...]
    num_repeats: int
    num_train: float
    num_test: float


def run_folds(
    examples: Examples,
    folds: Sequence[Fold],
    fit: FitClassifier,
    *,
    seed: int,
    embed: Callable[[Fold], npt.NDArray[np.floating]] | None = None,
) -> tuple[FoldOutcome, ...]:
    """Fit one probe a fold on its training rows, and let it answer the test rows, whose labels it never gets.

    Args:
        examples: all rows.
        folds: from `patient_folds`.
        fit: a probe, for example `linear_probe`; it holds back training subjects itself for what it has to choose.
        seed: of the probes; each fold derives its own from it.
        embed: features (N, F) of all rows by an encoder trained on `fold.train_K` only; asked once a fold. None
            takes those of `examples`, which no encoder may have made that ever saw a test subject.

    Raises:
        ValueError: a subject is on both sides of a fold, or features of another number of rows.
    """
    outcomes = []
    for fold in folds:
        embedded = examples if embed is None else replace(examples, features_NF=embed(fold))
        train, test = embedded.take(fold.train_K), embedded.take(fold.test_L)
        train_subjects, test_subjects = np.unique(train.subject_ids_N), np.unique(test.subject_ids_N)
        shared = np.intersect1d(train_subjects, test_subjects)
        if shared.size:
            raise ValueError(
                f"repeat {fold.repeat}, fold {fold.number}: {shared.size} subjects are trained on and tested, "
                f"first {shared[0]}; make folds by subject"
            )
        fold_seed = int(np.random.SeedSequence([seed, fold.repeat, fold.number]).generate_state(1)[0])
        probe = fit(train, None, seed=fold_seed)
        probability_LK = probe.predict_proba(test.features_NF)
        outcomes.append(
            FoldOutcome(
                fold=fold,
                probability_LK=probability_LK,
                predicted_L=probe.decide(probability_LK),
                threshold=probe.threshold,
                chosen=probe.chosen,
                num_train=len(train_subjects),
                num_test=len(test_subjects),
            )
        )
    return tuple(outcomes)


def repeated_binary_figures(
    labels_N: npt.ArrayLike, outcomes: Sequence[FoldOutcome], *, level: float = 0.95
) -> dict[str, RepeatedFigure]:
    """Balanced accuracy, AUC, sensitivity and specificity over repeated folds.

    Args:
        labels_N: (N,) classes of all rows; the greater of the two is the positive one.
        outcomes: from `run_folds`, two classes.
        level: coverage of the intervals.

    Returns:
        `balanced_accuracy`, `auc`, `sensitivity` and `specificity`.

    Raises:
        ValueError: fewer than two folds, not two classes, or a fold that lacks one.
    """
    classes, label_N = np.unique(np.asarray(labels_N), return_inverse=True)
    if len(classes) != 2:
        raise ValueError(f"labels hold {len(classes)} classes; sensitivity and specificity need two")
    by_fold = []
    for outcome in outcomes:
        positive_L = outcome.predicted_L == classes[1]
        scores = binary_scores(label_N[outcome.fold.test_L], outcome.probability_LK[:, 1], positive_L)
        if scores is None:
            raise ValueError(f"repeat {outcome.fold.repeat}, fold {outcome.fold.number} tests one class only")
        by_fold.append(scores)
    return {
        name: repeated_figure([scores[name] for scores in by_fold], outcomes, chance=chance, level=level)
        for name, chance in BINARY_CHANCE.items()
    }


def repeated_figure(
    by_fold_R: Sequence[float], outcomes: Sequence[FoldOutcome], *, chance: float | None, level: float = 0.95
) -> RepeatedFigure:
    """Sum up a score that each fold has, by repeat.

    Args:
        by_fold_R: (R,) the score of each outcome.
        outcomes: the folds, in the same order.
        chance: level of guessing, if any.
        level: coverage of the interval.

    Raises:
        ValueError: fewer than two folds, or another number of scores.
    """
    return summed_up(
        by_fold_R,
        [FoldSize(outcome.fold.repeat, outcome.num_train, outcome.num_test) for outcome in outcomes],
        chance=chance,
        level=level,
    )


def summed_up(
    by_fold_R: Sequence[float], sizes: Sequence[FoldSize], *, chance: float | None, level: float = 0.95
) -> RepeatedFigure:
    """Sum up a score that each fold has, by repeat, from the folds' sizes alone.

    Args:
        by_fold_R: (R,) the score of each fold.
        sizes: of the folds, in the same order.
        chance: level of guessing, if any.
        level: coverage of the interval.

    Raises:
        ValueError: fewer than two folds, or another number of scores.
    """
    if len(by_fold_R) != len(sizes):
        raise ValueError(f"{len(by_fold_R)} scores for {len(sizes)} folds; one each is needed")
    num_train = float(np.mean([size.num_train for size in sizes])) if sizes else 0.0
    num_test = float(np.mean([size.num_test for size in sizes])) if sizes else 0.0
    tested = corrected_resampled_t_test(by_fold_R, num_train=num_train, num_test=num_test, level=level)
    score_R = np.asarray(by_fold_R, dtype=np.float64)
    repeat_R = np.array([size.repeat for size in sizes])
    by_repeat = [float(score_R[repeat_R == repeat].mean()) for repeat in np.unique(repeat_R)]
    return RepeatedFigure(
        value=float(np.mean(by_repeat)),
        sd=float(np.std(by_repeat, ddof=1)) if len(by_repeat) > 1 else None,
        low=tested.low,
        high=tested.high,
        chance=chance,
        by_fold_R=tuple(float(score) for score in by_fold_R),
        num_repeats=len(by_repeat),
        num_train=num_train,
        num_test=num_test,
    )


def compare_repeated(figure: RepeatedFigure, baseline: RepeatedFigure, *, level: float = 0.95) -> CorrectedTest:
    """Corrected resampled t test of a method against another on the very same folds.

    Args:
        figure: of the method.
        baseline: of the other, from the same folds in the same order.
        level: coverage of the interval of the difference.

    Raises:
        ValueError: another number of folds.
    """
    if len(figure.by_fold_R) != len(baseline.by_fold_R):
        raise ValueError(
            f"{len(figure.by_fold_R)} folds against {len(baseline.by_fold_R)}; compare methods on the same folds"
        )
    difference_R = np.subtract(figure.by_fold_R, baseline.by_fold_R)
    return corrected_resampled_t_test(difference_R, num_train=figure.num_train, num_test=figure.num_test, level=level)
