"""The answer as text."""

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import load_artefact
from app.report import describe
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
