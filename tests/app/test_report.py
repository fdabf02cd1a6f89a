"""The answer as text."""

from app.answers import answer_progression
from app.inputs import prepare
from app.registry import load_artefact
from app.report import describe
from tests.support.artefacts import RECIPE, write_artefact
from tests.support.heads import head_nifti

EARLIER = prepare(head_nifti(15, seed=1), RECIPE, name="earlier")
LATER = prepare(head_nifti(24, seed=2), RECIPE, name="later")


def test_the_text_starts_with_the_answer_and_ends_with_every_caution(artefact):
    answer = answer_progression(load_artefact(str(artefact)), EARLIER, LATER, gap_days=365)

    lines = describe(answer).splitlines()

    assert lines[0] == f"{answer.progression} over 365 days"
    assert f"declined {answer.probabilities.declined:.2f}" in lines[1]
    assert lines[-len(answer.caution) :] == [f"  - {sentence}" for sentence in answer.caution]
    assert max(map(len, lines)) <= 120


def test_what_the_artefact_does_not_hold_is_left_out(tmp_path):
    quiet = load_artefact(str(write_artefact(tmp_path / "quiet", noise_distances=())))

    text = describe(answer_progression(quiet, EARLIER, LATER))

    assert "scan-rescan noise  " not in text
    assert "between visits" in text
