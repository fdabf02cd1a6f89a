"""What an answer is read beside: other people's changes over the same time, and how often each answer was true."""

import numpy as np
import pytest

from app.cohort import FEW_PEOPLE, base_rates, cohort_change
from app.registry import LoadedModel, load_artefact
from tests.support.artefacts import decision_part, write_artefact

RATES = {"improved": 0.2, "stable": 0.5, "declined": 0.3}


def loaded(folder, *, num: int = 41, rates: dict[str, float] | None = None) -> LoadedModel:
    annual = np.linspace(-4.0, 0.0, num, dtype=np.float32)
    references = {"annual_changes_P": annual, "ages_P": np.full(num, 70, dtype=np.float32)}
    decision = decision_part() | ({} if rates is None else {"base_rates": rates})
    return load_artefact(str(write_artefact(folder / "model", decision=decision, references=references)))


def test_changes_a_year_are_spread_over_the_time_between_the_scans(tmp_path) -> None:
    found = cohort_change(loaded(tmp_path), 2 * 365.25)

    assert found is not None
    # Twice -4, -3.8, ... 0: the quartiles of an even spread.
    assert (found.lower_quartile, found.median, found.upper_quartile) == pytest.approx((-6.0, -4.0, -2.0))
    assert (found.percentile_5, found.percentile_95) == pytest.approx((-7.6, -0.4))
    assert (found.num_people, found.unit) == (41, "points of mmse")


@pytest.mark.parametrize("gap_days", [None, 0.0])
def test_without_a_time_there_is_nothing_to_spread(tmp_path, gap_days: float | None) -> None:
    assert cohort_change(loaded(tmp_path), gap_days) is None


@pytest.mark.parametrize(("num", "is_told"), [(FEW_PEOPLE - 1, False), (FEW_PEOPLE, True)])
def test_a_percentile_needs_twenty_people(tmp_path, num: int, is_told: bool) -> None:
    assert (cohort_change(loaded(tmp_path, num=num), 365) is not None) is is_told


def test_base_rates_are_the_manifest_s_and_null_where_it_states_none(tmp_path) -> None:
    found = base_rates(loaded(tmp_path / "new", rates=RATES))

    assert found is not None
    assert found.model_dump() == RATES
    assert base_rates(loaded(tmp_path / "old")) is None


def test_an_artefact_of_an_earlier_version_has_neither(tmp_path) -> None:
    model = load_artefact(str(write_artefact(tmp_path / "early")))

    assert base_rates(model) is None
    assert cohort_change(model, 365) is None
