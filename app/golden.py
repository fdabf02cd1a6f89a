"""Holds a loaded artefact against the values that were computed at export: golden.npz."""

import numpy as np

from app.engine import Engine
from app.references import read_arrays
from app.severity import SeverityReferences
from preprocess.errors import ArtefactError
from preprocess.manifest import Manifest
from preprocess.types import FloatArray

Answers = dict[str, tuple[FloatArray, np.ndarray, tuple[int, ...]]]
"""By method: what comes out here, what came out at export, and the shape both must have."""


def check_golden(
    engine: Engine, manifest: Manifest, data: bytes, *, name: str, severity: SeverityReferences | None
) -> None:
    """Run the model on the golden scans.

    Args:
        engine: with the loaded program.
        manifest: the artefact's manifest, whose tolerance decides.
        data: the bytes of golden.npz.
        name: how messages call it.
        severity: references of an artefact of kind severity, whose anchor must give the program's distances too.

    Raises:
        ArtefactError: an array is missing or of another shape, the model does not run, or the values differ.
    """
    arrays = read_arrays(data, name=name)
    try:
        answers = (
            _pair_answers(engine, manifest, arrays, name=name)
            if manifest.kind == "progression"
            else _scan_answers(engine, manifest, arrays, severity, name=name)
        )
    except (RuntimeError, AttributeError) as error:
        raise ArtefactError(f"{name}: the model does not run on it; export the model again") from error
    for method, (found, golden, shape) in answers.items():
        if found.shape != shape or golden.shape != shape:
            raise ArtefactError(f"{name}: {method} gives {found.shape}, golden is {golden.shape}, expected {shape}")
        difference = float(np.abs(found - golden).max())
        if not difference <= manifest.tolerance:  # NaN fails too
            raise ArtefactError(
                f"{name}: {method} differs from the exported values by {difference:.2g}, more than "
                f"{manifest.tolerance:.2g}; use the torch version of the export ({manifest.training.torch_version})"
            )


def _pair_answers(engine: Engine, manifest: Manifest, arrays: dict[str, np.ndarray], *, name: str) -> Answers:
    earlier, later, embedding_BE, probabilities_B3 = _required(
        arrays, ("earlier_BCDHW", "later_BCDHW", "embedding_BE", "probabilities_B3"), name=name
    )
    volume = (manifest.inputs.channels, *manifest.inputs.volume_recipe.grid)
    if not len(earlier) or earlier.shape != later.shape or earlier.shape[1:] != volume:
        raise ArtefactError(
            f"{name}: volumes {earlier.shape}, {later.shape} are not (B, {volume}); export the model again"
        )
    return {
        "embed": (engine.embed(earlier), embedding_BE, (len(earlier), manifest.embedding_width)),
        "compare": (engine.compare(earlier, later), probabilities_B3, (len(earlier), 3)),
    }


def _scan_answers(
    engine: Engine, manifest: Manifest, arrays: dict[str, np.ndarray], severity: SeverityReferences | None, *, name: str
) -> Answers:
    names = ("scans_B", "embedding_BE", *(() if severity is None else ("severity_B",)))
    scans, embedding_BE, *told = _required(arrays, names, name=name)
    row = manifest.inputs.volume_recipe.row_shape(manifest.inputs.modality)
    if not len(scans) or scans.shape[1:] != row:
        raise ArtefactError(f"{name}: scans {scans.shape} are not (B, {row}); export the model again")
    embeddings = engine.embed(scans)
    answers: Answers = {"embed": (embeddings, embedding_BE, (len(scans), manifest.embedding_width))}
    if severity is None:
        return answers
    (severity_B,) = told
    answers["severity"] = (engine.severity(scans), severity_B, (len(scans),))
    if embeddings.shape[1:] == severity.anchor_E.shape:
        answers["the anchor"] = (severity.distances(embeddings), severity_B, (len(scans),))
    return answers


def _required(arrays: dict[str, np.ndarray], names: tuple[str, ...], *, name: str) -> list[np.ndarray]:
    missing = [key for key in names if key not in arrays]
    if missing:
        raise ArtefactError(f"{name}: no array {', '.join(missing)}; export the model again")
    return [arrays[key] for key in names]
