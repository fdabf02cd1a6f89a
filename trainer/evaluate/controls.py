"""The baselines every progression result stands against: gap in days, scanners, majority class, shuffled labels.

Classifiers are fitted on training pairs only and scored on held-out pairs. A model that does not
beat them has not been shown to see anything in the scans. Predictions are kept, so that the comparison can be paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from trainer.metrics.evaluation import ControlResult, Metric
from trainer.metrics.intervals import Interval, cluster_bootstrap
from trainer.metrics.progression import NUM_CLASSES, balanced_accuracy, confusion_counts, losses, macro_f1

Features = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairTable:
    """What is known of each pair of scans without looking at them.

    Attributes:
        subject_id: (P,) who; people of whom scans have equal content are one.
        gap_days: (P,) days from the earlier to the later scan, finite.
        scanner_earlier: (P,) scanner name of the earlier scan, empty when unknown.
        scanner_later: (P,) scanner name of the later scan.
        label: (P,) 0, 1, 2 in the order of `preprocess.types.PROGRESSIONS`.

    Raises:
        ValueError: columns of unequal length, a gap that is not finite, or a label outside 0 to 2.
    """

    subject_id: npt.NDArray[np.str_]
    gap_days: npt.NDArray[np.float64]
    scanner_earlier: npt.NDArray[np.str_]
    scanner_later: npt.NDArray[np.str_]
    label: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        columns = (self.subject_id, self.gap_days, self.scanner_earlier, self.scanner_later, self.label)
        if {column.shape for column in columns} != {(len(self.label),)}:
            raise ValueError(f"columns of a pair table differ in shape: {[column.shape for column in columns]}")
        if not np.isfinite(self.gap_days).all():
            raise ValueError("gap_days holds a value that is not finite; a pair needs both days")
        if not np.isin(self.label, range(NUM_CLASSES)).all():
            raise ValueError(f"labels hold {np.unique(self.label).tolist()}; classes are 0 to {NUM_CLASSES - 1}")

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class Control:
    """One baseline on the held-out pairs.

    Attributes:
        name: `gap_days`, `scanner`, `majority`, or that of a control which looks at the scans.
        predicted_P: (P,) its class for each held-out pair.
        macro_f1: on the held-out pairs.
        balanced_accuracy: on the held-out pairs.
        probabilities_P3: (P, 3) of those that answer probabilities; None for the others.
    """

    name: str
    predicted_P: npt.NDArray[np.int64]
    macro_f1: float
    balanced_accuracy: float
    probabilities_P3: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A control's macro-F1 and the model's lead over it, both with intervals over the same subjects.

    Attributes:
        name: the control's name.
        score: macro-F1 of the control.
        lead: macro-F1 of the model minus that of the control, paired; above 0 the model is better.
        loss_lead: log loss of the control minus that of the model, likewise; None for a control without probabilities.
    """

    name: str
    score: Interval
    lead: Interval
    loss_lead: Interval | None = None


@dataclass(frozen=True, slots=True)
class LabelPermutation:
    """Macro-F1 that the same predictions get when the labels of whole people are exchanged.

    Attributes:
        mean: over shuffles.
        low: 2.5th percentile.
        high: 97.5th percentile.
        p_value: (1 + shuffles at least as good) / (1 + shuffles), valid for people with several pairs each.
        num_shuffles: how many.
        num_people: people with a pair.
        num_fixed: those whose labels stay, since nobody else has as many pairs; they only make the p-value larger.
    """

    mean: float
    low: float
    high: float
    p_value: float
    num_shuffles: int
    num_people: int
    num_fixed: int

    @property
    def note(self) -> str:
        """What was exchanged, in a sentence for the report."""
        said = "the labels of whole people, exchanged between people with equally many pairs"
        return f"{said}; {self.num_fixed} of {self.num_people} people keep theirs" if self.num_fixed else said


