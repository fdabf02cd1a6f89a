"""ClinImCL's plot as PNG bytes: people's paths through the embedding, one panel an epoch.

Drawn as in plots.py. Colour and marker together name a person, so that the paths can be distinguished in grey too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.linalg import orthogonal_procrustes

from trainer.metrics.embedding_space import same_subject_retrieval, within_between
from trainer.report.plots import GREY, INK, MIN_SCANS_FOR_UMAP, new_plot, project, to_png

Floats = npt.NDArray[np.float64]
Names = npt.ArrayLike | Sequence[str]

PANELS_IN_A_ROW = 3
NUM_COLOURED = 12
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008), without yellow, which is hard to see on white."""
MARKERS = ("o", "s", "^")
"""With each colour in turn: eighteen people can be distinguished."""
PALE = "#C9CDD3"


def epoch_trajectories(
    embeddings: Mapping[int, npt.ArrayLike],
    subject_ids_N: Names,
    day_N: npt.ArrayLike,
    *,
    seed: int,
    num_coloured: int = NUM_COLOURED,
) -> bytes:
    """Draw the paths of people from visit to visit, one panel an epoch, with retrieval@1 and within / between above it.

    A line joins a person's visits in order of day; the first is large and hollow. People with two visits or more, as
    many as are requested and evenly from the list of all, are coloured, whatever their paths look like.

    Args:
        embeddings: (N, E) by epoch, at least one epoch; the panels are in order of epoch.
        subject_ids_N: (N,) who.
        day_N: (N,) acquisition day, NaN when unknown: such a scan is a dot without a line.
        seed: the seed of UMAP; the same seed gives the same picture.
        num_coloured: people with a colour, 18 at most.

    Raises:
        ValueError: no epoch, one subject only, or none with two visits.
    """
    if not embeddings:
        raise ValueError("a plot of epochs needs embeddings of at least one; got none")
    epochs = sorted(embeddings)
    paths = _paths(subject_ids_N, day_N)
    if not paths:
        raise ValueError("no subject has two visits on different known days")
    names = sorted(paths)
    step = max(1.0, len(names) / min(num_coloured, len(COLOURS) * len(MARKERS)))
    coloured = [names[int(index)] for index in np.arange(0, len(names), step)][:num_coloured]
    layouts, methods = lay_out([embeddings[epoch] for epoch in epochs], seed=seed)

    columns = min(len(epochs), PANELS_IN_A_ROW)
    num_rows = -(-len(epochs) // columns)
    plot = new_plot(0.4 + 3.3 * max(columns, 2), 0.9 + 3.4 * num_rows)
    grid = plot.subplots(num_rows, columns, squeeze=False)
    for axes, epoch, points_N2 in zip(grid.flat, epochs, layouts, strict=False):
        _draw_paths(axes, points_N2, paths, coloured)
        axes.set_title(_title(epoch, embeddings[epoch], subject_ids_N, day_N), fontsize=9.5, color=INK)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
        for name, (colour, marker) in zip(coloured, _styles(), strict=False)
    ]
    handles.append(_start(GREY, "o", label="first visit"))
    if sum(len(paths[name]) for name in coloured) < len(layouts[0]):
        handles.append(Line2D([], [], color=PALE, marker=".", linewidth=1.2, label="all others"))
    spare = grid.flat[len(epochs) :]
    for axes in spare:
        axes.set_axis_off()
    if len(spare):
        spare[0].legend(handles=handles, loc="center", ncols=2, frameon=False, fontsize=9.5, labelspacing=0.9)
    else:
        plot.legend(
            handles=handles, loc="outside lower center", ncols=min(7, len(handles)), frameon=False, fontsize=8.5
        )
    method = "UMAP" if set(methods) == {"UMAP"} else "PCA"
    if len(set(methods)) == 2:
        method = f"UMAP, or PCA where fewer than {MIN_SCANS_FOR_UMAP} scans differ,"
    chance = same_subject_retrieval(embeddings[epochs[0]], subject_ids_N, day_N).chance
    of = f"{len(layouts[0])} scans of {len(set(_listed(subject_ids_N)))} held-out people"
    return to_png(plot, f"{method} of {of}; retrieval@1 by chance {chance:.2f}")


