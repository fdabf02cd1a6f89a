"""The verdict follows the intervals, turns when they turn, and names what has not been ruled out."""

import pytest

from trainer.metrics.evaluation import ControlResult, Evaluation, Metric, SplitCount
from trainer.report.verdict import better_than_chance, find_caveats, judge


def control(name: str, low: float | None, value: float = 0.1) -> ControlResult:
    high = None if low is None else value + 0.1
    lead = Metric(value=value, low=low, high=high, num=80, num_subjects=40)
    return ControlResult(name=name, scores={"macro_f1": Metric(value=0.4, num=80)}, lead=lead)


def evaluation(
    *controls: ControlResult, low: float | None = 0.42, high: float | None = 0.58, subjects: int = 40, **more: Metric
) -> Evaluation:
    note = "" if low is not None else "3 subjects; an interval needs at least 5"
    main = Metric(value=0.5, low=low, high=high, chance=0.35, num=80, num_subjects=subjects, note=note)
    return Evaluation(
        run_uri="run",
        recipe="clinimcl",
        fingerprint="abc",
        splits={"test": SplitCount(subjects=subjects, scans=120, pairs=80)},
        metrics={"macro_f1": main, **more},
        controls=controls,
    )


BOTH = (control("gap_days", 0.03), control("scanner", 0.05))


def test_better_than_chance_and_every_control_is_shown() -> None:
    verdict = judge(evaluation(*BOTH))
    assert verdict.standing == "shown"
    assert "better than chance and than every control" in verdict.headline
    assert "macro-F1 0.50 (95 % interval 0.42 to 0.58 over 40 subjects); chance is 0.35" in verdict.details[0]
    assert "Lead in macro-F1 over the scanners alone: +0.10 (+0.05 to +0.20)." in verdict.details


def test_verdict_turns_when_a_lead_no_longer_excludes_zero() -> None:
    verdict = judge(evaluation(control("gap_days", -0.01), BOTH[1]))
    assert verdict.standing == "not shown"
    assert verdict.headline == "Better than chance, but not better than the gap in days alone."


def test_a_lead_of_exactly_zero_is_no_lead() -> None:
    assert judge(evaluation(control("gap_days", 0.0), BOTH[1])).standing == "not shown"


def test_several_lost_controls_are_all_named() -> None:
    verdict = judge(evaluation(control("gap_days", -0.1), control("scanner", -0.1)))
    assert verdict.headline == "Better than chance, but not better than the gap in days alone or the scanners alone."


def test_interval_that_holds_chance_is_not_better_than_chance_whatever_the_controls() -> None:
    verdict = judge(evaluation(*BOTH, low=0.35))
    assert verdict.standing == "not shown"
    assert verdict.headline.startswith("Not better than chance")
    assert verdict.details[0].startswith("It is not shown that it tells")


def test_interval_below_chance_is_called_worse() -> None:
    assert judge(evaluation(*BOTH, low=0.1, high=0.3)).headline == "The model does worse than chance."


def test_without_an_interval_nothing_is_claimed() -> None:
    verdict = judge(evaluation(*BOTH, low=None, high=None))
    assert verdict.standing == "open"
    assert "an interval needs at least 5" in verdict.headline


@pytest.mark.parametrize("controls", [(), BOTH[:1], (BOTH[0], control("scanner", None))])
def test_a_control_that_was_not_compared_leaves_the_claim_open(controls: tuple[ControlResult, ...]) -> None:
    verdict = judge(evaluation(*controls))
    assert verdict.standing == "open"
    assert "the scanners alone" in verdict.headline


def test_shuffled_labels_that_do_as_well_are_a_lost_control() -> None:
    shuffled = ControlResult(name="shuffled_labels", scores={}, p_value=0.2)
    assert judge(evaluation(*BOTH, shuffled)).headline.endswith("not better than shuffled labels.")
    assert judge(evaluation(*BOTH, shuffled.model_copy(update={"p_value": 0.001}))).standing == "shown"


def without_progression(**leads: Metric) -> Evaluation:
    found = Metric(value=0.8, low=0.7, high=0.9, chance=0.02, num=50, num_subjects=40)
    controls = (ControlResult(name="untrained", scores={"retrieval_at_1": found}, leads=leads),) if leads else ()
    return evaluation().model_copy(update={"metrics": {"retrieval_at_1": found}, "controls": controls})


