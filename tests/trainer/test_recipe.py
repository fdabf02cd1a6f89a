"""Recipes are frozen, every named one loads, and a wrong key or value is one line with the way out."""

import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from tests.support.cohorts import recipe_toml, tiny_recipe
from tests.support.recipes import HEAD, OBJECTIVE, refusal, write
from trainer.objectives.clinimcl import InfoNce
from trainer.objectives.conpro import MarginContrast, Preference
from trainer.objectives.learner import Learner
from trainer.recipe import TrainRecipe, higher_is_better, load_recipe, named_recipes


@pytest.mark.parametrize("name", sorted(named_recipes()))
def test_every_named_recipe_loads_and_bears_its_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert TrainRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_reference_recipe_states_the_papers_settings() -> None:
    recipe = load_recipe("clinimcl-reference")
    assert recipe.encoder.name == "reference"
    assert (recipe.optim.learning_rate, recipe.optim.weight_decay, recipe.optim.epochs) == (1e-4, 1e-4, 10)
    assert (recipe.data.batch_size, recipe.data.subjects_per_epoch) == (8, 0.25)
    assert recipe.objective == (InfoNce(name="info_nce", temperature=0.07),)


def test_conpro_as_published_states_the_papers_settings() -> None:
    recipe = load_recipe("conpro-reference")
    assert (recipe.encoder.name, recipe.encoder.embedding_width, recipe.encoder.projection_width) == (
        "resnet50",
        256,
        256,
    )
    assert (recipe.optim.name, recipe.optim.learning_rate, recipe.optim.head_factor) == ("sgd", 1e-3, 10.0)
    assert (recipe.data.batch_size, recipe.split.validation, recipe.split.test) == (16, 0.15, 0.15)
    con, pro = recipe.phases
    assert con.objective == (MarginContrast(name="margin_contrast", margin=2.0),)
    assert pro.objective == (Preference(name="preference", beta=1.0),)


