"""Limits of image statistics come from people that the reference was not fitted to, and hold for further people."""

from itertools import combinations

import numpy as np
import pytest

from preprocess.image_statistics import image_statistics, looks_groups
from tests.support.looks import head
from trainer.evaluate.image_references import DescribedScans, fit_checks, fit_references

VISITS = 3


def described(people: range) -> DescribedScans:
    scans = [(person, visit) for person in people for visit in range(VISITS)]
    pairs = [
        (first, second) for first, second in combinations(range(len(scans)), 2) if scans[first][0] == scans[second][0]
    ]
    scanners = ["AB"[(person + visit) % 4 == 3] for person, visit in scans]
    found = [
        image_statistics(head(person, visit=visit, scanner=scanner))
        for (person, visit), scanner in zip(scans, scanners, strict=True)
    ]
    return DescribedScans(found, [f"p{person}" for person, _ in scans], np.array(pairs), scanners)


@pytest.fixture(scope="module")
def training() -> DescribedScans:
    return described(range(40))


@pytest.fixture(scope="module")
def unseen() -> DescribedScans:
    return described(range(100, 120))


@pytest.fixture(scope="module")
def fitted(training: DescribedScans):
    found = fit_checks(training, described(range(50, 56)), seed=0)
    assert found is not None
    return found


def test_every_statistic_has_a_limit_from_all_training_and_validation_scans(fitted, training: DescribedScans) -> None:
    checks = {check.name: check for check in fitted[1]}

    assert checks.keys() == {*looks_groups(), "layout", "residual", "identity", "scanner"}
    on_one = sum(len(part.on_scanners(same=True)) for part in (training, described(range(50, 56))))
    assert {name: check.num for name, check in checks.items()} == {
        name: on_one if name == "scanner" else 46 * VISITS for name in checks
    }
    assert {name: check.percentile for name, check in checks.items()} == {
        name: 99.0 if name in ("identity", "scanner") else 99.5 for name in checks
    }


def test_further_people_are_seldom_flagged_and_spoilt_scans_always(fitted, unseen: DescribedScans) -> None:
    references, checks = fitted
    limits = {check.name: check.limit for check in checks if check.name not in ("identity", "scanner")}

    def is_flagged(found) -> bool:
        distances = references.distances(found)
        return any(distances[name] > limit for name, limit in limits.items())

    # Sixty scans of twenty people, six checks: two people may well be odd.
    assert np.mean([is_flagged(found) for found in unseen.found]) <= 0.1
    assert np.mean([is_flagged(found.mirrored()) for found in unseen.found]) <= 0.1
    for spoil in (lambda v: v[:, :, :, ::-1], lambda v: 1 - v, lambda v: np.zeros_like(v)):
        assert all(is_flagged(image_statistics(spoil(head(person)))) for person in range(100, 110))


def test_visits_of_one_person_lie_within_the_limit_and_two_people_beyond(fitted, unseen: DescribedScans) -> None:
    references, checks = fitted
    (limit,) = (check.limit for check in checks if check.name == "identity")
    own = [references.identity(unseen.found[a], unseen.found[b]) for a, b in unseen.pairs_P2]
    others = [
        references.identity(unseen.found[a], unseen.found[b])
        for a, b in combinations(range(0, len(unseen.found), VISITS), 2)
    ]

    assert np.mean(np.array(own) > limit) <= 0.05
    assert np.mean(np.array(others) > limit) >= 0.9


def test_pairs_on_two_scanners_are_told_from_pairs_on_one(fitted, unseen: DescribedScans) -> None:
    references, checks = fitted
    (limit,) = (check.limit for check in checks if check.name == "scanner")

    def flagged(*, same: bool) -> list[bool]:
        pairs = unseen.on_scanners(same=same).tolist()
        return [references.scanner(unseen.found[a], unseen.found[b]) > limit for a, b in pairs]

    assert np.mean(flagged(same=True)) <= 0.1
    assert np.mean(flagged(same=False)) == 1.0
    nameless = DescribedScans(unseen.found, unseen.people, unseen.pairs_P2, [""] * len(unseen.found))
    assert len(nameless.on_scanners(same=True)) == len(nameless.on_scanners(same=False)) == 0


def test_a_scan_and_its_mirror_image_lie_equally_far(fitted, unseen: DescribedScans) -> None:
    references, _ = fitted
    for found in unseen.found[:5]:
        plain, mirrored = references.distances(found), references.distances(found.mirrored())
        for name, distance in plain.items():
            assert mirrored[name] == pytest.approx(distance, rel=1e-4, abs=1e-6), name


def test_a_limit_is_measured_on_people_the_reference_was_not_fitted_to(fitted, training: DescribedScans) -> None:
    references, checks = fitted
    limits = {check.name: check.limit for check in checks}
    inside = [references.distances(found)["residual"] for found in training.found]

    # In-sample residuals are smaller: components fit the scans that they were made of.
    assert np.percentile(inside, 99.5) < limits["residual"]


def test_the_same_scans_give_the_same_limits_and_others_are_picked_by_people(training: DescribedScans) -> None:
    some = training.of(["p3", "p1"])

    assert list(some.people) == ["p1"] * VISITS + ["p3"] * VISITS
    assert some.pairs_P2.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]]
    first, second = fit_references(training), fit_references(training)
    np.testing.assert_array_equal(first.looks_precision_SS, second.looks_precision_SS)
    np.testing.assert_array_equal(first.image_axes_KF, second.image_axes_KF)


def test_too_few_scans_people_or_pairs_set_no_limits(training: DescribedScans) -> None:
    few_people = training.of([f"p{person}" for person in range(9)])
    rest = training.of(["p30", "p31"])
    no_pairs = np.empty((0, 2), dtype=np.int64)
    alone = DescribedScans(training.found[::VISITS], training.people[::VISITS], no_pairs, training.scanners[::VISITS])

    assert fit_checks(few_people, rest, seed=0) is None
    assert fit_checks(training.of([f"p{person}" for person in range(9)] + ["p10"]), rest, seed=0) is not None
    found = fit_checks(alone, rest.of(["p30"]), seed=0)
    assert found is not None
    assert not found[0].visit_precision_KK.any()
    assert not found[0].scanner_precision_SS.any()
    assert not {"identity", "scanner"} & {check.name for check in found[1]}
