"""The answer as text."""

import numpy as np

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import load_artefact
from app.report import describe, describe_trajectory
from app.trajectory_answer import answer_trajectory
from tests.support.artefacts import RECIPE, decision_part, write_artefact
from tests.support.heads import head_nifti

EARLIER = prepare(head_nifti(15, seed=1), RECIPE, name="earlier")
LATER = prepare(head_nifti(24, seed=2), RECIPE, name="later")


def test_the_text_starts_with_the_answer_and_ends_with_every_caution(artefact):
    answer = answer_progression(load_artefact(str(artefact)), EARLIER, LATER, gap_days=365)

    lines = describe(answer).splitlines()

    assert lines[0] == f"{answer.decision} over 365 days"
    assert lines[1].split(maxsplit=1) == ["reasons", ", ".join(answer.reasons)]
    assert f"declined {answer.probabilities.declined:.2f}" in lines[2]
    assert lines[-len(answer.caution) :] == [f"  - {sentence}" for sentence in answer.caution]
    assert max(map(len, lines)) <= 120


def test_what_the_artefact_does_not_hold_is_left_out(tmp_path):
    quiet = load_artefact(str(write_artefact(tmp_path / "quiet", noise_distances=())))

    text = describe(answer_progression(quiet, EARLIER, LATER))

    assert "scan-rescan noise  " not in text
    assert "between visits" in text


def test_what_cannot_be_ruled_out_and_the_predicted_change_stand_below_the_decision(tmp_path):
    model = load_artefact(str(write_artefact(tmp_path / "new", decision=decision_part(least=(0.0, 0.0, 0.0)))))
    answer = answer_progression(model, EARLIER, LATER)

    lines = describe(answer).splitlines()

    assert lines[0] == "undecided"
    assert lines[2].split(maxsplit=1) == ["possible", "improved, stable, declined"]
    assert answer.predicted_change is not None
    assert f"{answer.predicted_change.points:+.1f} points of mmse" in lines[3]
    assert "noise up to 0.0" in lines[3]


def test_a_trajectory_reads_from_the_decision_over_the_visits_to_every_caution(tmp_path):
    model = load_artefact(str(write_artefact(tmp_path / "line", decision=decision_part(), judges=True)))
    answer = answer_trajectory(model, [EARLIER, LATER, EARLIER], [0, 365.25, 0])

    text = describe_trajectory(answer)

    lines = text.splitlines()
    assert lines[0] == "undecided over 365.25 days, 3 scans"
    assert lines[1].split(maxsplit=1) == ["reasons", "repeated_scan"]
    annual = answer.annual_change
    assert annual is not None
    assert f"{annual.points_per_year:+.1f} points of mmse a year ({annual.low:+.1f} to {annual.high:+.1f})" in text
    assert "for the age    No age was given." in text
    assert "given twice, counted once" in text
    assert "  1 to 3         stable (same_scan)" in lines
    assert lines[-len(answer.caution) :] == [f"  - {sentence}" for sentence in answer.caution]
    assert max(map(len, lines)) <= 120


def test_a_trajectory_of_one_day_has_no_line_of_change_a_year(tmp_path):
    model = load_artefact(str(write_artefact(tmp_path / "line", decision=decision_part(), judges=True)))

    text = describe_trajectory(answer_trajectory(model, [EARLIER, LATER], [3, 3]))

    assert "  a year" not in text
    assert "All scans are of one day" in text


def test_the_place_among_people_of_the_age_is_said_with_its_range(tmp_path):
    references = {"annual_changes_P": np.linspace(-30, 10, 40, dtype=np.float32), "ages_P": np.full(40, 70.0)}
    folder = write_artefact(tmp_path / "line", decision=decision_part(), judges=True, references=references)
    answer = answer_trajectory(load_artefact(str(folder)), [EARLIER, LATER], [0, 365.25], age=72)

    known = answer.percentile_for_age
    assert known is not None
    assert (
        f"{known.percentile:.0f} % of 40 people of about 72 declined faster ({known.low:.0f} to {known.high:.0f})"
        in describe_trajectory(answer)
    )
