"""Golden values that come out differently, or of another shape, keep an artefact from answering."""

import io

import numpy as np
import pytest

from app.registry import load_artefact
from preprocess.errors import ArtefactError
from preprocess.manifest import GOLDEN_NAME, PROGRAM_NAME
from tests.support.artefacts import PICTURES, WIDTH, rewrite_file, write_artefact, write_severity_artefact


@pytest.fixture
def folder(tmp_path):
    return write_artefact(tmp_path / "tiny" / "1")


@pytest.mark.parametrize("shift", [1e-3, float("nan")])
def test_golden_values_that_come_out_differently_are_refused(tmp_path, shift):
    folder = write_artefact(tmp_path / "drifted", golden_shift=shift)

    with pytest.raises(ArtefactError, match="embed differs from the exported values"):
        load_artefact(str(folder))


def test_golden_volumes_of_another_grid_are_refused(folder):
    buffer = io.BytesIO()
    volume = np.zeros((1, 1, 8, 8, 8), np.uint8)
    arrays = {"embedding_BE": np.zeros((1, WIDTH)), "probabilities_B3": np.zeros((1, 3))}
    np.savez(buffer, earlier_BCDHW=volume, later_BCDHW=volume, **arrays)
    rewrite_file(folder, GOLDEN_NAME, buffer.getvalue())

    with pytest.raises(ArtefactError, match=r"golden\.npz: volumes \(1, 1, 8, 8, 8\)"):
        load_artefact(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severity_B": np.array([0.1, 0.2], np.float32)}, "severity differs from the exported values"),
        ({"severity_B": np.full(2, np.nan, np.float32)}, "severity differs from the exported values by nan"),
        ({"embedding_BE": np.zeros((2, 4), np.float32)}, "embed differs from the exported values"),
        (
            {"embedding_BE": np.zeros((2, 5), np.float32)},
            r"embed gives \(2, 4\), golden is \(2, 5\), expected \(2, 4\)",
        ),
        ({"severity_B": np.zeros((2, 1), np.float32)}, r"severity gives \(2,\), golden is \(2, 1\), expected \(2,\)"),
        ({"scans_B": np.zeros((2, 1, 8, 8), np.uint8)}, r"scans \(2, 1, 8, 8\) are not \(B, \(1, 16, 16\)\)"),
        ({"scans_B": np.zeros((0, 1, 16, 16), np.uint8)}, r"scans \(0, 1, 16, 16\) are not"),
    ],
)
def test_golden_values_of_severity_are_held_against_the_program(tmp_path, change, message):
    folder = write_severity_artefact(tmp_path / "far", recipe=PICTURES, golden_changes=change)

    with pytest.raises(ArtefactError, match=message):
        load_artefact(str(folder))


def test_an_anchor_that_is_not_the_programs_is_found(tmp_path):
    other = {"anchor_E": np.arange(1, 5, dtype=np.float32)}
    other["embeddings_NE"] = np.tile(other["anchor_E"], (40, 1))
    folder = write_severity_artefact(tmp_path / "far", recipe=PICTURES, reference_changes=other)

    with pytest.raises(ArtefactError, match="the anchor differs from the exported values"):
        load_artefact(str(folder))


def test_a_program_of_the_other_kind_does_not_run(tmp_path):
    pair, far = write_artefact(tmp_path / "pair"), write_severity_artefact(tmp_path / "far")
    rewrite_file(far, PROGRAM_NAME, (pair / PROGRAM_NAME).read_bytes())

    with pytest.raises(ArtefactError, match=r"golden\.npz: the model does not run on it"):
        load_artefact(str(far))


def test_golden_values_of_the_other_kind_are_named_by_what_is_missing(tmp_path):
    pair, far = write_artefact(tmp_path / "pair"), write_severity_artefact(tmp_path / "far")
    rewrite_file(far, GOLDEN_NAME, (pair / GOLDEN_NAME).read_bytes())

    with pytest.raises(ArtefactError, match="no array scans_B, severity_B"):
        load_artefact(str(far))
