"""When a pair gets an answer and when it does not: the rules by themselves, then through artefacts."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from app.answers import answer_progression
from app.decision import Reason, decide, noise_floor, worst_first
from app.inputs import PreparedScan, prepare
from app.registry import LoadedModel, load_artefact
from app.schemas import ReasonCode
from preprocess.manifest import Decision
from preprocess.types import Finding
from tests.support.artefacts import RECIPE, decision_part, write_artefact
from tests.support.heads import head_nifti

EARLIER = prepare(head_nifti(15, seed=1), RECIPE, name="earlier")
LATER = prepare(head_nifti(24, seed=2), RECIPE, name="later")
MODEL_CODES = ("model_not_above_chance", "model_without_metrics", "uncalibrated")
TOLD_CODES = ("no_prediction_set", "other_scanner")
"""What is said of a decision without keeping from it."""
CHANGE_CODES = ("same_day", "within_noise", "few_noise_pairs", "no_noise_floor")


def loaded(folder: Path, **options) -> LoadedModel:
    return load_artefact(str(write_artefact(folder, **options)))


def answered(folder: Path, *, accept_unproven: bool = False, macro_f1=(0.61, 0.52, 0.70, 0.40), **part):
    model = loaded(folder, decision=decision_part(**part), macro_f1=macro_f1)
    return answer_progression(model, EARLIER, LATER, accept_unproven=accept_unproven)


@pytest.mark.parametrize("code", [code for code in get_args(ReasonCode) if code != "same_scan"])
@pytest.mark.parametrize("answer", ["improved", "stable", "declined"])
def test_each_reason_keeps_from_what_it_casts_doubt_on(answer, code):
    if code in TOLD_CODES or (code in CHANGE_CODES and answer == "stable"):
        assert decide([answer], [code]) == answer
    else:
        assert decide([answer], [code]) == "undecided"
    if code in MODEL_CODES:
        assert decide([answer], [code], accept_unproven=True) == answer


def test_more_or_fewer_than_one_possible_answer_is_undecided_and_one_scan_twice_is_stable():
    assert decide(["declined"], []) == "declined"
    assert decide(["declined", "stable"], []) == "undecided"
    assert decide([], []) == "undecided"
    assert decide([], ["same_scan", "out_of_distribution", "uncalibrated"]) == "stable"


def test_reasons_are_ordered_worst_first_whatever_order_they_were_found_in():
    codes = list(get_args(ReasonCode))

    ordered = worst_first([Reason(code, code) for code in reversed(codes)])

    assert [reason.code for reason in ordered] == codes


def test_a_change_beyond_noise_with_one_possible_answer_is_decided(tmp_path: Path):
    answer = answered(tmp_path)

    assert (answer.decision, answer.reasons, answer.prediction_set) == ("declined", [], ["declined"])
    assert answer.caution == ["For research only: not a medical device, not for decisions about a patient."]


def test_the_predicted_change_is_the_product_of_the_direction_with_the_difference(tmp_path: Path):
    model = loaded(tmp_path, decision=decision_part())
    forth, back = answer_progression(model, EARLIER, LATER), answer_progression(model, LATER, EARLIER)
    first, second = (model.engine.embed(scan.voxels_CDHW[None])[0] for scan in (EARLIER, LATER))

    predicted = forth.predicted_change

    assert predicted is not None
    assert predicted.points == pytest.approx(float((second - first) @ np.linspace(-40.0, 60.0, 8)), rel=1e-4)
    assert predicted.points < 0
    assert (predicted.low, predicted.high) == (predicted.points - 0.98, predicted.points + 0.98)
    assert (predicted.unit, predicted.noise_floor_95, predicted.within_noise_floor) == ("points of mmse", 0.01, False)
    assert back.predicted_change is not None
    assert back.predicted_change.points == -predicted.points


@pytest.mark.parametrize(
    ("part", "codes", "words"),
    [
        ({"noise": (90.0, 40)}, ["within_noise"], "95 % of repeats on one day show less than 90.0"),
        ({"noise": (0.01, 19)}, ["few_noise_pairs"], "rests on only 19 scan-rescan pairs"),
        ({"noise": None}, ["no_noise_floor"], "no scan-rescan references"),
        ({"least": (0.4, 0.0, 0.4)}, ["several_answers_possible"], "None of stable and declined can be ruled out"),
        (
            {"log_loss": 1.2},
            ["uncalibrated"],
            "on people it has not seen is 1.20, that of the classes' frequencies 1.00",
        ),
        (
            {"noise": (90.0, 3), "log_loss": 1.2, "least": (0.0, 0.0, 0.0)},
            ["within_noise", "few_noise_pairs", "several_answers_possible", "uncalibrated"],
            "None of improved, stable and declined can be ruled out",
        ),
    ],
)
def test_what_casts_doubt_on_a_change_is_named_and_undecides_it(tmp_path: Path, part, codes, words):
    answer = answered(tmp_path, **part)

    assert (answer.decision, answer.reasons) == ("undecided", codes)
    assert any(words in sentence for sentence in answer.caution)
    assert len(answer.caution) == len(codes) + 1


@pytest.mark.parametrize(
    ("macro_f1", "log_loss", "code"),
    [
        ((0.35, 0.28, 0.42, 0.33), 0.6, "model_not_above_chance"),
        (None, 0.6, "model_without_metrics"),
        ((0.61, 0.52, 0.70, 0.40), 1.0, "uncalibrated"),
    ],
)
def test_a_model_that_is_not_shown_to_be_right_decides_only_when_asked_to(tmp_path: Path, macro_f1, log_loss, code):
    plain = answered(tmp_path / "a", macro_f1=macro_f1, log_loss=log_loss)
    accepted = answered(tmp_path / "b", macro_f1=macro_f1, log_loss=log_loss, accept_unproven=True)

    assert (plain.decision, accepted.decision) == ("undecided", "declined")
    assert plain.reasons == accepted.reasons == [code]


def test_one_scan_twice_is_stable_whatever_the_model_is_worth(tmp_path: Path):
    answer = answer_progression(loaded(tmp_path, decision=decision_part(), macro_f1=None), EARLIER, EARLIER)

    assert (answer.decision, answer.prediction_set) == ("stable", ["stable"])
    assert answer.reasons == ["same_scan", "model_without_metrics"]
    assert answer.predicted_change is not None
    assert answer.predicted_change.points == 0


def with_finding(code: str) -> PreparedScan:
    return PreparedScan(LATER.voxels_CDHW, LATER.sha256, (Finding(code, "later: something; see the scan", False),))


@pytest.mark.parametrize(
    ("finding", "codes"),
    [("head_cut", ["quality"]), ("not_t1_like", ["not_this_contrast"]), ("units_converted", [])],
)
def test_a_remark_on_a_scan_undecides_unless_it_leaves_the_voxels_beyond_doubt(tmp_path: Path, finding, codes):
    model = loaded(tmp_path, decision=decision_part())

    answer = answer_progression(model, EARLIER, with_finding(finding))

    assert answer.reasons == codes
    assert answer.decision == ("undecided" if codes else "declined")


def test_a_scan_outside_the_training_distribution_undecides(tmp_path: Path):
    half = LATER.voxels_CDHW.copy()
    half[:, :, 8:] = 0

    answer = answer_progression(loaded(tmp_path, decision=decision_part()), EARLIER, PreparedScan(half, "0" * 64, ()))

    assert (answer.decision, answer.reasons) == ("undecided", ["out_of_distribution"])


def test_an_artefact_of_an_earlier_version_decides_from_distances_and_says_what_is_missing(tmp_path: Path):
    near = tuple(np.linspace(1e-6, 2e-6, 20))
    beyond = answer_progression(loaded(tmp_path / "a", noise_distances=near), EARLIER, LATER)
    within = answer_progression(loaded(tmp_path / "b", noise_distances=(1.0,) * 20), EARLIER, LATER)
    without = answer_progression(loaded(tmp_path / "c", noise_distances=()), EARLIER, LATER)

    assert (beyond.decision, beyond.reasons) == ("declined", ["no_prediction_set"])
    assert (within.decision, within.reasons) == ("undecided", ["within_noise", "no_prediction_set"])
    assert (without.decision, without.reasons) == ("undecided", ["no_noise_floor", "no_prediction_set"])
    assert beyond.prediction_set is beyond.predicted_change is None


def test_on_two_scanners_the_larger_floor_counts_and_without_one_there_is_none():
    def part(noise, other) -> Decision:
        floor = None if other is None else {"percentile_95": other, "num_pairs": 40, "unit": "points of mmse"}
        return Decision.model_validate(decision_part(noise=noise) | {"other_scanner": floor})

    def size(decision: Decision, *, is_other_scanner: bool) -> float | None:
        floor = noise_floor(decision, is_other_scanner=is_other_scanner)
        return None if floor is None else floor.percentile_95

    assert size(part((1.4, 26), 3.5), is_other_scanner=False) == 1.4
    assert size(part((1.4, 26), 3.5), is_other_scanner=True) == 3.5
    assert size(part((4.0, 26), 3.5), is_other_scanner=True) == 4.0
    assert size(part((1.4, 26), None), is_other_scanner=True) is None
    assert size(part(None, 3.5), is_other_scanner=True) == 3.5
    assert size(part(None, 3.5), is_other_scanner=False) is None
