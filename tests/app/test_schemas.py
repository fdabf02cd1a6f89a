"""The objects of the API."""

import pytest
from pydantic import ValidationError

from app.schemas import FindingModel, PairFields, UriPair
from preprocess.types import Finding


def test_a_finding_keeps_everything():
    assert FindingModel.of(Finding("too_coarse", "a: b", leaves_out=False)).model_dump() == {
        "code": "too_coarse",
        "message": "a: b",
        "leaves_out": False,
    }


@pytest.mark.parametrize("gap", [-1, "soon", float("nan"), float("inf"), 10**6])
def test_a_gap_that_is_no_sane_number_of_days_is_refused(gap):
    with pytest.raises(ValidationError):
        PairFields(gap_days=gap)


def test_a_json_pair_needs_both_uris():
    with pytest.raises(ValidationError, match="later_uri"):
        UriPair.model_validate({"earlier_uri": "gs://b/a"})
