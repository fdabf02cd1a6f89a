"""From several prepared scans of one person to a trajectory, with one forward pass a scan; free of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from app.answers import SeenScan, answer_pair, judge, look, provenance
from app.cohort import cohort_change
from app.decision import (
    RESEARCH,
    Reason,
    decide,
    floor_reasons,
    model_reasons,
    noise_floor,
    person_reasons,
    possible_answers,
    scan_reasons,
    worst_first,
)
from app.inputs import PreparedScan
from app.references import AGE_WINDOW_YEARS
from app.registry import LoadedModel
from app.schemas import PredictedChange, Probabilities, ProgressionAnswer
from app.trajectory import Floats, Line, fit_line, ordinal
from app.trajectory_schemas import AgePercentile, AnnualChange, TrajectoryAnswer, Visit, VisitStep
from preprocess.distances import percentile_rank
from preprocess.types import PROGRESSIONS, Progression

MIN_SAME_AGE = 30
"""People; among fewer, one person is more than 3 % of them."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A visit.

    Attributes:
        position: which of the scans as given, from 1.
        twin: position of an earlier visit with the same voxels; None for all others.
        is_counted: whether the line counts it: a twin of the same day is no further measurement.
    """

    position: int
    day: float
    seen: SeenScan
    twin: int | None
    is_counted: bool

    @property
    def name(self) -> str:
        return ordinal(self.position)


def answer_trajectory(
    model: LoadedModel,
    scans: Sequence[PreparedScan],
    days: Sequence[float],
    *,
    age: float | None = None,
    accept_unproven: bool = False,
) -> TrajectoryAnswer:
    """Tell how one person's score changes over several visits, or that it cannot be told.

    The network sees each scan once; neighbouring visits are answered from the embeddings.

    Args:
        model: loaded and checked.
        scans: 2 to 16, checked by `require_visits` or the request's schema.
        days: the day of each; visits are put in their order, those of one day in the order given.
        age: years at the first visit, where known.
        accept_unproven: decide even where the model is not shown to be right more often than by chance.

    Raises:
        ArtefactError: the model tells no change in points, or answers from pairs of scans only.
    """
    manifest = model.manifest
    direction_E = model.require_trajectory(f"{manifest.name} {manifest.version}")
    visits = _in_order(model, scans, days)
    steps = [
        answer_pair(model, one.seen, other.seen, gap_days=other.day - one.day, accept_unproven=accept_unproven)
        for one, other in pairwise(visits)
    ]
    # Differences from one scan, which scan does not matter: equal scans then show exactly no change.
    change_VE = np.stack([visit.seen.embedding_E for visit in visits]).astype(np.float64) - visits[0].seen.embedding_E
    told_V = change_VE @ direction_E
    line, fitted_E = _line(model, visits, change_VE, told_V)
    is_same_scan = all(visit.seen.is_same_as(visits[0].seen) for visit in visits)
    is_other_scanner = any(step.same_scanner is not None and step.same_scanner.is_beyond for step in steps)
    reasons = [*_visit_reasons(visits, steps, is_same_scan=is_same_scan), *model_reasons(manifest)]
    possible: tuple[Progression, ...] = ("stable",) if is_same_scan else ()
    annual = fitted = probabilities = prediction_set = None
    if line is None:
        reasons.append(Reason("same_day", "All scans are of one day: there is no change over time to tell."))
    else:
        annual, fitted = _changes(model, line, is_other_scanner=is_other_scanner)
        probabilities_3 = model.engine.judge(fitted_E[None].astype(np.float32))[0]
        chances = dict(zip(PROGRESSIONS, map(float, probabilities_3), strict=True))
        probabilities = Probabilities(**chances)
        assert manifest.decision is not None
        prediction_set = ("stable",) if is_same_scan else manifest.decision.prediction_set(probabilities_3)
        if not is_same_scan:
            top = PROGRESSIONS[int(np.argmax(probabilities_3))]
            possible, about_set = possible_answers(top, prediction_set, judge(probabilities_3))
            reasons += [*about_set, *_floor_reasons(model, annual, is_other_scanner=is_other_scanner)]
    reasons = worst_first(reasons)
    codes = list(dict.fromkeys(reason.code for reason in reasons))
    percentile = _percentile(model, annual, age)
    return TrajectoryAnswer(
        decision=decide(possible, codes, accept_unproven=accept_unproven),
        reasons=codes,
        caution=[*(reason.sentence for reason in reasons), *_order_remark(visits), RESEARCH],
        annual_change=annual,
        fitted_change=fitted,
        prediction_set=None if prediction_set is None else list(prediction_set),
        probabilities=probabilities,
        cohort_change=None if line is None else cohort_change(model, visits[-1].day - visits[0].day),
        percentile_for_age=None if isinstance(percentile, str) else percentile,
        no_percentile=percentile if isinstance(percentile, str) else None,
        outcome=manifest.outcome,
        span_days=visits[-1].day - visits[0].day,
        age=age,
        visits=[_visit(visit, told, line, visits[0].day) for visit, told in zip(visits, told_V, strict=True)],
        steps=[_step(one, other, step) for (one, other), step in zip(pairwise(visits), steps, strict=True)],
        provenance=provenance(manifest),
    )


def _in_order(model: LoadedModel, scans: Sequence[PreparedScan], days: Sequence[float]) -> list[_Placed]:
    placed: list[_Placed] = []
    order = np.argsort(np.asarray(days, dtype=np.float64), kind="stable")
    for index, seen in zip(order, look(model, [scans[index] for index in order]), strict=True):
        day = float(days[index])
        twins = [visit for visit in placed if visit.seen.is_same_as(seen)]
        placed.append(
            _Placed(
                position=int(index) + 1,
                day=day,
                seen=seen,
                twin=twins[0].position if twins else None,
                is_counted=all(twin.day != day for twin in twins),
            )
        )
    return placed


def _line(
    model: LoadedModel, visits: Sequence[_Placed], change_VE: Floats, told_V: Floats
) -> tuple[Line | None, Floats]:
    """The line, in points from the first day on, and the embedding difference that it amounts to over the span."""
    decision = model.manifest.decision
    assert decision is not None
    counted = [index for index, visit in enumerate(visits) if visit.is_counted]
    days_V = np.array([visits[index].day - visits[0].day for index in counted])
    line = fit_line(days_V, told_V[counted], error_sd=decision.error_sd) if len(counted) > 1 else None
    if line is None:
        return None, np.zeros(change_VE.shape[1])
    return line, line.weights_V @ change_VE[counted]


def _changes(model: LoadedModel, line: Line, *, is_other_scanner: bool) -> tuple[AnnualChange, PredictedChange]:
    """The slope, and the same as a change over the whole span."""
    decision, unit = model.manifest.decision, f"points of {model.manifest.outcome.name}"
    assert decision is not None
    known = noise_floor(decision, is_other_scanner=is_other_scanner)
    floor = None if known is None else line.floor(known.percentile_95)
    is_within = None if floor is None else abs(line.slope) <= floor
    low, high, years = line.slope - line.margin, line.slope + line.margin, line.span_years
    annual = AnnualChange(
        points_per_year=line.slope,
        low=low,
        high=high,
        unit=f"{unit} a year",
        noise_floor_95=floor,
        within_noise_floor=is_within,
        visit_sd=line.visit_sd,
        scatter_sd=line.scatter,
    )
    fitted = PredictedChange(
        points=line.slope * years,
        low=low * years,
        high=high * years,
        unit=unit,
        noise_floor_95=None if floor is None else floor * years,
        within_noise_floor=is_within,
    )
    return annual, fitted


def _visit_reasons(
    visits: Sequence[_Placed], steps: Sequence[ProgressionAnswer], *, is_same_scan: bool
) -> list[Reason]:
    """What the scans alone say."""
    reasons = []
    if is_same_scan:
        same = "All scans hold the same voxels: there is nothing to compare, so the answer is stable by definition."
        reasons.append(Reason("same_scan", same))
    else:
        reasons += [
            Reason(
                "repeated_scan",
                f"The {ordinal(visit.twin)} and the {visit.name} scan hold the same voxels: give each scan once.",
            )
            for visit in visits
            if visit.twin is not None
        ]
    for (one, other), step in zip(pairwise(visits), steps, strict=True):
        reasons += person_reasons(step.same_person, f"heads of the {one.name} and the {other.name} scan")
    for visit in visits:
        reasons += scan_reasons(visit.name, visit.seen.facts, visit.seen.scan.findings)
    return reasons


def _floor_reasons(model: LoadedModel, annual: AnnualChange, *, is_other_scanner: bool) -> list[Reason]:
    """Whether the slope exceeds noise."""
    decision = model.manifest.decision
    assert decision is not None
    reasons = []
    if is_other_scanner:
        two = "Neighbouring scans look like those of two scanners, which may show a change where there is none."
        reasons.append(Reason("other_scanner", two))
    sentence = (
        f"The change of {annual.points_per_year:+.1f} {annual.unit} is within noise: scans of an unchanged person on "
        f"these days show less than {annual.noise_floor_95 or 0.0:.1f} in 95 % of cases."
    )
    known = noise_floor(decision, is_other_scanner=is_other_scanner)
    num_pairs = 0 if known is None else known.num_pairs
    return [
        *reasons,
        *floor_reasons(annual.within_noise_floor, num_pairs, sentence, is_other_scanner=is_other_scanner),
    ]


def _percentile(model: LoadedModel, annual: AnnualChange | None, age: float | None) -> AgePercentile | str:
    """Where the slope stands among people of about this age, or why that cannot be told."""
    if annual is None:
        return "All scans are of one day: there is no change a year to compare."
    if age is None:
        return "No age was given."
    known = model.references.changes_about(age)
    if known is None:
        return "The artefact holds no ages of reference people."
    if len(known) < MIN_SAME_AGE:
        return (
            f"The artefact holds {len(known)} reference people within {AGE_WINDOW_YEARS} years of {age:g}; a "
            f"percentile needs {MIN_SAME_AGE}."
        )
    low, middle, high = (percentile_rank(known, value) for value in (annual.low, annual.points_per_year, annual.high))
    return AgePercentile(percentile=middle, low=low, high=high, num_people=len(known), window_years=AGE_WINDOW_YEARS)


def _order_remark(visits: Sequence[_Placed]) -> list[str]:
    if [visit.position for visit in visits] == list(range(1, len(visits) + 1)):
        return []
    return ["The scans were not given in the order of their days, and were put in it."]


def _visit(visit: _Placed, told: float, line: Line | None, first_day: float) -> Visit:
    return Visit(
        **dict(visit.seen.facts),
        position=visit.position,
        day=visit.day,
        told_change=told,
        on_line=None if line is None else line.at(visit.day - first_day),
        is_counted=visit.is_counted,
    )


def _step(one: _Placed, other: _Placed, answer: ProgressionAnswer) -> VisitStep:
    return VisitStep(
        earlier=one.position,
        later=other.position,
        gap_days=other.day - one.day,
        decision=answer.decision,
        reasons=answer.reasons,
        caution=answer.caution,
        prediction_set=answer.prediction_set,
        predicted_change=answer.predicted_change,
        probabilities=answer.probabilities,
        is_same_scan=answer.is_same_scan,
        same_person=answer.same_person,
        same_scanner=answer.same_scanner,
    )
