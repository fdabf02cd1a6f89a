"""The plots of an evaluation as PNG bytes: arrays in, no display, no global matplotlib state.

Colours are from the palette of Okabe and Ito (2008), which people with the common colour vision deficiencies can tell
apart; shape or text always says the same again. The title is also written into the PNG as its description.
"""

import io
import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from threadpoolctl import threadpool_limits

from preprocess.console import LOG
from preprocess.distances import unit_rows
from preprocess.types import PROGRESSIONS
from trainer.metrics.progression import ReliabilityBins

Floats = npt.NDArray[np.float64]

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8F98", "#22262B"
CLASS_COLOURS = (BLUE, GREY, ORANGE)
"""Improved, stable, declined."""
MIN_DISTANCE = 1e-4
"""Nearer pairs are drawn here: float32 embeddings and a logarithmic axis have no zero."""
MIN_SCANS_FOR_UMAP = 15
"""UMAP's default neighbourhood; below it a neighbour graph says nothing that PCA does not."""

CONTINUED_RATE = 0.03
"""UMAP's learning rate from a given start. At its default of 1 the start is forgotten: over five maps of 144 simulated
scans, scans moved by 0.8 to 1.3 mean radii from map to map, as far as without a start (1.0 to 1.2), and at 0.03 by 0.4
to 0.8. Trustworthiness (3 neighbours) was within 0.001 of that at a rate of 1 in every map, or better."""


def training_curves(
    epoch_T: npt.ArrayLike,
    losses: Mapping[str, npt.ArrayLike],
    retrieval_T: npt.ArrayLike | None = None,
    *,
    loss_label: str = "loss / chance",
    loss_chance: float | None = 1.0,
    retrieval_chance: float | None = None,
) -> bytes:
    """Draw loss per epoch, and retrieval@1 per epoch where it was measured, each with its chance level.

    Args:
        epoch_T: (T,) epochs.
        losses: curves of (T,) by name, for example `training` and `validation`; NaN leaves a hole.
        retrieval_T: (T,) same-subject retrieval@1.
        loss_label: label of the axis of losses.
        loss_chance: level of a model that knows nothing; None draws no line.
        retrieval_chance: likewise for retrieval.
    """
    plot = new_plot(8.4 if retrieval_T is not None else 4.8)
    panels = plot.subplots(1, 1 if retrieval_T is None else 2, squeeze=False)[0]
    for (name, loss_T), colour, marker in zip(losses.items(), (BLUE, ORANGE, GREEN, GREY), "osv^", strict=False):
        panels[0].plot(epoch_T, loss_T, color=colour, marker=marker, markersize=3.5, label=name)
    _level(panels[0], loss_chance, "chance")
    finish_axes(panels[0], "epoch", loss_label)
    if retrieval_T is not None:
        panels[1].plot(epoch_T, retrieval_T, color=BLUE, marker="o", markersize=3.5, label="held-out subjects")
        _level(panels[1], retrieval_chance, "chance")
        panels[1].set_ylim(0, 1.02)
        finish_axes(panels[1], "epoch", "retrieval@1")
    return to_png(plot, "Training by epoch")


def confusion_plot(confusion_33: npt.ArrayLike) -> bytes:
    """Draw the confusion matrix: counts, shaded by the share of each true class.

    Args:
        confusion_33: (3, 3) rows true, columns predicted.
    """
    count_33 = np.asarray(confusion_33, dtype=np.int64)
    share_33 = count_33 / np.maximum(count_33.sum(1, keepdims=True), 1)
    plot = new_plot(4.6, 4.0)
    axes = plot.subplots()
    axes.imshow(share_33, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(count_33):
        share = share_33[row, column]
        colour = "white" if share > 0.55 else INK
        axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(PROGRESSIONS)), PROGRESSIONS)
    axes.set_yticks(range(len(PROGRESSIONS)), PROGRESSIONS)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return to_png(plot, f"Confusion of {count_33.sum()} pairs")


