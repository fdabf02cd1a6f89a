"""The schema of metrics.json: everything an evaluation found, without arrays, ready to be judged and rendered.

Light to import, so that export and the registry can read it. No number may be NaN or infinite: what was not measured
is null with a note.
"""

from typing import Literal

import pydantic

from preprocess.manifest import Flagged
from trainer.metrics.intervals import Interval


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(_Frozen):
    """One number with its 95 % interval over subjects and the level reached without looking at the scans.

    Attributes:
        value: the number; None when it is undefined on this test set.
        low: lower end of the interval; None when none can be given.
        high: upper end.
        chance: level of guessing; None where guessing has no meaning.
        num: scans or pairs behind it.
        num_subjects: subjects behind the interval; None when none was computed.
        note: why value or interval is missing, or anything to say beside it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    num: int = pydantic.Field(ge=0)
    num_subjects: int | None = None
    note: str = ""

    @classmethod
    def from_interval(cls, interval: Interval, *, num: int, chance: float | None = None) -> "Metric":
        """Take value, ends and note from a bootstrap interval."""
        return cls(
            value=interval.value,
            low=interval.low,
            high=interval.high,
            chance=chance,
            num=num,
            num_subjects=interval.num_subjects,
            note=interval.note,
        )


class SplitCount(_Frozen):
    """How much is in a split."""

    subjects: int = pydantic.Field(ge=0)
    scans: int = pydantic.Field(ge=0)
    pairs: int = pydantic.Field(default=0, ge=0)


class ControlResult(_Frozen):
    """One baseline beside the model.

    Attributes:
        name: `gap_days`, `scanner`, `majority`, `shuffled_labels` or `untrained`.
        scores: its scores by metric name; `macro_f1` wherever the model has one.
        lead: macro-F1 of the model minus that of the control, paired over subjects; None for shuffled labels, and
            where there is no progression.
        p_value: p-value of the permutation test; None for all controls but shuffled labels.
        leads: the same for other metrics, by name, above 0 where the model is better: those of identity for the
            untrained network, and `log_loss` for controls with probabilities.
    """

    name: str
    scores: dict[str, Metric]
    lead: Metric | None = None
    p_value: float | None = None
    leads: dict[str, Metric] = {}


class HistorySummary(_Frozen):
    """The training run in a line; `chance_loss` is None where the objective has no chance level."""

    num_epochs: int = pydantic.Field(ge=0)
    first_loss: float | None = None
    last_loss: float | None = None
    best_epoch: int | None = None
    chance_loss: float | None = None
    seconds: float | None = None


class Evaluation(_Frozen):
    """All that was found about one run on its held-out subjects; written as metrics.json.

    Attributes:
        schema_version: version of this layout.
        run_uri: where the run lies.
        recipe: its name.
        fingerprint: the fingerprint of the preprocessing, which run and store share.
        split: which split was scored.
        splits: subjects, scans and pairs by split.
        metrics: by name; names known to the report are in `trainer.report.page.METRICS`.
        controls: baselines on the same pairs.
        flagged: how many held-out scans and pairs the checks of an answer flag, by kind: as they are, spoilt on
            purpose, of two people, of two scanners. Empty for a head on embeddings, and in too small a cohort.
        history: the run's training history, summed up.
        notes: what was done, in sentences.
        caveats: what to be careful about, in sentences; the report adds those that follow from the numbers.
    """

    schema_version: Literal[1] = 1
    run_uri: str
    recipe: str
    fingerprint: str
    split: Literal["train", "validation", "test"] = "test"
    splits: dict[Literal["train", "validation", "test"], SplitCount]
    metrics: dict[str, Metric]
    controls: tuple[ControlResult, ...] = ()
    flagged: dict[str, Flagged] = {}
    history: HistorySummary | None = None
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
