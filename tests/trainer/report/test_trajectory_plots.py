"""One panel an epoch states its own metrics, paths are in order of day, and panels of like embeddings lie alike."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial import procrustes

from tests.trainer.report.test_plots import title
from trainer.report import trajectory_plots
from trainer.report.plots import project
from trainer.report.trajectory_plots import epoch_trajectories, lay_out

NUM_PEOPLE, NUM_VISITS, WIDTH = 9, 3, 8
IDS = [f"sub-{person}" for person in range(NUM_PEOPLE) for _ in range(NUM_VISITS)]
# The rows of a person are not in order of day.
DAYS = np.tile([300.0, 0.0, 700.0], NUM_PEOPLE)
ORDER = [1, 0, 2]


def embeddings_of(noise: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    people = generator.normal(size=(NUM_PEOPLE, 1, WIDTH))
    visits = people + noise * generator.normal(size=(NUM_PEOPLE, NUM_VISITS, WIDTH))
    return visits.reshape(-1, WIDTH)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The plots that are made, to look into."""
    made: list[Figure] = []
    plain = trajectory_plots.to_png

    def keep(plot: Figure, title: str) -> bytes:
        made.append(plot)
        return plain(plot, title)

    monkeypatch.setattr(trajectory_plots, "to_png", keep)
    return made