def test_without_progression_the_next_question_makes_the_headline() -> None:
    found = Metric(value=0.8, low=0.7, high=0.9, chance=0.02, num=50, num_subjects=40)
    only = evaluation().model_copy(update={"metrics": {"spearman": found}})
    assert judge(only).headline == "The model ranks scans by their score better than chance."
    assert judge(only).standing == "shown"
    nothing = evaluation().model_copy(update={"metrics": {"mae": Metric(value=2.0, num=4)}})
    assert judge(nothing).standing == "open"


def test_who_a_person_is_has_to_be_told_better_than_by_the_untrained_network() -> None:
    def lead(low: float | None) -> Metric:
        return Metric(value=0.1, low=low, high=None if low is None else 0.2, chance=0.0, num=50, num_subjects=40)

    shown = without_progression(retrieval_at_1=lead(0.05))
    assert judge(shown).standing == "shown"
    assert judge(shown).headline.endswith("better than chance and than the untrained network.")
    assert "Lead in retrieval@1 over the untrained network: +0.10 (+0.05 to +0.20)." in judge(shown).details
    lost = without_progression(retrieval_at_1=lead(0.0))
    assert judge(lost).standing == "not shown"
    assert any("untrained network tells people apart as well" in caveat for caveat in find_caveats(lost))
    for unknown in (without_progression(), without_progression(retrieval_at_1=lead(None))):
        assert judge(unknown).standing == "open"
        assert not any("untrained" in caveat for caveat in find_caveats(unknown))


def test_an_untrained_network_that_tells_change_as_well_is_a_lost_control_and_one_without_a_head_is_none() -> None:
    lost = control("untrained", -0.01)
    assert judge(evaluation(*BOTH, lost)).headline == "Better than chance, but not better than the untrained network."
    headless = ControlResult(name="untrained", scores={"retrieval_at_1": Metric(value=0.5, num=9)})
    assert judge(evaluation(*BOTH, headless)).standing == "shown"


def test_better_than_chance_needs_an_interval_and_a_chance_level() -> None:
    assert better_than_chance(Metric(value=0.9, num=3, chance=0.1)) is None
    assert better_than_chance(Metric(value=0.9, low=0.8, high=1.0, num=3)) is None
    assert better_than_chance(Metric(value=0.9, low=0.8, high=1.0, num=3, chance=0.5)) is True


def test_a_sound_result_has_no_caveats() -> None:
    healthy = {
        "embedding_spread": Metric(value=0.9, num=120),
        "within_between_ratio": Metric(value=0.2, num=80),
        "within_distance": Metric(value=0.2, num=80),
        "noise_floor_95": Metric(value=0.05, num=20),
        "calibration_error": Metric(value=0.04, num=80),
    }
    assert find_caveats(evaluation(*BOTH, **healthy)) == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"embedding_spread": Metric(value=0.05, num=120)}, "collapsed"),
        ({"within_between_ratio": Metric(value=1.2, num=80)}, "as strangers do"),
        ({"within_distance": Metric(value=0.02, num=80), "noise_floor_95": Metric(value=0.05, num=9)}, "from noise"),
        ({"calibration_error": Metric(value=0.2, num=80)}, "off by 0.20"),
    ],
)
def test_each_weakness_has_its_caveat(more: dict[str, Metric], said: str) -> None:
    (caveat,) = find_caveats(evaluation(*BOTH, **more))
    assert said in caveat


def test_small_test_set_lost_control_and_identity_without_change_are_caveats() -> None:
    retrieval = Metric(value=0.8, low=0.7, high=0.9, chance=0.02, num=50, num_subjects=12)
    caveats = find_caveats(evaluation(control("scanner", -0.2), low=0.2, subjects=12, retrieval_at_1=retrieval))
    assert caveats[0].startswith("Small test set: 12 subjects.")
    assert caveats[1] == "Not better than the scanners alone, by macro-F1."
    assert "has not been shown to see what changed" in caveats[2]


def test_a_small_test_set_says_of_how_many_people_the_figures_of_change_are() -> None:
    few = evaluation(*BOTH, subjects=16)
    assert "Figures of change" not in find_caveats(few)[0]
    over_94 = few.metrics["macro_f1"].model_copy(update={"num_subjects": 94})
    told = find_caveats(few.model_copy(update={"metrics": {"macro_f1": over_94}}))[0]
    assert told.endswith("Figures of change are over 94: the members answered the training people in turns.")