def change_scatter(
    distance_P: npt.ArrayLike, delta_score_P: npt.ArrayLike, *, rho: float | None, noise_95: float | None = None
) -> bytes:
    """Draw cosine distance of each pair against |delta score|, with rho and the scan-rescan noise floor.

    Args:
        distance_P: (P,) cosine distances.
        delta_score_P: (P,) later minus earlier score; NaN leaves a pair out.
        rho: Spearman's, as `pair_distances.change_correlation` gives it.
        noise_95: 95th percentile of scan-rescan distances.
    """
    plot = new_plot(5.4, 4.0)
    axes = plot.subplots()
    size = np.abs(np.asarray(delta_score_P, dtype=np.float64))
    axes.scatter(size, distance_P, s=22, color=BLUE, alpha=0.6, linewidths=0, label="pair of scans")
    _level(axes, noise_95, "scan-rescan, 95th percentile")
    axes.set_ylim(bottom=0)
    finish_axes(axes, "|change of score|", "cosine distance")
    said = "not defined" if rho is None else f"{rho:+.2f}"
    return to_png(plot, f"Spearman's rho {said}, {int(np.isfinite(size).sum())} pairs")


def project(embeddings_NE: npt.ArrayLike, *, seed: int, start_N2: Floats | None = None) -> tuple[Floats, str]:
    """Lay embeddings out in the plane by cosine: UMAP, or PCA where fewer than 15 scans differ or UMAP cannot run.

    Args:
        embeddings_NE: (N, E), at least one row.
        seed: the seed of UMAP; the same seed gives the same picture.
        start_N2: where UMAP begins, of which it uses the shape and not the size; the first two axes of PCA when not
            given.

    Returns:
        (N, 2) positions and the name of the method, `UMAP` or `PCA`.
    """
    unit_NE = unit_rows(embeddings_NE)
    if len(np.unique(unit_NE.round(9), axis=0)) < MIN_SCANS_FOR_UMAP:
        return _pca(unit_NE), "PCA"
    try:
        return _umap(unit_NE, seed, start_N2), "UMAP"
    except (OSError, RuntimeError) as error:
        # numba keeps what it compiles on disk, and may find no folder for it (at import), or no room there. A plot by
        # another method is better than no report.
        if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        LOG.warning("drawn by PCA, since UMAP cannot keep its compiled code (%s); set NUMBA_CACHE_DIR", reason)
        return _pca(unit_NE), "PCA"


def _pca(unit_NE: Floats) -> Floats:
    centred_NE = unit_NE - unit_NE.mean(0)
    axes_EE = np.linalg.svd(centred_NE, full_matrices=False)[2]
    points_NE: Floats = centred_NE @ axes_EE[:2].T
    return np.pad(points_NE, ((0, 0), (0, 2 - points_NE.shape[1])))


def _umap(unit_NE: Floats, seed: int, start_N2: Floats | None) -> Floats:
    with warnings.catch_warnings():
        # umap says at import that one class needs a library which is not used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        import umap
    # A fixed random_state runs on one thread; saying so by n_jobs spares umap's warning. PCA as the start, since the
    # spectral one fails, with a warning, on embeddings in separate clumps.
    reducer = umap.UMAP(
        n_neighbors=min(15, len(unit_NE) - 1), metric="cosine", random_state=seed, n_jobs=1,
        init="pca" if start_N2 is None else start_N2.astype(np.float32),
        learning_rate=1.0 if start_N2 is None else CONTINUED_RATE,
    )  # fmt: skip
    # numba starts its threads by setting OpenMP's number of them for the whole process, torch included, whose sums then
    # add up in another order; the limit puts the earlier number back.
    with threadpool_limits(1, user_api="openmp"):
        return np.asarray(reducer.fit_transform(unit_NE.astype(np.float32)), dtype=np.float64)


def trajectories(
    embeddings_NE: npt.ArrayLike,
    earlier_P: npt.ArrayLike,
    later_P: npt.ArrayLike,
    label_P: npt.ArrayLike,
    *,
    seed: int,
) -> bytes:
    """Draw held-out scans in the plane with an arrow from each visit to the next, coloured by progression.

    Args:
        embeddings_NE: (N, E).
        earlier_P: (P,) row of the earlier scan of each pair of consecutive visits.
        later_P: (P,) row of the later.
        label_P: (P,) 0, 1, 2, or -1 where progression is not known.
        seed: the seed of UMAP; the same seed gives the same picture.
    """
    points_N2, method = project(embeddings_NE, seed=seed)
    first, second, label = (np.asarray(values, dtype=np.int64) for values in (earlier_P, later_P, label_P))
    plot = new_plot(6.4, 5.0)
    axes = plot.subplots()
    axes.scatter(points_N2[:, 0], points_N2[:, 1], s=10, color=INK, alpha=0.45, linewidths=0)
    handles = []
    for value, name, colour in ((-1, "not known", "#C9CDD3"), *zip(range(3), PROGRESSIONS, CLASS_COLOURS, strict=True)):
        chosen = label == value
        if not chosen.any():
            continue
        start_K2 = points_N2[first[chosen]]
        axes.quiver(
            *start_K2.T, *(points_N2[second[chosen]] - start_K2).T,
            angles="xy", scale_units="xy", scale=1, width=0.0045, color=colour, alpha=0.85,
        )  # fmt: skip
        handles.append(Line2D([], [], color=colour, linewidth=2.5, label=f"{name} ({chosen.sum()})"))
    if handles:
        axes.legend(handles=handles, title="from one visit to the next", frameon=False, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.06)
    why = "" if method == "UMAP" else f", too few for UMAP ({MIN_SCANS_FOR_UMAP})"
    return to_png(plot, f"{method} of {len(points_N2)} scans by cosine{why}")


