"""Scores embeddings of a handful of real images, each with an exact p-value; arrays in, numbers out.

With four to ten images no interval holds, but all the ways in which the labels could have fallen can be counted
(Fisher's permutation test). The least p that a design can give says beforehand whether it can show anything at all:
where it is above 0.05, no model however good could pass.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from preprocess.distances import unit_rows
from trainer.metrics.embedding_space import TIE, within_between

Floats = npt.NDArray[np.float64]
Statistic = Callable[[npt.NDArray[np.str_]], float]

LEVEL = 0.05
HEALTHY = "Reg"
"""Label of the clips of regular lungs."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A statistic of labels beside all the ways in which they could have fallen.

    Attributes:
        value: with the true labels.
        chance: mean over all arrangements.
        p: share of the arrangements that reach `value`.
        least_p: share of the arrangements that reach the highest value of any: no result gives a lower p.
        num: arrangements.
    """

    value: float
    chance: float
    p: float
    least_p: float
    num: int


def arrangements(labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All distinct orders of labels, each once."""
    counts = Counter(labels)

    def rest(num: int) -> Iterator[tuple[str, ...]]:
        if num == 0:
            yield ()
            return
        for label in sorted(counts):
            if counts[label]:
                counts[label] -= 1
                for tail in rest(num - 1):
                    yield (label, *tail)
                counts[label] += 1

    yield from rest(len(labels))


def exact(statistic: Statistic, labels: Sequence[str], movable: Sequence[int] | None = None) -> Exact:
    """Compare a statistic with its values under all arrangements of the labels.

    Args:
        statistic: of labels (N,); high values speak against chance.
        labels: the true ones.
        movable: indices of the scans whose labels are exchanged among each other; all when not given.
    """
    true_N = np.asarray(labels)
    indices = np.arange(len(true_N)) if movable is None else np.asarray(movable, dtype=np.int64)
    value = statistic(true_N)
    values = []
    for moved in arrangements([str(label) for label in true_N[indices]]):
        other_N = true_N.copy()
        other_N[indices] = moved
        values.append(statistic(other_N))
    values_A = np.asarray(values)
    reached, highest = values_A >= value - TIE, values_A >= values_A.max() - TIE
    return Exact(value, float(values_A.mean()), float(reached.mean()), float(highest.mean()), len(values))


def nearest_shares(embeddings_NE: npt.ArrayLike) -> Floats:
    """(N, N): 1 where the column is the row's nearest other image by cosine, a fraction where several are."""
    unit_NE = unit_rows(embeddings_NE)
    similarity_NN = unit_NE @ unit_NE.T
    np.fill_diagonal(similarity_NN, -np.inf)
    nearest_NN = similarity_NN >= similarity_NN.max(axis=1, keepdims=True) - TIE
    return np.asarray(nearest_NN / nearest_NN.sum(axis=1, keepdims=True))


def agreement(shares_NN: Floats, labels_N: npt.NDArray[np.str_]) -> float:
    """How many images' nearest other image has their label."""
    return float((shares_NN * (labels_N[:, None] == labels_N[None, :])).sum())


def identity_scores(
    embeddings_NE: npt.ArrayLike, subject_ids: Sequence[str], days_N: npt.ArrayLike, sources_N: npt.ArrayLike
) -> dict[str, float]:
    """Whether the second visit of a person is found among all scans.

    `p` counts arrangements of the people of all scans. `p_own_source` exchanges people among the scans of the source
    that has second visits: scans of one source are alike in far more than the person, and only this p is blind to it.

    Args:
        embeddings_NE: (N, E) scans; volumes less their mean make cosine Pearson's correlation.
        subject_ids: who.
        days_N: (N,) acquisition day, NaN where unknown.
        sources_N: (N,) which data set a scan is from; only one has second visits.

    Raises:
        ValueError: nobody has a second visit.
    """
    shares_NN = nearest_shares(embeddings_NE)
    people = Counter(subject_ids)
    queries = [index for index, subject_id in enumerate(subject_ids) if people[subject_id] > 1]
    if not queries:
        raise ValueError(f"none of {len(subject_ids)} scans has a second visit")

    def hits(ids_N: npt.NDArray[np.str_]) -> float:
        return agreement(shares_NN, ids_N) / len(queries)

    source_N = np.asarray(sources_N)
    own = np.flatnonzero(source_N == source_N[queries[0]]).tolist()
    blind, held = exact(hits, subject_ids), exact(hits, subject_ids, own)
    rows_NE, day_N = np.asarray(embeddings_NE), np.asarray(days_N, dtype=np.float64)
    apart = within_between(rows_NE, list(subject_ids), day_N)
    near = within_between(rows_NE[own], [subject_ids[index] for index in own], day_N[own])
    ratios = {"within_between": apart.ratio, "within_between_own_source": near.ratio}
    return {
        "retrieval_at_1": blind.value,
        "chance": blind.chance,
        "p": blind.p,
        "p_own_source": held.p,
        "least_p_own_source": held.least_p,
        "nearest_of_own_source": agreement(shares_NN, source_N.astype(str)) / len(source_N),
        "num_scans": len(subject_ids),
        "num_queries": len(queries),
        **{name: ratio for name, ratio in ratios.items() if ratio is not None},  # None: all scans in one point
    }