def loop_metrics(embeddings_NE: np.ndarray) -> tuple[float, float]:
    """retrieval@1 and within / between by loops."""
    unit = embeddings_NE / np.linalg.norm(embeddings_NE, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    everyone = range(len(IDS))
    hits = [
        IDS[min((other for other in everyone if other != one), key=lambda other: distance[one, other])] == IDS[one]
        for one in everyone
    ]
    within = [distance[3 * p + a, 3 * p + b] for p in range(NUM_PEOPLE) for a, b in ((1, 0), (0, 2))]
    between = [distance[a, b] for a, b in combinations(everyone, 2) if IDS[a] != IDS[b]]
    return float(np.mean(hits)), float(np.mean(within) / np.mean(between))


def test_panels_are_in_order_of_epoch_and_each_states_its_own_metrics(drawn: list[Figure]) -> None:
    embeddings = {20: embeddings_of(0.1), 0: embeddings_of(3.0), 5: embeddings_of(0.8)}
    png = epoch_trajectories(embeddings, IDS, DAYS, seed=0)
    assert title(png) == "UMAP of 27 scans of 9 held-out people; retrieval@1 by chance 0.08"
    titles = [axes.get_title() for axes in drawn[0].axes]
    for text, epoch, words in zip(titles, (0, 5, 20), ("epoch 0, untrained", "epoch 5", "epoch 20"), strict=True):
        retrieval, ratio = loop_metrics(embeddings[epoch])
        assert text == f"{words}\nretrieval@1 {retrieval:.2f}, within / between {ratio:.3f}"


def test_every_path_joins_a_persons_visits_in_order_of_day_from_a_marked_start(drawn: list[Figure]) -> None:
    embeddings = {1: embeddings_of(0.5), 2: embeddings_of(0.4)}
    epoch_trajectories(embeddings, IDS, DAYS, seed=0, num_coloured=4)
    placed, _ = lay_out(list(embeddings.values()), seed=0)
    for axes, points_N2 in zip(drawn[0].axes, placed, strict=True):
        lines = [np.column_stack(line.get_data()) for line in axes.lines if line.get_linestyle() == "-"]
        expected = [points_N2[[3 * person + visit for visit in ORDER]] for person in range(NUM_PEOPLE)]
        assert len(lines) == NUM_PEOPLE
        for path in expected:
            assert any(np.array_equal(path, line) for line in lines)
        starts = [line.get_xydata() for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert len(starts) == 4
        assert all(any(np.array_equal(start[0], path[0]) for path in expected) for start in starts)


def test_coloured_people_differ_in_colour_and_marker_and_are_named(drawn: list[Figure]) -> None:
    ids = [f"p{person:02d}" for person in range(30) for _ in range(2)]
    embeddings = {1: np.random.default_rng(0).normal(size=(60, 5)), 2: np.random.default_rng(1).normal(size=(60, 5))}
    epoch_trajectories(embeddings, ids, np.tile([0.0, 1.0], 30), seed=0)
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == [f"p{int(person):02d}" for person in np.arange(0, 30, 2.5)] + ["first visit", "all others"]
    lines = drawn[0].legends[0].get_lines()[:12]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 12


def test_a_spare_panel_of_the_grid_takes_the_legend(drawn: list[Figure]) -> None:
    epoch_trajectories(dict.fromkeys(range(5), embeddings_of(0.5)), IDS, DAYS, seed=0)
    assert drawn[0].legends == []
    assert [axes.get_legend() is not None for axes in drawn[0].axes] == [False] * 5 + [True]


def test_equal_embeddings_in_another_orientation_lie_alike_and_distances_are_not_changed() -> None:
    """Too few to be laid out by UMAP: PCA's axes are free to flip, and the second panel is turned back."""
    embeddings = np.random.default_rng(0).normal(size=(9, 6))
    mirrored = embeddings @ np.diag([-1.0, 1, 1, -1, 1, 1])[np.random.default_rng(1).permutation(6)]
    (first, second), methods = lay_out([embeddings, mirrored], seed=0)
    assert methods == ["PCA", "PCA"]
    assert second == pytest.approx(first, abs=1e-9)


def test_panels_begin_where_the_one_before_ended_so_people_move_less_than_between_maps_of_their_own() -> None:
    generator = np.random.default_rng(0)
    people = generator.normal(size=(30, 1, WIDTH)).repeat(3, axis=1).reshape(-1, WIDTH)
    maps = [people + noise * generator.normal(size=people.shape) for noise in (0.5, 0.3, 0.1)]
    placed, methods = lay_out(maps, seed=0)
    assert methods == ["UMAP"] * 3
    alone = [project(one, seed=0)[0] for one in maps]

    def moved(before: np.ndarray, after: np.ndarray) -> float:
        """Squared distance of two maps of size 1 after the best turn, which both kinds of map are allowed."""
        return float(procrustes(before, after)[2])

    # Of both steps together: UMAP's maps differ from processor to processor, and one step may be as short either way.
    together, apart = (sum(moved(*one[first : first + 2]) for first in (0, 1)) for one in (placed, alone))
    assert together < 0.75 * apart
    again, _ = lay_out(maps, seed=0)
    assert all(np.array_equal(one, other) for one, other in zip(placed, again, strict=True))


def test_an_encoder_that_collapsed_at_one_epoch_is_drawn_and_the_title_says_how() -> None:
    embeddings = {0: embeddings_of(0.5), 1: np.ones((27, WIDTH)), 2: embeddings_of(0.4)}
    assert title(epoch_trajectories(embeddings, IDS, DAYS, seed=0)).startswith("UMAP, or PCA where fewer than 15 scans")


def test_scans_without_a_day_are_dots_and_people_with_one_visit_have_no_path(drawn: list[Figure]) -> None:
    ids, days = [*IDS, "once", "dayless", "dayless"], np.append(DAYS, [0.0, np.nan, np.nan])
    embeddings = {1: np.vstack([embeddings_of(0.5), np.eye(WIDTH)[:3]])}
    epoch_trajectories(embeddings, ids, days, seed=0)
    axes = drawn[0].axes[0]
    assert len(axes.collections[0].get_offsets()) == 30
    assert sum(line.get_linestyle() == "-" for line in axes.lines) == NUM_PEOPLE


def test_without_epochs_or_paths_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="needs embeddings of at least one"):
        epoch_trajectories({}, IDS, DAYS, seed=0)
    with pytest.raises(ValueError, match="no subject has two visits"):
        epoch_trajectories({0: np.eye(2)}, ["a", "b"], [0.0, 0.0], seed=0)
