"""What the numbers say in plain words: better than chance and than the controls, or not, or undecided.

Pure: an Evaluation in, sentences out. "Better" always means that the whole 95 % interval lies above what it is compared
with; a point estimate alone earns nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.metrics.evaluation import ControlResult, Evaluation, Metric

Standing = Literal["shown", "not shown", "open"]

SKILLS = {
    "macro_f1": "tells improved, stable and declined apart",
    "class_auc": "tells the two classes apart",
    "severity_tau_b": "orders scans by severity",
    "severity_macro_f1": "tells grades of severity apart",
    "probe_spearman": "lets a linear probe rank scans by their score",
    "change_correlation": "moves an embedding farther when the score changes more",
    "spearman": "ranks scans by their score",
    "retrieval_at_1": "recognises a person across visits",
    "verification_auc": "tells another visit of a person from a scan of a stranger",
}
"""Metrics that answer a question of their own, the most important first; the first one measured makes the headline."""
SHORT_NAMES = {
    "macro_f1": "macro-F1",
    "class_auc": "area under the ROC curve",
    "severity_tau_b": "Kendall's tau",
    "severity_macro_f1": "macro-F1 of grades",
    "probe_spearman": "Spearman's rho",
    "change_correlation": "Spearman's rho",
    "spearman": "Spearman's rho",
    "retrieval_at_1": "retrieval@1",
    "verification_auc": "AUC of verification",
}
CONTROL_WORDS = {
    "gap_days": "the gap in days alone",
    "scanner": "the scanners alone",
    "majority": "always answering the majority class",
    "shuffled_labels": "shuffled labels",
    "untrained": "the untrained network",
    "brightness_ridge": "a ridge regression on coarse brightness",
    "tissue_ridge": "a ridge regression on maps of tissue",
}
NEEDED_CONTROLS = ("gap_days", "scanner")
"""A gap in days, or the scanners alone, can tell change where visits follow the clinic and not the person."""
IDENTITY = ("retrieval_at_1", "verification_auc")
"""Random weights tell people apart too, since heads differ in shape: these claims are held against that network."""
FEW_SUBJECTS = 30
"""Below it a percentile interval is visibly too narrow."""
COLLAPSED_SPREAD = 0.3
"""Uniform directions give 1. Embeddings after ReLU lie in one orthant and give about 0.6; this is half of that."""
POOR_CALIBRATION = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer first.

    Attributes:
        standing: whether the main claim is shown, not shown, or open.
        headline: one plain sentence.
        details: the sentences with the numbers behind it, main claim first.
    """

    standing: Standing
    headline: str
    details: tuple[str, ...]


def judge(evaluation: Evaluation) -> Verdict:
    """Judge an evaluation by its intervals.

    Args:
        evaluation: what was found.
    """
    measured = [name for name in SKILLS if name in evaluation.metrics]
    if not measured:
        return Verdict("open", "Nothing was measured that could show what the model has learned.", ())
    main = measured[0]
    standing, headline = _main_claim(main, evaluation)
    details = [_with_numbers(name, evaluation.metrics[name]) for name in measured]
    leads = [sentence for control in evaluation.controls for sentence in _lead_sentences(control)]
    identity = [sentence for name in IDENTITY if (sentence := _identity_sentence(name, evaluation))]
    return Verdict(standing, headline, (details[0], *leads, *details[1:], *identity))


def find_caveats(evaluation: Evaluation) -> tuple[str, ...]:
    """Say what follows from the numbers and must be known before they are used.

    Args:
        evaluation: what was found.
    """
    found: list[str] = []
    subjects = evaluation.splits[evaluation.split].subjects if evaluation.split in evaluation.splits else 0
    if subjects < FEW_SUBJECTS:
        few = f"Small test set: {subjects} subjects. Below {FEW_SUBJECTS}, intervals are rough and too narrow."
        change = evaluation.metrics.get("macro_f1")
        more = 0 if change is None else change.num_subjects or 0
        in_turns = f" Figures of change are over {more}: the members answered the training people in turns."
        found.append(few + in_turns if more > subjects else few)
    value = {name: metric.value for name, metric in evaluation.metrics.items() if metric.value is not None}
    spread = value.get("embedding_spread")
    if spread is not None and spread < COLLAPSED_SPREAD:
        found.append(
            f"The embedding has collapsed or nearly so: spread {spread:.2f}, healthy near 1. "
            "Small distances within a subject mean nothing here."
        )
    ratio = value.get("within_between_ratio")
    if ratio is not None and ratio >= 1:
        found.append(f"Visits of one subject lie as far apart as strangers do: ratio {ratio:.2f}.")
    within, noise = value.get("within_distance"), value.get("noise_floor_95")
    if within is not None and noise is not None and within <= noise:
        found.append(
            f"The usual distance between two visits ({within:.3f}) is within what scanning twice on one day gives "
            f"({noise:.3f}, 95th percentile): single changes cannot be told from noise."
        )
    calibration = value.get("calibration_error")
    if calibration is not None and calibration > POOR_CALIBRATION:
        found.append(f"Stated probabilities are off by {calibration:.2f} on average; do not read them as frequencies.")
    found += [f"Not better than {_words(one)}, by macro-F1." for one in evaluation.controls if _beaten(one) is False]
    if any((lead := _untrained_lead(name, evaluation)) and lead.low is not None and lead.low <= 0 for name in IDENTITY):
        found.append("The untrained network tells people apart as well: that is no result of training.")
    retrieval, progress = evaluation.metrics.get("retrieval_at_1"), evaluation.metrics.get("macro_f1")
    if retrieval and progress and better_than_chance(retrieval) and not better_than_chance(progress):
        found.append("The model knows who a person is, but has not been shown to see what changed.")
    return tuple(found)


