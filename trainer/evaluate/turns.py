"""Answers for people in turns, each by networks that have not seen them: the more people, the less chance decides.

The last turn is that of the held-out people, answered by the whole run. Before it, the training people of an ensemble
are answered part by part, each part by the one member that was trained without it, and calibrated on other people. One
member is no better than all together, so what is measured so is, if anything, too low.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs, visit_pairs
from trainer.data.splits import member_splits
from trainer.evaluate.controls import PairTable
from trainer.fit.change import cross_calibrated
from trainer.fit.change_head import UnseenPairs, unseen_pairs
from trainer.fit.embedding import embed_cohort
from trainer.fit.ensemble import load_members
from trainer.fit.precision import Compute
from trainer.fit.trained import Trained

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Turn:
    """Some people, and who trained the networks that answer for them.

    Attributes:
        training: people whom those networks have seen.
        cohort: scans of the people who are answered for.
        pairs: their consecutive visits with a score at both.
        probabilities_P3: the answers.
        improvements_P: told changes in points, positive where people got better; None for a head on embeddings.
    """

    training: frozenset[str]
    cohort: Cohort
    pairs: Pairs
    probabilities_P3: Floats
    improvements_P: Floats | None

    def table(self) -> PairTable:
        """What is known of the pairs without looking at the scans."""
        return pair_table(self.cohort, self.pairs)


@dataclass(frozen=True)
class Answers:
    """All turns of a run, the held-out people's last.

    Attributes:
        turns: at least one, with pairs.
        higher_is_better: whether a rise of the score is an improvement.
        change_noise: variance of the test's own error in a change of the score; 0 where unknown.
    """

    turns: tuple[Turn, ...]
    higher_is_better: bool = True
    change_noise: float = 0.0

    @property
    def labels_P(self) -> npt.NDArray[np.int64]:
        """True classes."""
        return np.concatenate([turn.pairs.labels_P for turn in self.turns])

    @property
    def delta_P(self) -> Floats:
        """True changes of the score, later minus earlier."""
        return np.concatenate([turn.pairs.delta_P for turn in self.turns])

    @property
    def probabilities_P3(self) -> Floats:
        """The answers."""
        return np.concatenate([turn.probabilities_P3 for turn in self.turns])

    @property
    def improvements_P(self) -> Floats | None:
        """Told changes; None for a head on embeddings."""
        told = [turn.improvements_P for turn in self.turns if turn.improvements_P is not None]
        return np.concatenate(told) if len(told) == len(self.turns) else None

    def table(self) -> PairTable:
        """What is known of all pairs without looking at the scans."""
        return joined_table([turn.table() for turn in self.turns])


def pair_table(cohort: Cohort, pairs: Pairs) -> PairTable:
    """What is known of pairs without looking at the scans."""
    scanners = np.array(cohort.scanners)
    return PairTable(
        subject_id=np.array(cohort.groups)[pairs.earlier_P],
        gap_days=pairs.gap_days_P,
        scanner_earlier=scanners[pairs.earlier_P],
        scanner_later=scanners[pairs.later_P],
        label=pairs.labels_P,
    )


def joined_table(tables: Sequence[PairTable]) -> PairTable:
    """One table with the rows of all."""
    names = ("subject_id", "gap_days", "scanner_earlier", "scanner_later", "label")
    return PairTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def member_turns(trained: Trained, store: Store, cohort: Cohort, compute: Compute) -> tuple[Turn, ...]:
    """A turn for each member of an ensemble that has pairs to answer; none for a single network or without a head.

    Args:
        trained: the finished run.
        store: what it was trained on.
        cohort: what its recipe reads of that store.
        compute: where and how members embed.

    Raises:
        RunError: a member's run is not there any more.
    """
    run, head = trained.run, trained.result.progression_head
    if run.recipe.ensemble.members == 1 or head is None or head.change is None:
        return ()
    seed = run.recipe.seed
    splits = member_splits(run.split, run.recipe.ensemble.members, seed=seed, together=cohort.together)
    found: list[tuple[Cohort, UnseenPairs, frozenset[str]]] = []
    for member in load_members(run, store, splits):
        unseen = cohort.of_subjects(member.split.of("validation"))
        embeddings_NE = embed_cohort(member.encoder.to(compute.device), store, run.recipe.data.arrays, unseen, compute)
        pairs = unseen_pairs(unseen, member.direction.scores(embeddings_NE), run.recipe)
        found.append((unseen, pairs, member.split.of("train")))
    honest_P3 = cross_calibrated(
        np.concatenate([pairs.improvements_P for _, pairs, _ in found]),
        np.concatenate([pairs.labels_P for _, pairs, _ in found]),
        np.concatenate([pairs.true_P for _, pairs, _ in found]),
        [person for _, pairs, _ in found for person in pairs.people_P],
        seed=seed,
    )
    turns, start = [], 0
    for unseen, pairs, training in found:
        own_P3, start = honest_P3[start : start + len(pairs.labels_P)], start + len(pairs.labels_P)
        every = visit_pairs(unseen, run.recipe.outcome, which=run.recipe.head.pairs).labelled()
        row_of = {
            pair: row for row, pair in enumerate(zip(every.earlier_P.tolist(), every.later_P.tolist(), strict=True))
        }
        consecutive = visit_pairs(unseen, run.recipe.outcome, which="consecutive").labelled()
        rows = [row_of[pair] for pair in _scans(consecutive)]
        if rows:
            told_P = head.change.gain * pairs.improvements_P[rows]
            turns.append(Turn(training, unseen, consecutive, own_P3[rows], told_P))
    return tuple(turns)


def _scans(pairs: Pairs) -> list[tuple[int, int]]:
    """Indices of the two scans of each pair."""
    return list(zip(pairs.earlier_P.tolist(), pairs.later_P.tolist(), strict=True))