def fit_controls(train: PairTable, test: PairTable, seed: int) -> list[Control]:
    """Fit each baseline on training pairs and score it on held-out pairs.

    Gap and scanner use a small class-balanced decision tree: it follows a gap that matters only in the middle, and
    scanner combinations, neither of which a linear model can. A leaf holds at least 5 pairs and 2 % of the training
    pairs, so that the tree cannot learn single subjects by heart.

    Args:
        train: training pairs.
        test: held-out pairs of other subjects.
        seed: the tree's seed, which breaks ties between equal splits.

    Returns:
        Controls `gap_days`, `scanner` and `majority`, in that order.

    Raises:
        ValueError: a table is empty, or a subject is in both.
    """
    if not len(train) or not len(test):
        raise ValueError(f"controls need training and held-out pairs; got {len(train)} and {len(test)}")
    shared = np.intersect1d(train.subject_id, test.subject_id)
    if shared.size:
        raise ValueError(
            f"{shared.size} subjects are in training and held-out pairs, first {shared[0]}; split by subject"
        )
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(_scanners(train))
    majority = np.full(len(test), np.bincount(train.label, minlength=NUM_CLASSES).argmax(), dtype=np.int64)
    predictions = {
        "gap_days": _tree_predictions(train.gap_days[:, None], train.label, test.gap_days[:, None], seed),
        "scanner": _tree_predictions(
            encoder.transform(_scanners(train)), train.label, encoder.transform(_scanners(test)), seed
        ),
        "majority": majority,
    }
    return [
        Control(name, predicted, macro_f1(test.label, predicted), balanced_accuracy(test.label, predicted))
        for name, predicted in predictions.items()
    ]


def joined_controls(turns: Sequence[Sequence[Control]], labels: npt.ArrayLike) -> list[Control]:
    """The controls of several turns as one, over the pairs of all.

    Args:
        turns: what `fit_controls` found in each, the same names in the same order.
        labels: (P,) true classes of all pairs, turn after turn.
    """
    label_P = np.asarray(labels)
    joined = []
    for own in zip(*turns, strict=True):
        predicted_P = np.concatenate([control.predicted_P for control in own])
        joined.append(
            Control(own[0].name, predicted_P, macro_f1(label_P, predicted_P), balanced_accuracy(label_P, predicted_P))
        )
    return joined


def compare_with_controls(
    controls: Sequence[Control],
    test: PairTable,
    predicted: npt.ArrayLike,
    *,
    seed: int,
    num_resamples: int = 2000,
    probabilities_P3: npt.NDArray[np.float64] | None = None,
) -> list[Comparison]:
    """Bootstrap each control's macro-F1, and the model's paired lead over it, over held-out subjects.

    Args:
        controls: from `fit_controls`.
        test: the held-out pairs they were scored on.
        predicted: (P,) the model's classes for the same pairs.
        seed: the bootstrap's seed; the same seed draws the same subjects.
        num_resamples: number of bootstrap resamples.
        probabilities_P3: the model's, for the lead in log loss over controls that have probabilities too.

    Raises:
        ValueError: predictions that do not fit the pairs.
    """
    label_P, model_P = test.label, np.asarray(predicted)
    confusion_counts(label_P, model_P)

    def compare(control: Control) -> Comparison:
        def score(rows: npt.NDArray[np.int64]) -> float:
            return macro_f1(label_P[rows], control.predicted_P[rows])

        def lead(rows: npt.NDArray[np.int64]) -> float:
            return macro_f1(label_P[rows], model_P[rows]) - score(rows)

        first = cluster_bootstrap(score, test.subject_id, seed=seed, num_resamples=num_resamples)
        second = cluster_bootstrap(lead, test.subject_id, seed=seed, num_resamples=num_resamples)
        if probabilities_P3 is None or control.probabilities_P3 is None:
            return Comparison(control.name, first, second)
        saved_P = losses(label_P, control.probabilities_P3) - losses(label_P, probabilities_P3)
        third = cluster_bootstrap(
            lambda rows: float(saved_P[rows].mean()), test.subject_id, seed=seed, num_resamples=num_resamples
        )
        return Comparison(control.name, first, second, third)

    return [compare(control) for control in controls]