def better_than_chance(metric: Metric) -> bool | None:
    """Whether the whole interval lies above chance; None when there is no value, interval or chance level.

    Args:
        metric: one of which higher is better.
    """
    if metric.low is None or metric.chance is None:
        return None
    return metric.low > metric.chance


def _beaten(control: ControlResult) -> bool | None:
    if control.lead is not None:
        return None if control.lead.low is None else control.lead.low > 0
    return None if control.p_value is None else control.p_value < 0.05


def _main_claim(name: str, evaluation: Evaluation) -> tuple[Standing, str]:
    metric, skill = evaluation.metrics[name], SKILLS[name]
    above = better_than_chance(metric)
    if above is None:
        return "open", f"Whether the model {skill} cannot be told: {metric.note or 'there is no interval'}."
    if not above:
        if metric.high is not None and metric.chance is not None and metric.high < metric.chance:
            return "not shown", "The model does worse than chance."
        return "not shown", f"Not better than chance: it is not shown that the model {skill}."
    if name in IDENTITY:
        lead = _untrained_lead(name, evaluation)
        if lead is None or lead.low is None:
            said = CONTROL_WORDS["untrained"]
            return "open", f"Better than chance, but whether it is better than {said} was not or could not be measured."
        if lead.low <= 0:
            return "not shown", f"Better than chance, but not better than {CONTROL_WORDS['untrained']}."
        return "shown", f"The model {skill}, better than chance and than {CONTROL_WORDS['untrained']}."
    if name != "macro_f1":
        return "shown", f"The model {skill} better than chance."
    # A control without macro-F1, such as an untrained network whose embeddings do not differ, cannot be lost to.
    compared = [one for one in evaluation.controls if one.lead or one.p_value is not None]
    beaten = {control.name: _beaten(control) for control in compared}
    lost = [_words(control) for control in compared if beaten[control.name] is False]
    if lost:
        return "not shown", f"Better than chance, but not better than {_listed(lost, 'or')}."
    unknown = [one for one in beaten if beaten[one] is None] + [one for one in NEEDED_CONTROLS if one not in beaten]
    if unknown:
        said = _listed([CONTROL_WORDS.get(one, one) for one in unknown], "or")
        return "open", f"Better than chance, but whether it is better than {said} was not or could not be measured."
    return "shown", f"The model {skill}, better than chance and than every control."


def _with_numbers(name: str, metric: Metric) -> str:
    skill = SKILLS[name]
    if metric.value is None:
        return f"Whether it {skill} was not measured: {metric.note or 'no value'}."
    above = better_than_chance(metric)
    opening = f"It {skill}" if above else f"It is not shown that it {skill}"
    ends = "no interval" if metric.low is None else f"95 % interval {metric.low:.2f} to {metric.high:.2f}"
    who = "" if metric.num_subjects is None else f" over {metric.num_subjects} subjects"
    chance = "" if metric.chance is None else f"; chance is {metric.chance:.2f}"
    return f"{opening}: {SHORT_NAMES[name]} {metric.value:.2f} ({ends}{who}){chance}."


def _lead_sentences(control: ControlResult) -> list[str]:
    return [
        f"Lead in {name} over {_words(control)}: {_with_ends(lead)}."
        for name, lead in (("macro-F1", control.lead), ("log loss", control.leads.get("log_loss")))
        if lead is not None and lead.value is not None
    ]


def _untrained_lead(name: str, evaluation: Evaluation) -> Metric | None:
    """The run's lead over the untrained network by one metric."""
    return next((one.leads.get(name) for one in evaluation.controls if one.name == "untrained"), None)


def _identity_sentence(name: str, evaluation: Evaluation) -> str:
    lead = _untrained_lead(name, evaluation)
    if lead is None or lead.value is None:
        return ""
    return f"Lead in {SHORT_NAMES[name]} over {CONTROL_WORDS['untrained']}: {_with_ends(lead)}."


def _with_ends(lead: Metric) -> str:
    ends = "no interval" if lead.low is None else f"{lead.low:+.2f} to {lead.high:+.2f}"
    return f"{lead.value:+.2f} ({ends})"


def _words(control: ControlResult) -> str:
    return CONTROL_WORDS.get(control.name, control.name)


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
