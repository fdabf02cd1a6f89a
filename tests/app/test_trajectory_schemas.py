"""Which requests for a trajectory are taken."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.trajectory_schemas import TrajectoryFields, UriTrajectory, count_mismatch

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(("num_days", "words"), [(1, "1 day for 2 scans"), (3, "3 days for 2 scans")])
def test_another_number_of_days_than_of_scans_is_told_with_the_remedy(num_days, words):
    assert count_mismatch(2, num_days) == f"{words}; give one day for each scan"


def test_the_schemas_of_requests_and_answers_load_no_network_and_no_server():
    """A client of the service reads answers with them, on a machine that only asks."""
    heavy = "{'torch', 'monai', 'zarr', 'scipy', 'fastapi', 'starlette'} & set(sys.modules)"
    program = f"import sys, app.schemas, app.trajectory_schemas; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
