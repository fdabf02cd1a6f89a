"""An answer for a pair or a trajectory as text for a person at a terminal."""

from app.schemas import DistanceReference, PairedScan, ProgressionAnswer, Provenance
from app.trajectory_schemas import AgePercentile, AnnualChange, TrajectoryAnswer
from preprocess.manifest import OutcomeSpec


def describe(answer: ProgressionAnswer) -> str:
    """Several lines: the decision and its reasons, what it rests on, and what to know before relying on it."""
    chances = answer.probabilities
    gap = "" if answer.gap_days is None else f" over {answer.gap_days:g} days"
    lines = [
        f"{answer.decision}{gap}",
        f"  reasons        {', '.join(answer.reasons) or 'none'}",
        *_set_lines(answer),
        f"  probabilities  improved {chances.improved:.2f}, stable {chances.stable:.2f}, "
        f"declined {chances.declined:.2f}",
        f"  uncertainty    {answer.uncertainty.entropy:.2f}  (0 sure, 1 a guess)"
        + (", ambiguous" if answer.uncertainty.is_ambiguous else ""),
        _outcome_line(answer.outcome),
        f"  change         cosine distance {answer.change.distance:.4f}",
        _reference_line("scan-rescan noise", answer.change.noise_floor),
        _reference_line("between visits", answer.change.between_visits),
        *_scan_lines("earlier", answer.earlier, answer.outcome.name),
        *_scan_lines("later", answer.later, answer.outcome.name),
        *_closing_lines(answer.provenance, answer.caution),
    ]
    return "\n".join(line for line in lines if line)


def describe_trajectory(answer: TrajectoryAnswer) -> str:
    """Several lines: the decision and its reasons, the change a year, every visit, and what to know before relying."""
    lines = [
        f"{answer.decision} over {answer.span_days:g} days, {len(answer.visits)} scans",
        f"  reasons        {', '.join(answer.reasons) or 'none'}",
        "" if answer.prediction_set is None else f"  possible       {', '.join(answer.prediction_set)}",
        *_year_lines(answer.annual_change),
        _percentile_line(answer.percentile_for_age, answer.no_percentile, answer.age),
        _outcome_line(answer.outcome),
        "  day            change from the first visit, and on the line",
    ]
    for visit in answer.visits:
        on_line = "" if visit.on_line is None else f"{visit.on_line:+10.1f}"
        twice = "" if visit.is_counted else "  given twice, counted once"
        lines.append(f"  {visit.day:<15g}{visit.told_change:+.1f}{on_line}{twice}")
    for step in answer.steps:
        reasons = f" ({', '.join(step.reasons)})" if step.reasons else ""
        lines.append(f"  {f'{step.earlier} to {step.later}':<15}{step.decision}{reasons}")
    lines += _closing_lines(answer.provenance, answer.caution)
    return "\n".join(line for line in lines if line)


def _year_lines(annual: AnnualChange | None) -> list[str]:
    if annual is None:
        return []
    text = f"  a year         {annual.points_per_year:+.1f} {annual.unit} ({annual.low:+.1f} to {annual.high:+.1f})"
    if annual.noise_floor_95 is not None:
        text += f", noise up to {annual.noise_floor_95:.1f}"
    error = f"  error          {annual.visit_sd:.1f} for one visit"
    return [text, error if annual.scatter_sd is None else f"{error}, {annual.scatter_sd:.1f} around the line"]


def _percentile_line(known: AgePercentile | None, unknown: str | None, age: float | None) -> str:
    if known is None:
        return f"  for the age    {unknown}"
    return (
        f"  for the age    {known.percentile:.0f} % of {known.num_people} people of about {age:g} declined faster "
        f"({known.low:.0f} to {known.high:.0f})"
    )


def _outcome_line(outcome: OutcomeSpec) -> str:
    direction = "higher is better" if outcome.higher_is_better else "lower is better"
    return f"  outcome        {outcome.name}, {direction}, stable below a change of {outcome.threshold:g}"


def _closing_lines(provenance: Provenance, caution: list[str]) -> list[str]:
    return [
        f"  model          {provenance.model} {provenance.version} ({provenance.method})",
        "Before relying on this:",
        *(f"  - {sentence}" for sentence in caution),
    ]


def _set_lines(answer: ProgressionAnswer) -> list[str]:
    lines = []
    if answer.prediction_set is not None:
        lines.append(f"  possible       {', '.join(answer.prediction_set)}")
    predicted = answer.predicted_change
    if predicted is not None:
        text = (
            f"  predicted      {predicted.points:+.1f} {predicted.unit} ({predicted.low:+.1f} to {predicted.high:+.1f})"
        )
        if predicted.noise_floor_95 is not None:
            text += f", noise up to {predicted.noise_floor_95:.1f}"
        lines.append(text)
    return lines


def _reference_line(title: str, known: DistanceReference | None) -> str:
    if known is None:
        return ""
    return (
        f"    {title:<19}median {known.median:.4f}, 95 % below {known.percentile_95:.4f} "
        f"({known.count} pairs); this pair is farther apart than {known.percentile_rank:.0f} % of them"
    )


def _scan_lines(name: str, scan: PairedScan, score: str) -> list[str]:
    typical = scan.out_of_distribution
    text = f"  {name:<15}distance to the training scans {typical.distance:.1f}"
    if typical.percentile is not None:
        text += f", farther than {typical.percentile:.0f} % of the validation scans"
    near = scan.neighbours
    if near is None:
        return [text]
    quartiles = f"quartiles {near.lower_quartile:g} and {near.upper_quartile:g}"
    return [text, f"    {score} of its {near.count} nearest references: median {near.median_score:g}, {quartiles}"]