def test_a_recipe_written_as_toml_is_read_as_it_was(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    assert load_recipe(write(tmp_path, recipe_toml(recipe))) == recipe


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    message = refusal("clinimlc")
    assert all(name in message for name in named_recipes())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "sed = 1\n" + OBJECTIVE, "unknown key 'sed'; did you mean 'seed'?"),
        (HEAD + OBJECTIVE + "[optim]\nepoch = 1\n", "unknown key 'optim.epoch'; did you mean 'epochs'?"),
        (
            HEAD + OBJECTIVE + "[data]\nzzz = 1\n",
            "unknown key 'data.zzz'; known keys: batch_size, in_flight, max_left_out, modalities, modality",
        ),
        (HEAD + OBJECTIVE + "temprature = 1.0\n", "unknown key 'objective.0.temprature'; did you mean 'temperature'?"),
        (
            HEAD + OBJECTIVE + '[[objective]]\nname = "learner"\nvarient = "mse"\n',
            "unknown key 'objective.1.varient'; did you mean 'variant'?",
        ),
        (HEAD + '[[objective]]\nname = "info_nse"\n', "objective.0: unknown name 'info_nse'; did you mean 'info_nce'?"),
        (HEAD + '[[objective]]\nname = "zzz"\n', "objective.0: unknown name 'zzz'; known: chrono_contrast, cross_mod"),
        (HEAD + OBJECTIVE + "temperature = 0.0\n", "objective.0.temperature: input should be greater than 0 (got 0.0)"),
        (HEAD + OBJECTIVE + "[split]\ntest = 1.5\n", "split.test: input should be less than 1 (got 1.5)"),
        (HEAD, "0 objectives and 0 phases; name [[objective]] tables, or [[phase]] tables"),
        (HEAD + "objective = []\n", "0 objectives and 0 phases"),
        (HEAD + OBJECTIVE + '[outcome]\nname = "mmse"\nbetter = true\n', "outcome.higher_is_better: field required"),
        (HEAD + OBJECTIVE + 'device = "gpu"\n', "unknown key 'objective.0.device'"),
        ('device = "gpu"\n' + HEAD + OBJECTIVE, "device: input should be 'auto', 'cpu' or 'cuda' (got 'gpu')"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value_is_named_as_the_recipe_spells_it(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    assert refusal(path).startswith(f"{path}: {message}")


def test_a_recipe_that_still_says_target_is_refused_with_the_new_name(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + 'target = "severity"\n' + OBJECTIVE)
    assert refusal(path) == f"{path}: unknown key 'target'; target is now called task"
    assert refusal("mse", "target=regression") == "mse: unknown key 'target'; target is now called task"
    assert load_recipe("mse", ("task=regression",)).task == "regression"


def test_single_values_can_be_set(tmp_path: Path) -> None:
    recipe = load_recipe(
        "demo", ("optim.epochs=5", "seed = 7", "data.modality=T2w", "objective.1.weight=0.25", "head.l2=[0.5]")
    )
    assert (recipe.optim.epochs, recipe.seed, recipe.data.modality, recipe.head.l2) == (5, 7, "T2w", (0.5,))
    assert [term.weight for term in recipe.objective] == [1.0, 0.25]
    assert recipe.optim.learning_rate == load_recipe("demo").optim.learning_rate


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.epochs", "--set optim.epochs: write key=value"),
        ("optim.epoch=5", "unknown key 'optim.epoch'; did you mean 'epochs'?"),
        ("optim.epochs=many", "optim.epochs: input should be a valid integer"),
        ("objective.temperature=1", "--set objective.temperature=1: objective is no table of the recipe"),
        ("objective.9.weight=1", "--set objective.9.weight=1: objective.9 is no table"),
        ("name.first=x", "--set name.first=x: name is no table of the recipe"),
        ("name.a.b.c=x", "--set name.a.b.c=x: name.a.b is no table of the recipe"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(setting: str, message: str) -> None:
    assert message in refusal("demo", setting)


@pytest.mark.parametrize(("text", "reason"), [("name = ", "not a TOML file"), ("\xff\xfe", "not UTF-8")])
def test_what_is_not_toml_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text.encode("latin-1"))
    assert reason in refusal(str(path))
    assert "no such recipe file" in refusal(str(tmp_path / "none.toml"))


def test_a_recipe_cannot_be_changed() -> None:
    recipe = tiny_recipe()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        recipe.seed = 4
    assert isinstance(recipe.objective[0], Learner)


def test_more_is_better_of_retrieval_and_of_no_loss() -> None:
    assert higher_is_better("retrieval_at_1")
    assert not any(map(higher_is_better, ["loss", "learner", "info_nce_over_chance"]))


def test_the_joint_recipe_states_the_papers_settings() -> None:
    recipe = load_recipe("joint")
    assert recipe.data.modalities == ("SC", "FC", "radiomics", "T2", "clinical")
    assert (recipe.optim.learning_rate, recipe.optim.weight_decay, recipe.data.batch_size) == (1e-3, 1e-3, 10)
    assert [(term.name, term.weight) for term in recipe.objective] == [("cross_modality", 1.0), ("cross_subject", 1.0)]
    assert [term.temperature for term in recipe.objective] == [0.7, 0.7]  # type: ignore[union-attr]


@pytest.mark.parametrize("arm", ["cross_modality", "cross_subject", "fusion_bce"])
def test_the_arms_of_the_comparison_are_set_on_the_command_line(arm: str) -> None:
    (term,) = load_recipe("joint", (f'objective=[{{name="{arm}"}}]',)).terms
    assert term.name == arm


def test_where_volumes_stay_is_told_by_three_words_and_decides_no_result(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + OBJECTIVE)
    recipes = [load_recipe(path, (f"data.resident='{where}'",)) for where in ("auto", "host", "none")]
    assert recipes[0] == load_recipe(path)
    assert recipes[0].deciding == recipes[1].deciding == recipes[2].deciding
    assert load_recipe(path, ("data.in_flight=3",)).deciding != recipes[0].deciding
    assert "data.resident" in refusal(path, "data.resident='gpu'")


def test_reading_recipes_and_refusing_a_wrong_setting_loads_no_torch() -> None:
    program = (
        "import sys; from preprocess.errors import UsageError; from trainer.recipe import load_recipe, named_recipes\n"
        "for name in named_recipes(): load_recipe(name)\n"
        "try: load_recipe('rank', ('objective.0.temperature=-1',))\n"
        "except UsageError as error: print(error)\n"
        "assert not {'torch', 'monai', 'zarr', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert done.stdout == "rank: objective.0.temperature: input should be greater than 0 (got -1)\n"


def test_the_demo_trains_the_recipe_for_progression() -> None:
    assert load_recipe("demo") == load_recipe("change", ("name=demo",))


def test_settings_of_the_outcome_without_a_name_are_of_the_default_score_and_another_score_says_all() -> None:
    outcome = load_recipe("change", ("outcome.threshold=3", "outcome.test_sd=2.8")).outcome
    assert (outcome.name, outcome.higher_is_better, outcome.threshold, outcome.test_sd) == ("mmse", True, 3.0, 2.8)
    # The way of CDR is the other one: nothing of the MMSE may be taken for it.
    assert "outcome.higher_is_better: field required" in refusal("change", "outcome.name='cdr'")
