"""Plots of methods are PNGs that can be drawn from what there is, come out alike, and refuse what there is not."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.method_comparison import compare_methods
from benchmarks.method_plots import DistancePanel, distance_scatter, methods_plot
from trainer.metrics.pair_distances import distance_correlation, stranger_pairs


def picture(png: bytes) -> tuple[str, tuple[int, int]]:
    """Decode the whole picture, check that something is drawn on it, and give its description and size."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
        return str(image.info["Description"]), image.size


def panel(seed: int, noise: float) -> DistancePanel:
    generator = np.random.default_rng(seed)
    score = np.round(generator.normal(25, 3, 60))
    embeddings = np.column_stack([np.cos(score / 12), np.sin(score / 12)]) + generator.normal(0, noise, (60, 2))
    subjects = np.arange(60) // 2
    pairs = stranger_pairs(embeddings, score, subjects, seed=0)
    return DistancePanel(pairs, distance_correlation(pairs, subjects, seed=0, num_resamples=50))


def comparison(metric: str, names: tuple[str, ...] = ("mse", "weighted", "regressed")):
    generator = np.random.default_rng(0)
    values = {name: {seed: float(generator.normal(0.5, 0.05)) for seed in range(5)} for name in names}
    return compare_methods(values, metric=metric, baseline="mse", chance=0.33)


def test_distance_scatter_has_a_panel_a_variant_in_rows_of_four() -> None:
    panels = {f"variant {number}": panel(number, 0.1 * (1 + number)) for number in range(5)}
    title, (width, height) = picture(distance_scatter(panels, score_name="MMSE", pairs_name="different subjects"))
    assert title == "Cosine distance against difference of score, different subjects"
    _, (narrow, low) = picture(distance_scatter({"variant 0": panels["variant 0"]}, score_name="MMSE"))
    assert width > 1.7 * narrow
    assert height > 1.7 * low


def test_more_pairs_change_the_picture_and_like_pairs_do_not() -> None:
    one = distance_scatter({"mse": panel(0, 0.1)}, score_name="MMSE")
    assert one == distance_scatter({"mse": panel(0, 0.1)}, score_name="MMSE")
    assert one != distance_scatter({"mse": panel(1, 0.1)}, score_name="MMSE")


def test_a_variant_without_pairs_or_rho_can_still_be_drawn_beside_another() -> None:
    nothing = stranger_pairs(np.ones((4, 2)), np.full(4, np.nan), np.arange(4), seed=0)
    flat = stranger_pairs(np.ones((4, 2)), np.full(4, 1.0), np.arange(4), seed=0)
    panels = {
        "seen": panel(0, 0.1),
        "none": DistancePanel(nothing, distance_correlation(nothing, np.arange(4), seed=0)),
        "flat": DistancePanel(flat, distance_correlation(flat, np.arange(4), seed=0)),
    }
    assert picture(distance_scatter(panels, score_name="MMSE"))
    with pytest.raises(ValueError, match="at least one pair"):
        distance_scatter({"none": panels["none"]}, score_name="MMSE")
    assert picture(distance_scatter({"flat": panels["flat"]}, score_name="MMSE"))


def test_methods_plot_grows_with_metrics_and_methods() -> None:
    title, (width, height) = picture(methods_plot([comparison("macro-F1"), comparison("AUC"), comparison("recall")]))
    assert title == "3 methods over seeds"
    _, (narrow, _) = picture(methods_plot([comparison("macro-F1")]))
    assert width > 1.3 * narrow
    many = tuple(f"method {number}" for number in range(9))
    assert picture(methods_plot([comparison("macro-F1", ("mse", *many))]))[1][1] > height


def test_one_seed_has_a_mean_without_an_interval() -> None:
    single = compare_methods({"mse": {0: 0.4}, "new": {0: 0.5}}, metric="AUC", baseline="mse")
    assert picture(methods_plot([single]))[0] == "2 methods over seeds"


def test_plots_of_different_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="other methods"):
        methods_plot([comparison("macro-F1"), comparison("AUC", ("mse", "weighted"))])
    with pytest.raises(ValueError, match="at least one comparison"):
        methods_plot([])
