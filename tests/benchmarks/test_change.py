"""Every arm of the comparison can be trained, and each adds to the one before it."""

import pytest

from benchmarks.change import ARMS, Arm
from trainer.contradictions import refuse_contradictions
from trainer.recipe import load_recipe


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_contradicts_nothing(arm: Arm) -> None:
    refuse_contradictions(load_recipe("change", arm.settings), where=arm.name)


def test_the_last_arm_is_the_recipe_itself_and_no_two_arms_are_one() -> None:
    recipes = [load_recipe("change", arm.settings).model_dump_json() for arm in ARMS]

    assert recipes[-1] == load_recipe("change").model_dump_json()
    assert len(set(recipes)) == len(ARMS)
