"""The roads cover every verb and every recipe, and each runs after what it needs."""

from benchmarks.behaviour_roads import ROADS
from interscan.cli import VERBS
from trainer.recipe import named_recipes


def arguments() -> list[tuple[str, ...]]:
    return [one.arguments for road in ROADS for one in road.steps]


def test_every_verb_is_run_and_shows_its_help() -> None:
    assert {given[0] for given in arguments() if len(given) > 1 and "--help" not in given} >= set(VERBS) - {"demo"}
    assert {given[0] for given in arguments() if given[1:] == ("--help",)} == set(VERBS)


def test_every_verb_starts_python_anew_once_and_none_does_so_to_train() -> None:
    """torch begins every process at other random numbers, which some methods draw from."""
    cold = [one for road in ROADS for one in road.steps if one.is_cold and "--help" not in one.arguments]
    assert {one.arguments[0] for one in cold} >= set(VERBS) - {"demo"}
    assert [one.name for one in cold if one.arguments[0] in ("train", "cross-validate")] == [
        "demo trained already", "mse again"
    ]  # fmt: skip


def test_every_recipe_is_trained_and_evaluated() -> None:
    for recipe in named_recipes():
        assert [given for given in arguments() if given[:2] == ("train", recipe) and f"runs/{recipe}" in given]
        assert [given for given in arguments() if given[:2] == ("evaluate", f"runs/{recipe}")]


def test_every_verb_that_prints_json_is_run_with_it() -> None:
    verbs = {given[0] for given in arguments() if "--json" in given}
    assert verbs >= set(VERBS) - {"serve", "bench", "demo"}


def test_names_are_unique_and_needs_come_before() -> None:
    names = [f"{road.name}/{one.name}" for road in ROADS for one in road.steps]
    assert len(names) == len(set(names))
    for number, road in enumerate(ROADS):
        assert set(road.needs) <= {earlier.name for earlier in ROADS[:number]}


def test_paths_stay_within_the_work_folder() -> None:
    for given in arguments():
        assert not [part for part in given if part.startswith(("/", "~", "..")) or "://" in part]