def lay_out(embeddings: Sequence[npt.ArrayLike], *, seed: int) -> tuple[list[Floats], list[str]]:
    """Lay the same scans out in the plane for each of several encoders, alike enough to compare panels.

    Args:
        embeddings: (N, E) by each encoder, of the same scans; E may differ.
        seed: the seed of UMAP; the same seed gives the same picture.

    Returns:
        (N, 2) positions and the method, `UMAP` or `PCA`, for each encoder.
    """
    layouts: list[Floats] = []
    methods: list[str] = []
    for embeddings_NE in embeddings:
        # A map for each epoch, since one of all would hold each scan apart from itself at other epochs and show the
        # drift of the weights. Beginning where the panel before ended, and turned towards it (no scaling, so no
        # distance changes), a person stays about where they were unless the embedding moved them.
        can_go_on = bool(methods) and methods[-1] == "UMAP"
        points_N2, method = project(embeddings_NE, seed=seed, start_N2=layouts[-1] if can_go_on else None)
        points_N2 = points_N2 - points_N2.mean(axis=0)
        if layouts:
            points_N2 = points_N2 @ orthogonal_procrustes(points_N2, layouts[-1])[0]
        layouts.append(points_N2)
        methods.append(method)
    return layouts, methods


def _paths(subject_ids_N: Names, day_N: npt.ArrayLike) -> dict[str, list[int]]:
    """Rows of each person's visits in order of day, if two or more; the first scan of a day stands for it."""
    days_N = np.asarray(day_N, dtype=np.float64)
    firsts: dict[str, dict[float, int]] = {}
    for row, subject_id in enumerate(_listed(subject_ids_N)):
        if np.isfinite(days_N[row]):
            firsts.setdefault(subject_id, {}).setdefault(float(days_N[row]), row)
    return {name: [days[day] for day in sorted(days)] for name, days in firsts.items() if len(days) > 1}


def _listed(subject_ids_N: Names) -> list[str]:
    return [str(name) for name in np.asarray(subject_ids_N).tolist()]


def _styles() -> list[tuple[str, str]]:
    return [(colour, marker) for marker in MARKERS for colour in COLOURS]


def _draw_paths(axes: Axes, points_N2: Floats, paths: Mapping[str, list[int]], coloured: Sequence[str]) -> None:
    axes.scatter(points_N2[:, 0], points_N2[:, 1], s=7, color=PALE, linewidths=0, zorder=1)
    for name, rows in paths.items():
        if name not in coloured:
            axes.plot(*points_N2[rows].T, color=PALE, linewidth=0.9, zorder=1)
    for name, (colour, marker) in zip(coloured, _styles(), strict=False):
        path_V2 = points_N2[paths[name]]
        axes.plot(*path_V2.T, color=colour, linewidth=1.5, alpha=0.9, zorder=2)
        # Above the start, which would hide visits that lie close to it.
        axes.plot(*path_V2[1:].T, color=colour, marker=marker, markersize=3.6, linestyle="", zorder=4)
        start = _start(colour, marker)
        start.set_data(*path_V2[:1].T)
        axes.add_line(start)
    axes.set_xticks([])
    axes.set_yticks([])
    # One unit is as long across as up, or a turned map would be stretched.
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)


def _start(colour: str, marker: str, label: str = "") -> Line2D:
    return Line2D(
        [], [], color=colour, marker=marker, markersize=7.5, markerfacecolor="white", markeredgewidth=1.6, linestyle="",
        label=label, zorder=3,
    )  # fmt: skip


def _title(epoch: int, embeddings_NE: npt.ArrayLike, subject_ids_N: Names, day_N: npt.ArrayLike) -> str:
    retrieval = same_subject_retrieval(embeddings_NE, subject_ids_N, day_N)
    ratio = within_between(embeddings_NE, subject_ids_N, day_N).ratio
    when = "epoch 0, untrained" if epoch == 0 else f"epoch {epoch}"
    apart = "not defined" if ratio is None else f"{ratio:.3f}"
    return f"{when}\nretrieval@1 {retrieval.value:.2f}, within / between {apart}"
