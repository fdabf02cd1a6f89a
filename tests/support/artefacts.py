"""Tiny artefacts of both kinds that keep the whole contract: scripted model, references, golden values, manifest."""

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preprocess.manifest import GOLDEN_NAME, MANIFEST_NAME, PROGRAM_NAME, REFERENCES_NAME
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import unit_scale
from preprocess.types import PROGRESSIONS

RECIPE = VolumeRecipe(grid=(16, 16, 16), spacing_mm=12.0)
WIDTH = 8
STEADINESS = 0.8
"""Below 1, so that even for equal scans `stable` is not the most probable class."""


class TinyModel(torch.nn.Module):
    """Mean grey value of the eight octants, minus a constant; compares by a weighted difference."""

    def __init__(self) -> None:
        super().__init__()
        self.steadiness = STEADINESS
        self.weights_E = torch.nn.Parameter(torch.linspace(-40.0, 60.0, WIDTH))

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        return self.embed(volumes_BCDHW)

    @torch.jit.export
    def embed(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool3d(volumes_BCDHW, 2).flatten(1) - 0.2

    @torch.jit.export
    def compare(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
        change_B = (self.embed(later_BCDHW) - self.embed(earlier_BCDHW)) @ self.weights_E
        up_B, down_B = change_B.exp(), (-change_B).exp()
        stable_B = torch.full_like(up_B, self.steadiness)
        # The two exchangeable terms are added first, so that exchanging them changes no bit of the sum.
        total_B = (up_B + down_B) + self.steadiness
        return torch.stack([up_B / total_B, stable_B / total_B, down_B / total_B], dim=1)


class TinyJudge(TinyModel):
    """The same, which answers from embeddings alone too, as exported models do since trajectories."""

    @torch.jit.export
    def judge(self, differences_BE: torch.Tensor) -> torch.Tensor:
        change_B = differences_BE @ self.weights_E
        up_B, down_B = change_B.exp(), (-change_B).exp()
        stable_B = torch.full_like(up_B, self.steadiness)
        total_B = (up_B + down_B) + self.steadiness
        return torch.stack([up_B / total_B, stable_B / total_B, down_B / total_B], dim=1)


class TinySeverity(torch.nn.Module):
    """Mean grey value of the cells of a 2 x 2 (x 2) grid, minus a constant, and its cosine distance from an anchor."""

    def __init__(self, anchor_E: torch.Tensor, num_axes: int) -> None:
        super().__init__()
        self.register_buffer("anchor_E", anchor_E)
        self.is_flat = num_axes == 2

    def forward(self, scans_B: torch.Tensor) -> torch.Tensor:
        return self.embed(scans_B)

    @torch.jit.export
    def embed(self, scans_B: torch.Tensor) -> torch.Tensor:
        if self.is_flat:
            return torch.nn.functional.adaptive_avg_pool2d(scans_B, 2).flatten(1) - 0.2
        return torch.nn.functional.adaptive_avg_pool3d(scans_B, 2).flatten(1) - 0.2

    @torch.jit.export
    def severity(self, scans_B: torch.Tensor) -> torch.Tensor:
        return 1.0 - torch.nn.functional.cosine_similarity(self.embed(scans_B), self.anchor_E[None], dim=1)


PICTURES = VolumeRecipe(modalities=("fundus",), kinds={"fundus": "image"}, image={"size": (16, 16)})


def write_severity_artefact(
    folder: Path,
    *,
    name: str = "far",
    recipe: VolumeRecipe = RECIPE,
    tau: tuple[float, float, float] | None = (0.5, 0.3, 0.7),
    changes: dict[str, Any] | None = None,
    golden_changes: dict[str, np.ndarray] | None = None,
    reference_changes: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write an artefact of kind severity: of volumes with RECIPE, of images with PICTURES.

    Args:
        folder: made when missing.
        name: of the model.
        recipe: of its inputs.
        tau: value, low and high of severity_tau_b; None leaves the metric out.
        changes: keys of the manifest to replace, at the top level.
        golden_changes: arrays of golden.npz to replace.
        reference_changes: arrays of references.npz to replace.
    """
    folder.mkdir(parents=True, exist_ok=True)
    modality = recipe.modalities[0]
    shape = recipe.row_shape(modality)
    assert shape is not None
    width = 2 ** (len(shape) - 1) * shape[0]
    references = _references((), width)
    indices_K = np.array([1, 4, 9], dtype=np.int64)
    anchor_E = references["embeddings_NE"][indices_K].astype(np.float64).mean(axis=0).astype(np.float32)
    references |= {
        "anchor_E": anchor_E,
        "normal_places_K": indices_K,
        "normal_rows_K": indices_K + 100,
        "validation_distances_V": np.array([0.3, 0.1, 0.2, 0.5, 0.7, 0.6], dtype=np.float32),
        "validation_grades_V": np.array([0, 0, 0, 2, 2, 2], dtype=np.float32),
    }
    model = TinySeverity(torch.from_numpy(anchor_E), len(shape) - 1).eval()
    scans_B = np.random.default_rng(7).integers(0, 256, (2, *shape), dtype=np.uint8)
    inputs = torch.from_numpy(scans_B.astype(np.float32) * np.float32(unit_scale("uint8")))
    with torch.no_grad():
        golden = {
            "scans_B": scans_B,
            "embedding_BE": model.embed(inputs).numpy(),
            "severity_B": model.severity(inputs).numpy(),
        }
    files = {
        PROGRAM_NAME: _script(model),
        GOLDEN_NAME: _npz(**(golden | (golden_changes or {}))),
        REFERENCES_NAME: _npz(**(references | (reference_changes or {}))),
    }
    for file, data in files.items():
        (folder / file).write_bytes(data)
    low_high = {} if tau is None else dict(zip(("value", "low", "high"), tau, strict=True))
    manifest = _manifest(name, "1", files, None) | {
        "kind": "severity",
        "embedding_width": width,
        "calibration": None,
        "anchor": {"normal": 0.0, "num_scans": 3, "num_subjects": 2},
        "outcome": {"name": "grade", "higher_is_better": False, "threshold": 1.0},
        "metrics": {} if tau is None else {"severity_tau_b": {**low_high, "chance": 0.0, "num": 30}},
        "inputs": {
            "modality": modality,
            "channels": shape[0],
            "axes": "RAS" if len(shape) == 4 else "CHW",
            "volume_recipe": recipe.model_dump(mode="json"),
            "fingerprint": recipe.fingerprint(),
        },
        "guarantees": ["severity is the distance from the anchor"],
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest | (changes or {})))
    return folder


def write_artefact(
    folder: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    noise_distances: tuple[float, ...] = (0.0001, 0.0002, 0.0004, 0.001),
    macro_f1: tuple[float, float, float, float] | None = (0.61, 0.52, 0.70, 0.40),
    decision: dict[str, Any] | None = None,
    references: dict[str, np.ndarray] | None = None,
    changes: dict[str, Any] | None = None,
    golden_shift: float = 0.0,
    judges: bool = False,
) -> Path:
    """Write the artefact.

    Args:
        folder: made when missing.
        name: of the model.
        version: of the model.
        noise_distances: of scan-rescan pairs.
        macro_f1: value, low, high, chance; None leaves the metric out.
        decision: the part of that name, from `decision_part`; None is an artefact of an earlier version.
        references: arrays of references.npz to add.
        changes: keys of the manifest to replace, at the top level.
        golden_shift: added to the golden embedding, to make it wrong.
        judges: whether the program answers from embeddings too, as those of earlier versions do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = (TinyJudge() if judges else TinyModel()).eval()
    files = {
        PROGRAM_NAME: _script(model),
        GOLDEN_NAME: _npz(**_golden(model, golden_shift)),
        REFERENCES_NAME: _npz(
            **_references(noise_distances),
            **({} if decision is None else {"change_direction_E": model.weights_E.detach().numpy()}),
            **(references or {}),
        ),
    }
    for file, data in files.items():
        (folder / file).write_bytes(data)
    manifest = _manifest(name, version, files, macro_f1) | {"decision": decision} | (changes or {})
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


def decision_part(
    *,
    least: tuple[float, float, float] = (0.4, 0.4, 0.4),
    noise: tuple[float, int] | None = (0.01, 40),
    log_loss: float = 0.6,
) -> dict[str, Any]:
    """The manifest's part `decision`.

    Args:
        least: least probability in the prediction set, of improved, stable and declined.
        noise: 95th percentile of the change of scan-rescan pairs, in points, and how many pairs; None for none.
        log_loss: beside 1.0 of the base rates.
    """
    floor = None if noise is None else {"percentile_95": noise[0], "num_pairs": noise[1], "unit": "points of mmse"}
    return {
        "coverage": 0.9,
        "least_probability": dict(zip(PROGRESSIONS, least, strict=True)),
        "num_people": 30,
        "num_pairs": 60,
        "noise": floor,
        "error_sd": 0.5,
        "log_loss": log_loss,
        "base_rate_log_loss": 1.0,
        "is_calibrated": log_loss < 1.0,
    }


def rewrite_file(folder: Path, file: str, data: bytes) -> None:
    """Replace a file and its digest, so that only what is inside it is wrong."""
    (folder / file).write_bytes(data)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["files"][file] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))


def _script(model: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.(script|save)` is deprecated", DeprecationWarning)
        torch.jit.save(torch.jit.script(model), buffer)
    return buffer.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _golden(model: TinyModel, shift: float) -> dict[str, np.ndarray]:
    volumes = np.random.default_rng(7).integers(0, 256, (2, 2, 1, *RECIPE.grid), dtype=np.uint8)
    earlier, later = (torch.from_numpy(half.astype(np.float32) * np.float32(unit_scale("uint8"))) for half in volumes)
    with torch.no_grad():
        embedding, probabilities = model.embed(earlier), model.compare(earlier, later)
    return {
        "earlier_BCDHW": volumes[0],
        "later_BCDHW": volumes[1],
        "embedding_BE": embedding.numpy() + np.float32(shift),
        "probabilities_B3": probabilities.numpy(),
    }


def _references(noise_distances: tuple[float, ...], width: int = WIDTH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    embeddings = rng.normal(0.15, 0.1, (40, width)).astype(np.float32)
    scores = rng.integers(10, 31, 40).astype(np.float32)
    scores[::10] = np.nan
    mean = embeddings.mean(0)
    precision = np.linalg.inv(np.cov(embeddings.T) + 0.01 * np.eye(width)).astype(np.float32)
    offsets = rng.normal(0.15, 0.1, (200, width)) - mean
    distances = np.sort(np.sqrt(np.einsum("ne,ef,nf->n", offsets, precision, offsets)))
    return {
        "embeddings_NE": embeddings,
        "scores_N": scores,
        "noise_distances_P": np.asarray(noise_distances, dtype=np.float32),
        "change_distances_P": np.linspace(0, 0.05, 30, dtype=np.float32),
        "ood_mean_E": mean,
        "ood_precision_EE": precision,
        "ood_distances_Q": distances.astype(np.float32),
    }


def _manifest(
    name: str, version: str, files: dict[str, bytes], macro_f1: tuple[float, float, float, float] | None
) -> dict[str, Any]:
    metrics = {}
    if macro_f1 is not None:
        value, low, high, chance = macro_f1
        metrics["macro_f1"] = {"value": value, "low": low, "high": high, "chance": chance, "num": 40}
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "created": "2026-01-02T03:04:05Z",
        "method": "octant means",
        "embedding_width": WIDTH,
        "inputs": {
            "modality": "T1w",
            "volume_recipe": RECIPE.model_dump(mode="json"),
            "fingerprint": RECIPE.fingerprint(),
        },
        "outcome": {"name": "mmse", "higher_is_better": True, "threshold": 2.0, "source": "made up for tests"},
        "calibration": {"temperature": 1.0, "num_pairs": 0},
        "metrics": metrics,
        "files": {file: hashlib.sha256(data).hexdigest() for file, data in files.items()},
        "tolerance": 1e-5,
        "guarantees": ["exchanging the scans exchanges improved and declined"],
        "intended_use": "tests",
        "limitations": ["knows nothing"],
        "training": {
            "run_uri": "gs://private-bucket/people/runs/tiny-run",
            "checkpoint": "step-1",
            "recipe": {},
            "store_uri": "gs://private-bucket/people/store",
            "store_index_sha256": "0" * 64,
            "num_subjects": {"train": 10},
            "git_revision": "none",
            "torch_version": torch.__version__,
        },
    }
