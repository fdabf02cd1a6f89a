"""The measurement of a small cohort is whole, and a listing has as many scans as asked for."""

import pytest

from benchmarks.scale import VISITS, made_up, measure, table


def test_every_part_of_a_small_cohort_is_measured() -> None:
    found = measure(40)

    assert found.keys() >= {"plan_s", "plan_mb", "commit_s", "open_s", "cohort_s", "epoch_s", "open_mb"}
    assert "| 40 |" in table({"40": found})


@pytest.mark.parametrize("num_scans", [4, 100])
def test_a_listing_has_so_many_scans_of_four_visits(num_scans: int) -> None:
    scans = made_up(num_scans)

    assert len({name for _, name, _ in scans}) == num_scans
    assert len({scan.subject_id for scan, _, _ in scans}) == num_scans // VISITS
