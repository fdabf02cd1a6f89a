"""The real heads and clips as the benchmark scores them: what holds whatever the model."""

import numpy as np
import pytest
import torch

from benchmarks.real_cohorts import RealImages, clip_recipe, head_recipe, open_clips, open_heads
from benchmarks.real_images import identity_of_voxels, lungs_of_pixels
from benchmarks.real_scores import clip_scores, identity_scores
from interscan.synthetic.lung.cohort import write_lung_cohort
from preprocess.engine import preprocess
from preprocess.errors import StoreError
from preprocess.store import Store
from trainer.encoders import build_encoder


def untrained(name: str, real: RealImages) -> np.ndarray:
    torch.manual_seed(0)
    return real.embed(build_encoder(name, in_channels=1, embedding_width=16), real.stores[0])


@pytest.mark.real_data
def test_the_second_visits_of_two_real_people_are_looked_for_among_eight_heads(real_data, tmp_path) -> None:
    real = open_heads(real_data, tmp_path, head_recipe(quick=True))
    # A subject is known by cohort and id; the dataset_description.json of these names it.
    assert [subject.rpartition("/")[2] for subject in real.subject_ids[:4]] == ["sub-01", "sub-01", "sub-12", "sub-12"]
    assert len(set(real.subject_ids)) == 6
    assert real.days_N[:4].tolist() == [0, 203, 0, 81]
    assert np.isnan(real.days_N[4:]).all()
    assert real.scores_N.tolist() == [20, 20, 19, 19, 38.78, 24.28, 24.34, 31.85]
    assert real.sources_N.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert real.pixels().shape == (8, 1, 24, 24, 24)

    embeddings_NE = untrained("fast", real)
    found = identity_scores(embeddings_NE, real.subject_ids, real.days_N, real.sources_N)
    assert (found["num_scans"], found["num_queries"]) == (8, 4)
    assert found["chance"] == pytest.approx(1 / 7)
    assert found["retrieval_at_1"] in (0, 0.25, 0.5, 0.75, 1)
    assert found["least_p_own_source"] >= 1 / 6  # so few scans cannot show it
    assert 1 / 210 <= found["p"] <= 1
    assert 0 <= found["nearest_of_own_source"] <= 1
    again = open_heads(real_data, tmp_path, head_recipe(quick=True))
    assert identity_scores(untrained("fast", again), again.subject_ids, again.days_N, again.sources_N) == found


@pytest.mark.real_data
@pytest.mark.parametrize("quick", [True, False])
def test_plain_correlation_finds_three_of_the_four_second_visits(quick: bool, real_data, tmp_path) -> None:
    """Not the second visit of sub-01, taken with other slices: it is more like the other person's scans."""
    real = open_heads(real_data, tmp_path, head_recipe(quick=quick))
    found = identity_of_voxels(real)
    assert found["retrieval_at_1"] == 0.75
    assert found["nearest_of_own_source"] == 1
    assert found["within_between"] < found["within_between_own_source"] < 1
    correlation_NN = np.corrcoef(real.pixels().reshape(8, -1)) - 2 * np.eye(8)
    assert correlation_NN.argmax(axis=1)[:4].tolist() in ([1, 2, 3, 2], [1, 3, 3, 2])


@pytest.mark.real_data
def test_real_clips_of_every_container_are_scored(real_data, tmp_path) -> None:
    real = open_clips(real_data, tmp_path, clip_recipe(quick=True))
    files = sorted((real_data / "lung_clips").iterdir())
    assert {path.suffix for path in files} == {".mp4", ".mpeg", ".mov"}
    assert sorted(real.subject_ids) == sorted(path.stem for path in files)
    assert sorted(real.labels) == ["Cov", "Pneu", *["Reg"] * 6, "Vir", "Vir"]
    assert np.isnan(real.scores_N).all()
    assert real.pixels().shape == (10, 8, 1, 32, 32)

    embeddings_NE = untrained("tsm-resnet18", real)
    assert len(np.unique(embeddings_NE.round(6), axis=0)) == 10  # each clip is another one
    found = clip_scores(embeddings_NE, real.labels, {"first": embeddings_NE[:, 0]})
    assert (found["num_clips"], found["num_regular"]) == (10, 6)
    assert 0 <= found["auc_first"] <= 1
    assert 2 / 210 <= found["p_auc_first"] <= 1
    assert 0 <= found["nearest_accuracy"] <= 0.8  # two clips are alone with their label
    assert found["nearest_chance"] == pytest.approx(32 / 90)
    again = open_clips(real_data, tmp_path, clip_recipe(quick=True))
    rescored_NE = untrained("tsm-resnet18", again)
    assert clip_scores(rescored_NE, again.labels, {"first": rescored_NE[:, 0]}) == found
    assert 0 <= lungs_of_pixels(real)["auc_sf"] <= 1


def test_a_model_of_another_recipe_does_not_embed_them(tmp_path) -> None:
    write_lung_cohort(tmp_path / "raw", num_subjects=1, num_visits=1, size_px=32, num_frames=8)
    table = str(tmp_path / "raw" / "scans.csv")
    stores = []
    for name, quick in (("small", True), ("large", False)):
        preprocess(table, str(tmp_path / name), clip_recipe(quick=quick), workers=0)
        stores.append(Store.open(str(tmp_path / name)))
    images = RealImages("LUS", (stores[0],), ())
    with pytest.raises(StoreError, match="fingerprint"):
        images.embed(torch.nn.Identity(), stores[1])
