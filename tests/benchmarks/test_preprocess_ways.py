"""The ways that are compared: each makes a normalised 96-cube with a head in it from the same file."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.preprocess_ways import PEERS, SHAPE, prepare, write_heads
from preprocess.readers import read_nifti


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_heads(tmp_path_factory.mktemp("heads"), 2, coarser=4)


def test_heads_are_int16_differ_and_repeat(paths: list[Path], tmp_path: Path) -> None:
    images = [read_nifti(path.read_bytes(), name=path.name) for path in paths]
    assert {image.dtype for image in images} == {"int16"}
    assert {image.voxels_XYZ.shape for image in images} == {tuple(edge // 4 for edge in SHAPE)}
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert [path.read_bytes() for path in write_heads(tmp_path, 1, coarser=4)] == [paths[0].read_bytes()]


def test_ours_finds_the_head_in_each(paths: list[Path]) -> None:
    for path in paths:
        volume = prepare(path)
        assert volume.shape == (1, 96, 96, 96)
        assert volume[0, 36:60, 36:60, 36:60].mean() > 100


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_each_peer_answers_a_cube_in_the_unit_range(name: str, paths: list[Path]) -> None:
    try:
        way = PEERS[name]()
    except ImportError as error:
        pytest.skip(str(error))
    values = np.asarray(way(paths[0])).reshape(96, 96, 96)
    assert values.min() >= 0
    assert values.max() == pytest.approx(1.0, abs=1e-5)
    assert values[36:60, 36:60, 36:60].mean() > 0.2
