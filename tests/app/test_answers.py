"""The answer's own arithmetic and sentences."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy

from app.answers import answer_embedding, answer_progression, chance_caution, judge
from app.inputs import PreparedScan, prepare
from app.registry import load_artefact
from preprocess.manifest import Metric
from tests.support.artefacts import RECIPE, write_artefact
from tests.support.heads import head_nifti

EARLIER = prepare(head_nifti(15, seed=1), RECIPE, name="earlier")
LATER = prepare(head_nifti(24, seed=2), RECIPE, name="later")


def probabilities(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("values", [(0.2, 0.5, 0.3), (0.9, 0.05, 0.05), (0.34, 0.33, 0.33)])
def test_uncertainty_is_scipy_s_entropy_over_ln_3(values):
    found = judge(probabilities(*values))

    assert found.entropy == pytest.approx(entropy(values) / math.log(3), rel=1e-6)
    assert found.top_probability == pytest.approx(max(values))


def test_certainty_is_0_and_a_guess_is_1():
    assert judge(probabilities(1, 0, 0)).entropy == 0
    assert judge(np.full(3, 1 / 3, np.float32)).entropy == pytest.approx(1)
    assert judge(np.full(3, 1 / 3, np.float32)).entropy <= 1


def test_an_answer_is_ambiguous_below_a_margin_of_a_tenth():
    assert judge(probabilities(0.45, 0.40, 0.15)).is_ambiguous
    assert not judge(probabilities(0.50, 0.375, 0.125)).is_ambiguous
    assert judge(probabilities(0.45, 0.10, 0.45)).margin == 0


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (None, "without a held-out macro-F1"),
        (Metric(value=0.41, low=0.30, high=0.52, chance=0.33), "0.41 (0.30 to 0.52), chance 0.33"),
        (Metric(value=0.30, chance=0.33), "macro-F1 0.30, chance 0.33"),
        (Metric(value=0.99, chance=0.33), "macro-F1 0.99, chance 0.33"),
    ],
)
def test_a_model_not_shown_to_be_better_than_chance_is_called_so(metric, words):
    assert words in (chance_caution(metric) or "")


def test_a_model_above_chance_with_its_whole_interval_is_not():
    assert chance_caution(Metric(value=0.61, low=0.52, high=0.70, chance=0.40)) is None
    assert chance_caution(Metric(value=0.61)) is None


def test_every_answer_says_it_is_for_research_and_a_weak_model_s_says_so_before(tmp_path: Path, artefact):
    good = answer_progression(load_artefact(str(artefact)), EARLIER, LATER)
    weak_artefact = write_artefact(tmp_path / "weak", macro_f1=(0.35, 0.28, 0.42, 0.33))
    weak = answer_progression(load_artefact(str(weak_artefact)), EARLIER, LATER)

    assert good.caution[-1].startswith("For research only")
    assert not any("chance" in sentence for sentence in good.caution)
    assert "not shown to be better than chance" in weak.caution[-2]


def test_a_scan_outside_the_training_distribution_is_named(artefact):
    half = EARLIER.voxels_CDHW.copy()
    half[:, :, 8:] = 0
    strange = PreparedScan(half, "0" * 64, ())

    answer = answer_progression(load_artefact(str(artefact)), EARLIER, strange)

    assert answer.later.out_of_distribution.is_outside
    assert [sentence for sentence in answer.caution if "outside the training distribution" in sentence] == [
        "The later scan lies outside the training distribution: it is farther away than 100 % of the validation scans."
    ]


def test_two_scans_of_one_day_are_called_noise(artefact):
    model = load_artefact(str(artefact))

    assert "same day" in answer_progression(model, EARLIER, LATER, gap_days=0).caution[0]
    assert not any(
        "same day:" in sentence for sentence in answer_progression(model, EARLIER, LATER, gap_days=1).caution
    )


def test_the_answer_stands_for_the_outcome_of_the_manifest(artefact):
    model = load_artefact(str(artefact))
    answer = answer_progression(model, EARLIER, LATER)

    assert answer.outcome == model.manifest.outcome
    assert answer.provenance.metrics == model.manifest.metrics
    total = sum(answer.probabilities.model_dump().values())
    assert total == pytest.approx(1, abs=1e-6)
    assert answer_embedding(model, EARLIER).width == model.manifest.embedding_width


def test_a_change_is_within_noise_up_to_the_95th_percentile_of_scan_rescan_distances(tmp_path, artefact):
    distance = answer_progression(load_artefact(str(artefact)), EARLIER, LATER).change.distance
    # The 95th percentiles are 4.3 and 0.87 times the distance.
    for number, (factors, is_within) in enumerate([((0.1, 0.2, 0.3, 5.0), True), ((0.1, 0.2, 0.7, 0.9), False)]):
        noise = tuple(factor * distance for factor in factors)
        model = load_artefact(str(write_artefact(tmp_path / str(number), noise_distances=noise)))
        change = answer_progression(model, EARLIER, LATER).change

        assert change.within_noise_floor is is_within
        assert change.noise_floor is not None
        assert change.noise_floor.percentile_95 == pytest.approx(np.percentile(noise, 95), rel=1e-5)
