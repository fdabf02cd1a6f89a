"""Trajectories of prepared scans: the line is that of the embeddings, and the decision that of pairs."""

from pathlib import Path

import numpy as np
import pytest

from app.answers import answer_progression
from app.inputs import PreparedScan, prepare
from app.registry import LoadedModel, load_artefact
from app.trajectory_answer import answer_trajectory
from preprocess.errors import ArtefactError
from preprocess.types import Finding
from tests.app.test_checks import OTHER, SCAN, references
from tests.support.artefacts import RECIPE, WIDTH, decision_part, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti

CORES_MM = (15, 18, 21, 24)
SCANS = [
    prepare(head_nifti(core, seed=number), RECIPE, name=f"scan {number}")
    for number, core in enumerate(CORES_MM, start=1)
]
YEARLY = [0.0, 365.25, 730.5, 1095.75]
DIRECTION = np.linspace(-40.0, 60.0, WIDTH)


def loaded(folder: Path, *, judges: bool = True, **changes) -> LoadedModel:
    settings = {"decision": decision_part(), "judges": judges} | changes
    return load_artefact(str(write_artefact(folder / "model", **settings)))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("trajectory"))


def told(model: LoadedModel, scans=SCANS) -> np.ndarray:
    """Points of each scan, by the engine and the direction alone."""
    return np.array([model.engine.embed(scan.voxels_CDHW[None])[0].astype(np.float64) @ DIRECTION for scan in scans])


def test_the_slope_is_that_of_the_told_scores_and_the_decision_follows(model):
    answer = answer_trajectory(model, SCANS, YEARLY)

    slope, _ = np.polyfit(np.array(YEARLY) / 365.25, told(model), 1)
    assert answer.annual_change is not None
    assert answer.fitted_change is not None
    assert answer.annual_change.points_per_year == pytest.approx(slope, rel=1e-6)
    assert answer.fitted_change.points == pytest.approx(3 * slope, rel=1e-6)
    assert answer.annual_change.unit == "points of mmse a year"
    assert answer.annual_change.visit_sd == pytest.approx(0.5 / 2**0.5)
    assert answer.annual_change.noise_floor_95 == pytest.approx(0.01 / (2 * 5) ** 0.5)
    assert (answer.decision, answer.reasons, answer.prediction_set) == ("declined", [], ["declined"])
    assert (answer.span_days, len(answer.visits), len(answer.steps)) == (1095.75, 4, 3)
    on_line = [visit.on_line for visit in answer.visits]
    np.testing.assert_allclose(np.diff(on_line), slope, rtol=1e-6)


def test_steps_are_the_answers_of_the_pairs_and_told_changes_add_up(model):
    answer = answer_trajectory(model, SCANS, YEARLY)

    for number, step in enumerate(answer.steps):
        pair = answer_progression(model, SCANS[number], SCANS[number + 1], gap_days=365.25)
        for field in ("decision", "reasons", "prediction_set", "predicted_change", "probabilities", "caution"):
            assert getattr(step, field) == getattr(pair, field), field
        assert (step.earlier, step.later, step.gap_days) == (number + 1, number + 2, 365.25)
    steps = [step.predicted_change.points for step in answer.steps if step.predicted_change]
    np.testing.assert_allclose([visit.told_change for visit in answer.visits], [0.0, *np.cumsum(steps)], atol=1e-9)


def test_two_visits_decide_as_the_pair_does(model):
    pair, line = answer_progression(model, *SCANS[:2]), answer_trajectory(model, SCANS[:2], [0, 365.25])

    assert pair.predicted_change is not None
    assert line.fitted_change is not None
    for field in ("points", "low", "high", "noise_floor_95"):
        assert getattr(line.fitted_change, field) == pytest.approx(getattr(pair.predicted_change, field)), field
    assert (line.decision, line.reasons, line.prediction_set) == (pair.decision, pair.reasons, pair.prediction_set)
    assert line.probabilities is not None
    assert line.probabilities.declined == pytest.approx(pair.probabilities.declined, rel=1e-5)


def test_the_network_sees_each_scan_once(model, monkeypatch):
    seen = []
    embed = type(model.engine).embed
    monkeypatch.setattr(
        type(model.engine), "embed", lambda self, volumes: [seen.append(len(volumes)), embed(self, volumes)][1]
    )
    monkeypatch.setattr(type(model.engine), "compare", lambda *_: pytest.fail("embeds twice more"))

    answer_trajectory(model, SCANS, YEARLY)
    assert seen == [2, 2]
    answer_progression(model, *SCANS[:2])
    assert seen == [2, 2, 2]


