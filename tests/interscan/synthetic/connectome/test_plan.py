"""The connectome plan: classes and missing modalities as designed, parts that are independent and shown as stated."""

from dataclasses import astuple

import numpy as np
import pytest

from interscan.synthetic.connectome.plan import MODALITIES, describe_connectome_cohort


@pytest.mark.parametrize("missing", [0.3, 0.5, 1.0])
def test_the_stated_share_lacks_one_modality_each_in_turn_whatever_the_class(missing: float) -> None:
    plan = describe_connectome_cohort(num_subjects=300, seed=2, missing=missing)
    lacking = [person for person in plan if person.lacks is not None]
    assert len(lacking) / len(plan) == pytest.approx(missing, abs=0.02)
    counts = [sum(person.lacks == modality for person in plan) for modality in MODALITIES]
    assert max(counts) - min(counts) <= 1
    share_impaired = np.mean([person.impaired for person in lacking])
    assert share_impaired == pytest.approx(np.mean([person.impaired for person in plan]), abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_two_of_five_are_impaired_in_a_small_cohort_too(seed: int) -> None:
    plan = describe_connectome_cohort(num_subjects=60, seed=seed)
    assert sum(person.impaired for person in plan) == pytest.approx(24, abs=3)


def test_the_parts_are_independent_and_normal_and_the_machine_knows_nothing_of_them() -> None:
    plan = describe_connectome_cohort(num_subjects=3000, seed=5)
    parts_N3 = np.array([person.parts for person in plan])
    np.testing.assert_allclose(np.cov(parts_N3.T), np.eye(3), atol=0.07)
    np.testing.assert_allclose(parts_N3.mean(axis=0), 0, atol=0.06)
    machine_N = np.array([person.machine for person in plan])
    assert machine_N.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(machine_N, [person.risk for person in plan])[0, 1]) < 0.05


def test_what_the_modalities_show_has_the_correlations_with_the_risk_that_the_design_states() -> None:
    plan = describe_connectome_cohort(num_subjects=3000, seed=6)
    shown_N6 = np.array([astuple(person.shown) for person in plan])
    risk_N = np.array([person.risk for person in plan])

    def correlation(columns: list[int]) -> float:
        used_NK = shown_N6[:, columns]
        weights_K = np.linalg.lstsq(used_NK, risk_N, rcond=None)[0]
        return float(np.corrcoef(used_NK @ weights_K, risk_N)[0, 1])

    # Closed form: the mean over the parts of part variance over part and noise variance, then the root.
    expected = {(0,): 1 / 3 / 1.25, (1, 2): 2 / 3 / 2, (3,): 1 / 3 / 1.36, (4,): 1 / 3 / 1.36, (5,): 1 / 3 / 1.25}
    for columns, share in expected.items():
        assert correlation(list(columns)) == pytest.approx(np.sqrt(share), abs=0.03)
    joint = np.mean([1 - 1 / (1 + 1 / 0.25 + 1), 1 - 1 / (1 + 2 / 0.36), 1 - 1 / (1 + 1 + 1 / 0.25)])
    assert correlation([0, 1, 2, 3, 4, 5]) == pytest.approx(np.sqrt(joint), abs=0.02)