def age_scores(predicted_N: npt.ArrayLike, ages_N: npt.ArrayLike, constant: float) -> dict[str, float]:
    """Errors of predicted ages beside those of a constant, in years.

    `p` is two-sided and exact: the sign of each head's difference of errors is flipped in all ways.

    Args:
        predicted_N: (N,) years.
        ages_N: (N,) the truth.
        constant: the guess that needs no picture, usually the median of the training ages.
    """
    predicted, ages = np.asarray(predicted_N, dtype=np.float64), np.asarray(ages_N, dtype=np.float64)
    error_N, constant_N = np.abs(predicted - ages), np.abs(constant - ages)
    gain_N = constant_N - error_N
    signs_AN = np.array(list(itertools.product((1.0, -1.0), repeat=len(ages))))
    mean_A = np.abs(signs_AN @ gain_N) / len(ages)
    return {
        "mae": float(error_N.mean()),
        "mae_constant": float(constant_N.mean()),
        "gain": float(gain_N.mean()),
        "mae_own_median": float(np.abs(np.median(ages) - ages).mean()),
        "p": float((mean_A >= abs(gain_N.mean()) - TIE).mean()),
        "least_p": 2.0 ** (1 - len(ages)),
        "num_heads": len(ages),
        "youngest_predicted": float(predicted.min()),
        "oldest_predicted": float(predicted.max()),
    }


def clip_scores(
    embeddings_NE: npt.ArrayLike, labels: Sequence[str], disease: dict[str, npt.ArrayLike]
) -> dict[str, float]:
    """Whether scores of disease part regular lungs from ill ones, and whether the nearest clip has a clip's label.

    Args:
        embeddings_NE: (N, E) clips.
        labels: `Reg` or a disease.
        disease: (N,) scores by name, high where ill; each gives `auc_NAME` and its exact two-sided `p_auc_NAME`.
    """
    is_ill = [str(label != HEALTHY) for label in labels]
    found: dict[str, float] = {"num_clips": len(labels), "num_regular": is_ill.count("False")}
    for name, scores in disease.items():
        auc = _auc_of(np.asarray(scores, dtype=np.float64))
        found[f"auc_{name}"] = auc(np.asarray(is_ill))
        found[f"p_auc_{name}"] = exact(_departure(auc), is_ill).p
    shares_NN = nearest_shares(embeddings_NE)
    nearest = exact(lambda labels_N: agreement(shares_NN, labels_N) / len(labels), labels)
    majority = Counter(labels).most_common(1)[0][1] / len(labels)
    return found | {
        "nearest_accuracy": nearest.value,
        "nearest_chance": nearest.chance,
        "nearest_majority": majority,
        "p_nearest": nearest.p,
    }


def verdict(values: Sequence[float], chance: float, p_values: Sequence[float]) -> str:
    """What a metric says: better or worse than guessing only where every seed says so by its own p.

    Args:
        values: by seed, the higher the better.
        chance: of guessing.
        p_values: by seed.
    """
    if max(p_values) > LEVEL:
        return "too few to tell"
    if min(values) > chance:
        return "better than guessing"
    return "worse than guessing" if max(values) < chance else "seeds disagree"


def _auc_of(score_N: Floats) -> Statistic:
    """The area under the ROC curve as a function of who is ill, by ranks (Mann and Whitney 1947); ties count half."""
    rank_N = stats.rankdata(np.round(score_N, 9))

    def auc(ill_N: npt.NDArray[np.str_]) -> float:
        ill = ill_N == "True"
        num = int(ill.sum())
        return float((rank_N[ill].sum() - num * (num + 1) / 2) / (num * (len(ill) - num)))

    return auc


def _departure(auc: Statistic) -> Statistic:
    """Distance of an AUC from one half, which makes a test two-sided."""
    return lambda ill_N: abs(auc(ill_N) - 0.5)
