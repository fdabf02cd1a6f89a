"""What the file of a method fills in: settings of an objective, what it needs of a run, and its value on a batch.

A recipe is checked with these classes, and a wrong setting is answered at once: so a method's file imports torch, and
the formulas in `losses`, only inside the functions that compute with them.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from preprocess.errors import UsageError
from preprocess.manifest import OutcomeSpec
from preprocess.recipe import Recipe
from trainer.objectives.terms import BatchOutput, Objective, Value


@dataclass(frozen=True, slots=True)
class ScoreStatistics:
    """Mean, standard deviation and range of the training subjects' raw scores."""

    mean: float
    sd: float
    range: float

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrainingScores:
    """What the scores of the training subjects, and they alone, decide for the objectives.

    Attributes:
        outcome: score, direction and threshold.
        statistics: None when no two known scores differ.
        classes: the two values that known scores have, the positive one last; None when they have fewer or more.
    """

    outcome: OutcomeSpec
    statistics: ScoreStatistics | None = None
    classes: tuple[float, float] | None = None


class Term(Recipe):
    """An objective as an [[objective]] table of a recipe names it.

        class Shrink(Term):
            name: Literal["shrink"] = "shrink"

            def __call__(self, output: BatchOutput) -> Value | None:
                return Value(output.embeddings_BKE.square().mean(), chance=0.0)

    Fields are settings. Class attributes say what the objective needs of the recipe and of the run; the
    defaults need nothing.

    Attributes:
        weight: factor in the loss.
        name: by which recipes choose it, and what the history calls it.
        needs_scores: whether scans without a score teach it nothing.
        needs_views: whether it compares two views of one scan.
        needs_sampling: the data.sampling that it cannot do without, and what it does, for the message; None where any
            will do.
        needs_visits: whether it compares scans of one subject, so that a batch of single scans teaches it nothing.
        needs_modalities: whether it sees the modalities of a visit apart.
        compares_modalities: whether it compares them with each other, which takes two.
        warns_at_chance: see `Objective`.
        trains_score_head: whether it teaches the head that predicts scores, which is then part of the trained model.
        trains_projection: whether it teaches the projector, which is then measured beside the embedding.
        trains_fusion: whether it teaches the fusion head of visits, which is then not fitted afterwards.
    """

    weight: float = Field(default=1.0, gt=0)
    name: str
    needs_scores: ClassVar[bool] = False
    needs_views: ClassVar[bool] = False
    needs_sampling: ClassVar[tuple[Literal["pairs", "scans", "visits"], str] | None] = None
    needs_visits: ClassVar[bool] = False
    needs_modalities: ClassVar[bool] = False
    compares_modalities: ClassVar[bool] = False
    warns_at_chance: ClassVar[bool] = False
    trains_score_head: ClassVar[bool] = False
    trains_projection: ClassVar[bool] = False
    trains_fusion: ClassVar[bool] = False

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch and that of an uninformed model; None when nothing in the batch can be used."""
        raise NotImplementedError

    def anchor_scans(self, scores_N: np.ndarray, *, seed: int) -> np.ndarray | None:
        """See `Objective`."""

    def fitted(self, scores: TrainingScores) -> Objective:  # noqa: ARG002 - most need nothing but their settings
        """The objective with what the training subjects decide for it; itself where they decide nothing.

        Raises:
            UsageError: the training subjects' scores can teach it nothing.
        """
        return self

    def objective(self, scores: TrainingScores) -> Objective:
        """The function of a batch that a run trains with.

        Raises:
            UsageError: the training subjects' scores can teach it nothing.
        """
        if self.needs_scores and scores.statistics is None:
            raise UsageError(
                f"objective {self.name} needs scores and the training subjects have no two different "
                f"{scores.outcome.name} scores; check the tables, or choose a recipe without scores such as clinimcl"
            )
        return self.fitted(scores)
