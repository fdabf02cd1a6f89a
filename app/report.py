"""A progression answer as text for a person at a terminal."""

from app.schemas import DistanceReference, PairedScan, ProgressionAnswer


def describe(answer: ProgressionAnswer) -> str:
    """Several lines: the decision and its reasons, what it rests on, and what to know before relying on it."""
    chances = answer.probabilities
    outcome = answer.outcome
    direction = "higher is better" if outcome.higher_is_better else "lower is better"
    gap = "" if answer.gap_days is None else f" over {answer.gap_days:g} days"
    lines = [
        f"{answer.decision}{gap}",
        f"  reasons        {', '.join(answer.reasons) or 'none'}",
        *_set_lines(answer),
        f"  probabilities  improved {chances.improved:.2f}, stable {chances.stable:.2f}, "
        f"declined {chances.declined:.2f}",
        f"  uncertainty    {answer.uncertainty.entropy:.2f}  (0 sure, 1 a guess)"
        + (", ambiguous" if answer.uncertainty.is_ambiguous else ""),
        f"  outcome        {outcome.name}, {direction}, stable below a change of {outcome.threshold:g}",
        f"  change         cosine distance {answer.change.distance:.4f}",
        _reference_line("scan-rescan noise", answer.change.noise_floor),
        _reference_line("between visits", answer.change.between_visits),
        *_scan_lines("earlier", answer.earlier, outcome.name),
        *_scan_lines("later", answer.later, outcome.name),
        f"  model          {answer.provenance.model} {answer.provenance.version} ({answer.provenance.method})",
        "Before relying on this:",
        *(f"  - {sentence}" for sentence in answer.caution),
    ]
    return "\n".join(line for line in lines if line)


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
    place = scan.out_of_distribution
    text = f"  {name:<15}distance to the training scans {place.distance:.1f}"
    if place.percentile is not None:
        text += f", farther than {place.percentile:.0f} % of the validation scans"
    near = scan.neighbours
    if near is None:
        return [text]
    quartiles = f"quartiles {near.lower_quartile:g} and {near.upper_quartile:g}"
    return [text, f"    {score} of its {near.count} nearest references: median {near.median_score:g}, {quartiles}"]