def test_time_reversed_changes_the_sign_and_the_class(model):
    forth, back = answer_trajectory(model, SCANS, YEARLY), answer_trajectory(model, SCANS[::-1], YEARLY)

    assert forth.annual_change is not None
    assert back.annual_change is not None
    assert back.annual_change.points_per_year == pytest.approx(-forth.annual_change.points_per_year)
    assert back.annual_change.low == pytest.approx(-forth.annual_change.high)
    assert (forth.decision, back.decision) == ("declined", "improved")


def test_scans_in_any_order_are_put_in_that_of_their_days_and_it_is_said(model):
    order = [2, 0, 3, 1]
    straight = answer_trajectory(model, SCANS, YEARLY)
    mixed = answer_trajectory(model, [SCANS[index] for index in order], [YEARLY[index] for index in order])

    assert mixed.annual_change == straight.annual_change
    assert [visit.position for visit in mixed.visits] == [2, 4, 1, 3]
    assert [visit.day for visit in mixed.visits] == YEARLY
    assert mixed.caution[-2].startswith("The scans were not given in the order of their days")
    assert mixed.caution[:-2] + mixed.caution[-1:] == straight.caution


def test_rescans_of_a_day_narrow_the_interval_and_one_scan_twice_does_not(model):
    rescan = prepare(head_nifti(CORES_MM[0], seed=77), RECIPE, name="scan 2")
    plain = answer_trajectory(model, [SCANS[0], SCANS[3]], [0, 1000])
    repeated = answer_trajectory(model, [SCANS[0], rescan, SCANS[3]], [0, 0, 1000])
    doubled = answer_trajectory(model, [SCANS[0], SCANS[0], SCANS[3]], [0, 0, 1000])

    def width(answer) -> float:
        return answer.annual_change.high - answer.annual_change.low

    # Three visits at 0, 0 and T: S = 2/3 T^2 instead of T^2 / 2, so the error falls by the root of 3/4.
    assert width(repeated) == pytest.approx(width(plain) * 0.75**0.5, rel=1e-6)
    assert doubled.annual_change == plain.annual_change
    assert [visit.is_counted for visit in doubled.visits] == [True, False, True]
    assert (doubled.decision, doubled.reasons) == ("undecided", ["repeated_scan"])
    assert doubled.caution[0] == "The 1st and the 2nd scan hold the same voxels: give each scan once."
    assert [step.decision for step in doubled.steps] == ["stable", "declined"]


def test_one_scan_at_every_visit_is_stable_by_definition_with_a_slope_of_exactly_0(model):
    answer = answer_trajectory(model, [SCANS[1]] * 3, [0, 365, 730])

    assert (answer.decision, answer.reasons, answer.prediction_set) == ("stable", ["same_scan"], ["stable"])
    assert answer.annual_change is not None
    assert answer.annual_change.points_per_year == 0


def test_scans_of_one_day_have_no_slope_and_it_is_said_in_one_line(model):
    answer = answer_trajectory(model, SCANS[:3], [90, 90, 90], age=70)

    assert answer.annual_change is answer.fitted_change is answer.prediction_set is answer.probabilities is None
    assert (answer.decision, answer.reasons) == ("undecided", ["same_day"])
    assert answer.caution[0] == "All scans are of one day: there is no change over time to tell."
    assert answer.no_percentile == "All scans are of one day: there is no change a year to compare."
    assert [visit.on_line for visit in answer.visits] == [None] * 3


@pytest.mark.parametrize(
    ("part", "codes", "words"),
    [
        ({"noise": (90.0, 40)}, ["within_noise"], "on these days show less than"),
        ({"noise": (0.01, 19)}, ["few_noise_pairs"], "rests on only 19 scan-rescan pairs"),
        ({"noise": None}, ["no_noise_floor"], "no scan-rescan references"),
        ({"least": (0.4, 0.0, 0.4)}, ["several_answers_possible"], "None of stable and declined can be ruled out"),
        ({"log_loss": 1.2}, ["uncalibrated"], "The model is uncalibrated"),
    ],
)
def test_what_casts_doubt_on_a_pair_casts_it_on_a_trajectory(tmp_path, part, codes, words):
    answer = answer_trajectory(loaded(tmp_path, decision=decision_part(**part)), SCANS, YEARLY)

    assert (answer.decision, answer.reasons) == ("undecided", codes)
    assert any(words in sentence for sentence in answer.caution)


def test_an_unproven_model_decides_only_when_asked_to(tmp_path):
    model = loaded(tmp_path, macro_f1=None)

    assert answer_trajectory(model, SCANS, YEARLY).decision == "undecided"
    assert answer_trajectory(model, SCANS, YEARLY, accept_unproven=True).decision == "declined"


