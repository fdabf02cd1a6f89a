"""Plots are PNGs that state their numbers, come out alike from like numbers, and say which map they drew."""

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from trainer.metrics.progression import reliability_bins
from trainer.report import plots
from trainer.report.plots import (
    change_scatter,
    confusion_plot,
    distance_histogram,
    project,
    reliability_plot,
    training_curves,
    trajectories,
)


def title(png: bytes) -> str:
    """Decode the whole picture, check that something is drawn on it, and give its description."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
        return str(image.info["Description"])


def test_each_plot_is_a_png_that_states_its_numbers() -> None:
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet((1, 1, 1), 50), generator.integers(0, 3, 50)
    bins = reliability_bins(labels, probabilities)
    distance, delta = generator.uniform(size=20), generator.normal(size=20)
    delta[3] = np.nan
    assert title(confusion_plot([[5, 1, 0], [2, 7, 1], [0, 0, 4]])) == "Confusion of 20 pairs"
    assert title(reliability_plot(bins)).endswith(f"{bins.expected_calibration_error:.3f}")
    assert title(change_scatter(distance, delta, rho=0.31, noise_95=0.2)) == "Spearman's rho +0.31, 19 pairs"
    assert title(change_scatter(distance, delta, rho=None)).startswith("Spearman's rho not defined")
    assert title(distance_histogram(distance, distance + 0.3, distance / 50)) == "Distances within and between subjects"


def test_a_class_without_pairs_and_collapsed_distances_can_still_be_drawn() -> None:
    assert title(confusion_plot([[0, 0, 0], [1, 7, 1], [0, 0, 4]])) == "Confusion of 13 pairs"
    assert title(distance_histogram(np.zeros(5), np.zeros(9), np.empty(0)))
    assert title(distance_histogram(np.array([0.1]), np.array([0.9])))


def test_training_curves_have_a_second_panel_only_where_retrieval_was_measured() -> None:
    losses = {"training": [1.0, 0.8, 0.5], "validation": [1.0, np.nan, 0.7]}
    one = training_curves([1, 2, 3], losses, loss_label="loss", loss_chance=None)
    two = training_curves([1, 2, 3], losses, [0.1, 0.3, 0.4], retrieval_chance=0.02)
    assert title(one) == title(two) == "Training by epoch"
    with Image.open(io.BytesIO(one)) as narrow, Image.open(io.BytesIO(two)) as wide:
        assert wide.width > 1.5 * narrow.width


def test_like_numbers_give_like_bytes() -> None:
    assert confusion_plot(np.eye(3)) == confusion_plot(np.eye(3))
    assert confusion_plot(np.eye(3)) != confusion_plot(2 * np.eye(3))


def test_a_few_scans_are_laid_out_by_pca_as_scikit_learn_does() -> None:
    embeddings = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    points, method = project(embeddings, seed=0)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert method == "PCA"
    assert np.abs(points) == pytest.approx(np.abs(PCA(2).fit_transform(unit)), abs=1e-5)
    plot = trajectories(embeddings, [0, 1], [1, 2], [0, -1], seed=0)
    assert title(plot) == "PCA of 9 scans by cosine, too few for UMAP (15)"


def test_one_scan_and_a_collapsed_cohort_have_a_point_each() -> None:
    assert project(np.array([[1.0, 2.0]]), seed=0)[0].shape == (1, 2)
    points, method = project(np.ones((40, 8)), seed=0)
    assert method == "PCA"
    assert points == pytest.approx(np.zeros((40, 2)), abs=1e-9)


def test_umap_keeps_clumps_apart_and_repeats_itself_for_a_seed() -> None:
    generator = np.random.default_rng(0)
    embeddings = np.repeat(np.eye(8)[:2], 20, axis=0) + 0.05 * generator.normal(size=(40, 8))
    points, method = project(embeddings, seed=3)
    assert method == "UMAP"
    first, second = points[:20], points[20:]
    inside = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > inside
    assert np.array_equal(points, project(embeddings, seed=3)[0])
    plot = trajectories(embeddings, np.arange(0, 38, 2), np.arange(1, 39, 2), np.arange(19) % 4 - 1, seed=3)
    assert title(plot) == "UMAP of 40 scans by cosine"


def test_importing_the_plots_loads_neither_umap_nor_a_display() -> None:
    heavy = ("umap", "numba", "matplotlib.pyplot")
    code = f"import sys, trainer.report.plots; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_picture_leaves_the_number_of_threads_as_it_was() -> None:
    program = (
        "import numpy as np, torch; from trainer.report.plots import project; torch.ones(9).sum();"
        "method = project(np.random.default_rng(0).normal(size=(40, 8)), seed=0)[1];"
        "print(method, torch.get_num_threads())"
    )
    # numba would start one thread a core; on a machine with one core this shows nothing.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["UMAP", "1"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cannot cache function 'x': no locator available for file 'y'"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_where_compiled_code_cannot_be_kept_the_picture_is_drawn_by_pca(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings_NE = np.random.default_rng(0).normal(size=(30, 5))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(plots, "_umap", refuse)
    points_N2, method = project(embeddings_NE, seed=0)
    unit_NE = embeddings_NE / np.linalg.norm(embeddings_NE, axis=1, keepdims=True)
    expected_N2 = PCA(2).fit_transform(unit_NE)
    assert method == "PCA"
    np.testing.assert_allclose(np.abs(points_N2), np.abs(expected_N2), atol=1e-9)


def test_another_failure_of_umap_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(plots, "_umap", refuse)
    with pytest.raises(RuntimeError, match="a defect"):
        project(np.random.default_rng(0).normal(size=(30, 5)), seed=0)