def reliability_plot(bins: ReliabilityBins) -> bytes:
    """Draw accuracy against stated confidence, dot area by number of pairs.

    Args:
        bins: from `progression.reliability_bins`.
    """
    plot = new_plot(4.6, 4.2)
    axes = plot.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    axes.plot(bins.confidence_K, bins.accuracy_K, color=BLUE, linewidth=1)
    area_K = 30 + 270 * bins.count_K / bins.count_K.max()
    axes.scatter(bins.confidence_K, bins.accuracy_K, s=area_K, color=BLUE, alpha=0.75, linewidths=0)
    for x, y, count in zip(bins.confidence_K, bins.accuracy_K, bins.count_K, strict=True):
        axes.annotate(f"{count}", (x, y), xytext=(0, 11), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xlim(0.3, 1.03)
    axes.set_ylim(-0.03, 1.1)
    finish_axes(axes, "stated probability of the answer", "fraction right")
    return to_png(plot, f"Expected calibration error {bins.expected_calibration_error:.3f}")


def distance_histogram(
    within_P: npt.ArrayLike, between_Q: npt.ArrayLike, rescan_R: npt.ArrayLike | None = None
) -> bytes:
    """Draw how distances between visits, between subjects and between repeats of one day are distributed.

    Args:
        within_P: (P,) cosine distances of consecutive visits.
        between_Q: (Q,) cosine distances between subjects.
        rescan_R: (R,) cosine distances of same-day repeats.
    """
    none = np.empty(0)
    kinds = (
        ("same subject, next visit", np.asarray(within_P, dtype=np.float64), BLUE, "-"),
        ("different subjects", np.asarray(between_Q, dtype=np.float64), ORANGE, "--"),
        ("same day, scanned twice", none if rescan_R is None else np.asarray(rescan_R, dtype=np.float64), GREEN, ":"),
    )
    present = [kind for kind in kinds if kind[1].size]
    everything = np.concatenate([np.empty(0), *(values for _, values, _, _ in present)])
    # Repeats lie a hundred times nearer than strangers: only a logarithmic axis shows both.
    low, high = max(everything.min(initial=1), MIN_DISTANCE), max(everything.max(initial=0), 10 * MIN_DISTANCE)
    edges = np.geomspace(min(low, high / 10), high, 41)
    plot = new_plot(5.4, 4.0)
    axes = plot.subplots()
    for name, values, colour, line in present:
        share = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        axes.stairs(share, edges, color=colour, alpha=0.22, fill=True)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6, label=f"{name} ({len(values)})")
    axes.set_xscale("log")
    finish_axes(axes, "cosine distance, logarithmic", "share of pairs")
    return to_png(plot, "Distances within and between subjects")


def new_plot(width_in: float, height_in: float = 3.4) -> Figure:
    """An empty plot of so many inches, drawn without pyplot's state."""
    plot = Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")
    FigureCanvasAgg(plot)
    return plot


def _level(axes: Axes, level: float | None, name: str) -> None:
    if level is not None:
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2, label=f"{name} {level:.3g}")


def finish_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label axes and take away what does not help reading."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def to_png(plot: Figure, title: str) -> bytes:
    """The plot with its title as PNG bytes."""
    plot.suptitle(title, fontsize=11, color=INK)
    buffer = io.BytesIO()
    # Without the software tag, equal numbers give equal bytes on every version.
    plot.savefig(buffer, format="png", dpi=150, metadata={"Description": title, "Software": None})
    return buffer.getvalue()
