"""Which requests for a trajectory are taken."""

import pytest
from pydantic import ValidationError

from app.trajectory_schemas import TrajectoryFields, UriTrajectory


@pytest.mark.parametrize("days", ["0, 365,730", ["0", "365", "730"], [0, 365, 730.0]])
def test_days_come_with_commas_or_one_by_one(days):
    assert TrajectoryFields.model_validate({"days": days}).days == [0.0, 365.0, 730.0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"days": "0,soon"}, "days"),
        ({"days": "0,"}, "days"),
        ({"days": "0"}, "days"),
        ({"days": list(range(17))}, "days"),
        ({"days": [0, 20210305]}, "days"),
        ({"days": "0,nan"}, "days"),
        ({"age": -1}, "age"),
        ({"age": 121}, "age"),
        ({"gap_days": 3}, "gap_days"),
        ({"uris": ["gs://a/b"]}, "uris"),
        ({"uris": ["gs://a/b"] * 17}, "uris"),
    ],
)
def test_a_wrong_field_is_named(changes, field):
    with pytest.raises(ValidationError) as caught:
        UriTrajectory.model_validate({"uris": ["gs://a/b", "gs://a/c"], "days": [0, 365]} | changes)
    assert {fault["loc"][0] for fault in caught.value.errors()} == {field}