def permute_labels(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    subject_ids: npt.ArrayLike | Sequence[str],
    *,
    seed: int,
    num_shuffles: int = 1000,
) -> LabelPermutation | None:
    """Score unchanged predictions against the labels of other people: macro-F1 with every link to the scans cut.

    The exchangeable units are people, not pairs. Two pairs of a person share a visit, a course of disease and a habit
    of the model, so shuffling pair by pair would compare with labels that no cohort has, and its p-value would be too
    small. Each person's labels stay together, in the order of visits, and go as one block to a person with equally
    many pairs: whole-block exchange (Winkler et al. 2015, "Multi-level block permutation", NeuroImage 123). Pairs are
    not shuffled within a person as well: neighbouring changes share the noise of the visit between them, so their
    order is not exchangeable. The p-value counts the labels as they are among the shuffles (Phipson and Smyth 2010).

    Args:
        labels: (P,) true classes, the pairs of a person in the order of visits.
        predicted: (P,) predicted classes.
        subject_ids: (P,) whose pair.
        seed: decides the shuffles; the same seed gives the same ones.
        num_shuffles: how many.

    Returns:
        None where no two people have equally many pairs, so that nothing can be exchanged.

    Raises:
        ValueError: nothing to score or unequal lengths.
    """
    label_P, guess_P = np.asarray(labels), np.asarray(predicted)
    code_P = np.unique(np.asarray(subject_ids), return_inverse=True)[1]
    if code_P.shape != label_P.shape:
        raise ValueError(f"{code_P.shape} subject_ids for labels {label_P.shape}; one each is needed")
    reached = macro_f1(label_P, guess_P)
    num_S = np.bincount(code_P)
    rows_S = np.split(np.argsort(code_P, kind="stable"), np.cumsum(num_S)[:-1])
    # By number of pairs k: the rows of the people who have so many, one person a line.
    blocks = [np.stack([rows for rows in rows_S if len(rows) == k]) for k in np.unique(num_S)]
    blocks = [rows_Sk for rows_Sk in blocks if len(rows_Sk) > 1]
    if not blocks:
        return None
    generator = np.random.default_rng(seed)
    scores = np.empty(num_shuffles)
    for shuffle in range(num_shuffles):
        exchanged_P = label_P.copy()
        for rows_Sk in blocks:
            exchanged_P[rows_Sk] = label_P[generator.permutation(rows_Sk)]
        scores[shuffle] = macro_f1(exchanged_P, guess_P)
    low, high = np.quantile(scores, (0.025, 0.975))
    # 1e-12: equal confusions reached by another order of sums count as equally good.
    p_value = (1 + int((scores >= reached - 1e-12).sum())) / (1 + num_shuffles)
    num_fixed = len(num_S) - sum(map(len, blocks))
    return LabelPermutation(float(scores.mean()), float(low), float(high), p_value, num_shuffles, len(num_S), num_fixed)


def control_results(
    controls: Sequence[Control],
    comparisons: Sequence[Comparison],
    shuffled: LabelPermutation | None,
    *,
    labels: npt.ArrayLike,
) -> tuple[ControlResult, ...]:
    """Put controls, their comparisons and the shuffled labels in the form that metrics.json holds.

    Args:
        controls: from `fit_controls`.
        comparisons: from `compare_with_controls`, in the same order.
        shuffled: from `permute_labels`; None, where nothing can be exchanged, leaves it out.
        labels: (P,) true classes of the held-out pairs.
    """
    num = len(np.asarray(labels))
    results = [
        ControlResult(
            name=control.name,
            scores={
                "macro_f1": Metric.from_interval(comparison.score, num=num),
                "balanced_accuracy": Metric(value=control.balanced_accuracy, num=num),
                **_log_loss(control, labels),
            },
            lead=Metric.from_interval(comparison.lead, num=num, chance=0.0),
            leads={}
            if comparison.loss_lead is None
            else {"log_loss": Metric.from_interval(comparison.loss_lead, num=num, chance=0.0)},
        )
        for control, comparison in zip(controls, comparisons, strict=True)
    ]
    if shuffled is not None:
        score = Metric(
            value=shuffled.mean,
            low=shuffled.low,
            high=shuffled.high,
            num=num,
            num_subjects=shuffled.num_people,
            note=shuffled.note,
        )
        results.append(ControlResult(name="shuffled_labels", scores={"macro_f1": score}, p_value=shuffled.p_value))
    return tuple(results)


def _log_loss(control: Control, labels: npt.ArrayLike) -> dict[str, Metric]:
    if control.probabilities_P3 is None:
        return {}
    losses_P = losses(np.asarray(labels), control.probabilities_P3)
    return {"log_loss": Metric(value=float(losses_P.mean()), num=len(losses_P))}


def _scanners(table: PairTable) -> npt.NDArray[np.str_]:
    changed = np.where(table.scanner_earlier == table.scanner_later, "same", "changed")
    return np.column_stack([table.scanner_earlier, table.scanner_later, changed])


def _tree_predictions(
    train_PF: Features, train_label_P: npt.NDArray[np.int64], test_PF: Features, seed: int
) -> npt.NDArray[np.int64]:
    smallest_leaf = max(5, round(0.02 * len(train_PF)))
    tree = DecisionTreeClassifier(
        max_depth=4, min_samples_leaf=smallest_leaf, class_weight="balanced", random_state=seed
    )
    predicted: npt.NDArray[np.int64] = tree.fit(train_PF, train_label_P).predict(test_PF).astype(np.int64)
    return predicted
