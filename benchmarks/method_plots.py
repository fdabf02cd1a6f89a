"""Two pictures of several methods as PNG bytes: distance against score difference, and scores over seeds.

Drawn as in trainer/report/plots.py: no display, no global matplotlib state, colours of Okabe and Ito, and shape or
text says the same again, so that both can be read in grey.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.method_comparison import MethodComparison
from trainer.metrics.evaluation import Metric
from trainer.metrics.pair_distances import ScoredPairs
from trainer.report.plots import BLUE, GREY, INK, ORANGE, finish_axes, new_plot, to_png

PANELS_IN_A_ROW = 4
MAX_POINTS = 3000
"""Of more pairs every k-th is drawn; rho and the line of medians are always those of all."""
NUM_BINS = 8
MIN_IN_BIN = 5
"""Fewer pairs have no median worth a mark."""


@dataclass(frozen=True, eq=False)
class DistancePanel:
    """One variant of the distance plot.

    Attributes:
        pairs: what is drawn.
        rho: from `pair_distances.distance_correlation`.
    """

    pairs: ScoredPairs
    rho: Metric


def distance_scatter(panels: Mapping[str, DistancePanel], *, score_name: str, pairs_name: str = "pairs") -> bytes:
    """Draw small multiples of cosine distance against |score difference|, one a variant, with rho in each title.

    The line joins the medians of the distance in equal bins of the difference. Panels share the horizontal axis only:
    rho is about order, and how far a variant spreads its scans is read from its own vertical axis.

    Args:
        panels: by the name of the variant, at least one with a pair.
        score_name: of the horizontal axis, with its unit, for example `MMSE, points`.
        pairs_name: what kind of pairs, for the title.

    Raises:
        ValueError: no panel, or none with a pair.
    """
    if not any(len(panel.pairs) for panel in panels.values()):
        raise ValueError("a distance plot needs a variant with at least one pair; got none")
    columns = min(len(panels), PANELS_IN_A_ROW)
    num_rows = -(-len(panels) // columns)
    plot = new_plot(0.6 + 2.7 * max(columns, 2), 0.6 + 2.9 * num_rows)
    grid = plot.subplots(num_rows, columns, sharex=True, squeeze=False)
    widest = max(float(panel.pairs.difference_P.max(initial=0)) for panel in panels.values())
    for index, (axes, (name, panel)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        _draw_pairs(axes, panel.pairs, widest)
        axes.set_title(f"{name}\n{_rho_words(panel.rho)}", fontsize=9.5, color=INK)
        below = index + columns < len(panels)
        finish_axes(
            axes, "" if below else f"|difference of {score_name}|", "" if index % columns else "cosine distance"
        )
        axes.xaxis.set_tick_params(labelbottom=not below)
        axes.set_ylim(bottom=0)
        if axes.get_legend() is not None and index:
            axes.get_legend().remove()
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    return to_png(plot, f"Cosine distance against difference of score, {pairs_name}")


def methods_plot(comparisons: Sequence[MethodComparison]) -> bytes:
    """Draw each method's mean with its interval over seeds, one panel a metric; every seed is a ring beside it.

    A filled square is the baseline, a filled dot another method; the dotted line stands at the baseline's mean, the
    dashed one at chance. Methods are in the order of the first comparison.

    Args:
        comparisons: from `compare_methods`, all of the same methods.

    Raises:
        ValueError: no comparison, or comparisons of different methods.
    """
    if not comparisons:
        raise ValueError("a plot of methods needs at least one comparison; got none")
    names = [row.method for row in comparisons[0].rows]
    for comparison in comparisons:
        if {row.method for row in comparison.rows} != set(names):
            raise ValueError(f"{comparison.metric} has other methods than {comparisons[0].metric}; draw them apart")
    plot = new_plot(1.4 + 3.1 * max(len(comparisons), 2), 1.5 + 0.42 * len(names))
    grid = plot.subplots(1, len(comparisons), sharey=True, squeeze=False)[0]
    for axes, comparison in zip(grid, comparisons, strict=True):
        _draw_methods(axes, comparison, names)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    level = {f"{100 * comparison.level:g} %" for comparison in comparisons}
    handles = [
        Line2D([], [], color=ORANGE, marker="s", linewidth=1.8, label="baseline"),
        Line2D([], [], color=BLUE, marker="o", linewidth=1.8, label=f"mean, {' / '.join(sorted(level))} interval"),
        Line2D([], [], color=INK, marker="o", markerfacecolor="none", linestyle="", markersize=4, label="one seed"),
        Line2D([], [], color=ORANGE, linestyle=":", linewidth=1.2, label="baseline's mean"),
    ]
    if any(comparison.chance is not None for comparison in comparisons):
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label="chance"))
    plot.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    return to_png(plot, f"{len(names)} methods over seeds")


def _draw_pairs(axes: Axes, pairs: ScoredPairs, widest: float) -> None:
    step = max(1, -(-len(pairs) // MAX_POINTS))
    shown = slice(None, None, step)
    axes.scatter(
        pairs.difference_P[shown], pairs.distance_P[shown], s=9, color=BLUE, alpha=0.2, linewidths=0, rasterized=True
    )
    edges = np.linspace(0, widest, NUM_BINS + 1)
    bin_P = np.clip(np.digitize(pairs.difference_P, edges) - 1, 0, NUM_BINS - 1)
    chosen = [bin_P == number for number in range(NUM_BINS) if (bin_P == number).sum() >= MIN_IN_BIN]
    medians: list[tuple[float, float]] = [
        (float(np.median(pairs.difference_P[one])), float(np.median(pairs.distance_P[one]))) for one in chosen
    ]
    if medians:
        axes.plot(*np.transpose(medians), color=INK, marker="o", markersize=4, linewidth=1.6, label="median of a bin")


def _draw_methods(axes: Axes, comparison: MethodComparison, names: Sequence[str]) -> None:
    rows = {row.method: row for row in comparison.rows}
    axes.axvline(rows[comparison.baseline].score.mean, color=ORANGE, linestyle=":", linewidth=1.2)
    if comparison.chance is not None:
        axes.axvline(comparison.chance, color=GREY, linestyle="--", linewidth=1.2)
    for index, name in enumerate(names):
        score, is_baseline = rows[name].score, name == comparison.baseline
        colour = ORANGE if is_baseline else BLUE
        value_S: npt.NDArray[np.float64] = np.array([value for _, value in rows[name].by_seed])
        axes.plot(
            value_S, np.full(len(value_S), index + 0.24),
            color=INK, marker="o", markerfacecolor="none", markersize=3.5, markeredgewidth=0.8, linestyle="",
        )  # fmt: skip
        if score.low is not None and score.high is not None:
            axes.plot([score.low, score.high], [index, index], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([score.mean], [index], color=colour, marker="s" if is_baseline else "o", markersize=6.5)
    arrow = "higher" if comparison.higher_is_better else "lower"
    finish_axes(axes, f"{comparison.metric} ({arrow} is better)", "")


def _rho_words(rho: Metric) -> str:
    if rho.value is None:
        return f"rho not defined\n{rho.num:,} pairs"
    ends = "" if rho.low is None else f" ({rho.low:+.2f} to {rho.high:+.2f})"
    return f"rho {rho.value:+.2f}{ends}\n{rho.num:,} pairs"