def test_a_remark_on_one_scan_undecides_and_names_it_by_its_position(model):
    finding = Finding("head_cut", "scan 3: the head is cut; see the scan", False)
    cut = PreparedScan(SCANS[2].voxels_CDHW, SCANS[2].sha256, (finding,))

    answer = answer_trajectory(model, [*SCANS[:2], cut, SCANS[3]], YEARLY)

    assert (answer.decision, answer.reasons) == ("undecided", ["quality"])
    assert answer.caution[0].startswith("The 3rd scan may not be fit to compare: scan 3: the head is cut")
    assert [step.reasons for step in answer.steps] == [[], ["quality"], ["quality"]]


@pytest.mark.parametrize("num", [29, 30])
def test_a_percentile_needs_thirty_people_within_five_years(tmp_path, num):
    rng = np.random.default_rng(4)
    near, far = rng.uniform(-30, 10, num), rng.uniform(50, 60, 40)
    ages = np.concatenate([np.resize([66.0, 76.0, 71.0], num), np.resize([65.0, 77.0], 40)])
    references = {"annual_changes_P": np.concatenate([near, far]).astype(np.float32), "ages_P": ages.astype(np.float32)}

    answer = answer_trajectory(loaded(tmp_path, references=references), SCANS, YEARLY, age=71)

    found = answer.percentile_for_age
    if num == 29:
        assert found is None
        assert answer.no_percentile == (
            "The artefact holds 29 reference people within 5 years of 71; a percentile needs 30."
        )
        return
    assert found is not None
    assert answer.annual_change is not None
    assert found.percentile == pytest.approx(100 * (near < answer.annual_change.points_per_year).mean())
    assert found.low == pytest.approx(100 * (near < answer.annual_change.low).mean())
    assert found.high == pytest.approx(100 * (near < answer.annual_change.high).mean())
    assert 0 < found.percentile < 100
    assert (found.num_people, found.window_years, answer.no_percentile) == (30, 5, None)


def checked(folder: Path, name: str, limit: float = 2.0, **changes) -> LoadedModel:
    check = {"name": name, "limit": limit, "percentile": 99.5, "num": 50}
    return loaded(folder, decision=decision_part() | {"checks": [check]} | changes, references=references())


def test_a_stranger_among_the_visits_undecides_and_is_named(tmp_path):
    answer = answer_trajectory(checked(tmp_path, "identity"), [SCAN, OTHER], [0, 365])

    assert answer.decision == "undecided"
    assert "not_same_person" in answer.reasons
    assert any(
        text.startswith("The heads of the 1st and the 2nd scan may not be of one person") for text in answer.caution
    )


def test_scans_of_two_scanners_have_the_floor_of_two_scanners(tmp_path):
    brighter = PreparedScan(SCAN.voxels_CDHW + np.uint8(50), "d" * 64, ())
    floor = {"percentile_95": 500.0, "num_pairs": 40, "unit": "points of mmse"}
    visits = [SCAN, brighter], [0, 2 * 365.25]

    other = answer_trajectory(checked(tmp_path / "a", "scanner", 0.1, other_scanner=floor), *visits)
    alike = answer_trajectory(checked(tmp_path / "b", "scanner", 0.3, other_scanner=floor), *visits)

    assert other.annual_change is not None
    assert alike.annual_change is not None
    assert other.annual_change.noise_floor_95 == pytest.approx(250.0)
    assert alike.annual_change.noise_floor_95 == pytest.approx(0.005)
    assert {"other_scanner", "within_noise"} <= set(other.reasons)
    assert "other_scanner" not in alike.reasons
    assert any(text.startswith("Neighbouring scans look like those of two scanners") for text in other.caution)


def test_why_there_is_no_percentile_is_said(model):
    assert answer_trajectory(model, SCANS, YEARLY).no_percentile == "No age was given."
    assert answer_trajectory(model, SCANS, YEARLY, age=70).no_percentile == (
        "The artefact holds no ages of reference people."
    )


def test_artefacts_that_cannot_follow_a_person_say_what_to_do(tmp_path):
    cases = {
        r"tiny 1: exported by an earlier version.*export its run again": loaded(tmp_path / "a", judges=False),
        r"tiny 1: tells no change in points.*as the recipe change": loaded(tmp_path / "b", decision=None),
        r"far 1: an artefact of kind severity": load_artefact(str(write_severity_artefact(tmp_path / "c"))),
    }
    for message, model in cases.items():
        with pytest.raises(ArtefactError, match=message):
            answer_trajectory(model, SCANS, YEARLY)
