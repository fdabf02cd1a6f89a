"""Settings that exclude each other are refused in one line with both values and the way out."""

import re
from pathlib import Path

import pytest

from tests.support.recipes import HEAD, OBJECTIVE, refusal, write
from trainer.recipe import load_recipe


def test_info_nce_cannot_be_had_of_single_scans() -> None:
    assert re.search(
        "info_nce compares two visits.*set data.sampling = 'pairs'", refusal("clinimcl", "data.sampling=scans")
    )


def test_an_objective_named_twice_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, HEAD + OBJECTIVE + OBJECTIVE))
    assert "the objectives are info_nce, info_nce; name each once" in message


def test_cached_gradients_over_batch_statistics_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + OBJECTIVE + "[optim]\ncache_chunk = 16\n")
    assert refusal(path) == (
        f"{path}: optim.cache_chunk is 16 and encoder.norm is 'batch', whose statistics of the whole batch no chunk "
        "has; set encoder.norm = 'group', or optim.cache_chunk = 0"
    )
    assert load_recipe(path, ("encoder.norm='group'",)).optim.cache_chunk == 16


def test_the_best_epoch_by_no_figure_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + OBJECTIVE + "[checkpoint]\nfinish = 'best'\n")
    assert refusal(path).startswith(f"{path}: checkpoint.finish is 'best' and checkpoint.best is empty; name")


@pytest.mark.parametrize(
    ("best", "message"),
    [
        ("learner", "checkpoint.best is 'learner' and the objectives are info_nce; name a figure of one of them"),
        ("learner_over_chance", "checkpoint.best is 'learner_over_chance' and the objectives are info_nce"),
        ("change_error", "checkpoint.best is 'change_error' and head.on is 'embedding', which tells no change in"),
        ("accuracy", "checkpoint.best is 'accuracy' and the objectives are info_nce; name a figure of one of them"),
    ],
)
def test_a_best_metric_that_cannot_be_there_is_refused(tmp_path: Path, best: str, message: str) -> None:
    path = write(tmp_path, HEAD + OBJECTIVE + f"[checkpoint]\nbest = '{best}'\n")
    assert refusal(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("data.modalities=[]",), "cross_modality needs the modalities of a visit and data.modalities is empty"),
        (("encoder.name=fast",), "data.modalities has 5 names and encoder.name is 'fast'; encoder 'multimodal' and"),
        (('data.modalities=["SC"]',), "cross_modality compares modalities and data.modalities has 1"),
        (('data.modalities=["SC", "SC"]',), "data.modalities is SC, SC; name each once"),
        (("data.sampling=pairs",), "data.sampling is 'pairs', data.views 1 and data.max_left_out 0; with data.mod"),
        (("data.views=2",), "data.sampling is 'scans', data.views 2 and data.max_left_out 0; with data.modalities"),
        (("data.max_left_out=1",), "data.sampling is 'scans', data.views 1 and data.max_left_out 1; with data.modal"),
        (("augment.flip=0.5", "augment.gain=0.1"), "augment.flip, augment.gain above 0, and with data.modalities"),
        (("optim.cache_chunk=2", "encoder.norm=group"), "optim.cache_chunk is 2, and visits with data.modalities"),
    ],
)
def test_what_a_run_of_several_modalities_cannot_have_is_refused(settings: tuple[str, ...], message: str) -> None:
    assert refusal("joint", *settings).startswith(f"joint: {message}")


def test_a_residual_without_matrices_to_attend_over_is_refused() -> None:
    message = "mse: encoder.residual is true and encoder.name is 'fast', which has no matrices to attend over"
    assert refusal("mse", "encoder.residual=true").startswith(message)
    assert load_recipe("joint", ("encoder.residual=true",)).encoder.residual


def test_the_multimodal_encoder_alone_is_refused() -> None:
    message = "demo: data.modalities has 0 names and encoder.name is 'multimodal'"
    assert refusal("demo", "encoder.name=multimodal").startswith(message)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("clinimcl", ("head.on=score",), "head.on is 'score' and no objective of the last phase predicts scores"),
        ("mse", ("ensemble.members=3",), "ensemble.members is 3 and head.on is 'embedding'"),
        ("mse", ("encoder.shrink=2", "encoder.name=reference"), "encoder.shrink is 2 and encoder.name is 'reference'"),
        ("mse", ("encoder.linear_grid=12",), "encoder.linear_grid set, head.on is 'embedding'"),
        ("mse", ("encoder.mirror=true",), "encoder.mirror set, head.on is 'embedding'"),
    ],
)
def test_a_head_on_scores_and_what_stands_on_it_go_together(
    recipe: str, settings: tuple[str, ...], message: str
) -> None:
    assert message in refusal(recipe, *settings)
