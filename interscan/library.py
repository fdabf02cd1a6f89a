"""Opens stores and artefacts for programs, and answers for scans of a person, without command line or server."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interscan.extras import naming_extras
from preprocess.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from app.inputs import PreparedScan
    from app.registry import LoadedModel
    from app.schemas import ProgressionAnswer
    from app.trajectory_schemas import TrajectoryAnswer
    from preprocess.store import Store

    ScanSource = str | os.PathLike[str] | npt.NDArray[Any] | torch.Tensor


def open_store(uri: str | Path, *, options: Mapping[str, Any] | None = None) -> "Store":
    """Open a finished store for reading.

        store = open_store("gs://bucket/store")
        voxels_CDHW = store.read(0, "T1w")

    Args:
        uri: where it lies: path, gs://, s3:// or memory://.
        options: arguments of the fsspec file system, for example `{"endpoint_url": ...}`; environment variables and
            defaults of the file system when not given.

    Returns:
        The store: `manifest` (its store.json), `records` (one for each row and modality of the index) and `read`.

    Raises:
        StoreError: there is no finished store, or it breaks its contract.
        StorageError: the bucket refuses, or the protocol is unknown.
    """
    from preprocess.store import Store

    return Store.open(uri, None if options is None else dict(options))


def grid_to_scan(store: "Store", row: int, modality: str) -> "npt.NDArray[np.float64]":
    """The way from a stored volume's voxels back to the scan as it was acquired.

        affine = grid_to_scan(store, 0, "T1w")
        x_mm, y_mm, z_mm, _ = affine @ [i, j, k, 1]

    Whatever the recipe did before the one resampling (box, registration) is in it.

    Args:
        store: from `open_store`.
        row: a row of the store.
        modality: one that holds volumes.

    Returns:
        4 x 4, from voxel indices (right, anterior, superior) to RAS+ millimetres as the scan's own header has them.

    Raises:
        StoreError: the row holds no volume of that modality.
    """
    return store.affine(row, modality)


def volume_to_nifti(store: "Store", row: int, modality: str) -> bytes:
    """A stored volume as a NIfTI file that lies on the scan it was made of, in any viewer.

        Path("volume.nii.gz").write_bytes(volume_to_nifti(store, 0, "T1w"))

    Args:
        store: from `open_store`.
        row: a row of the store.
        modality: one that holds volumes of one channel.

    Returns:
        A .nii.gz file with the stored values, and `grid_to_scan` as qform and sform. Nothing else of the scan's header
        is in it.

    Raises:
        StoreError: the row holds no volume of that modality, or it is damaged.
        StorageError: the bucket refuses.
    """
    from preprocess.nifti import to_nifti

    return to_nifti(store.read(row, modality)[0], store.affine(row, modality))


def load_artefact(uri: str | Path) -> "LoadedModel":
    """Load an exported model; only one that passes every check of its contract is returned.

    Checked are the digests of all files, the fingerprint of its preprocessing, and that the model gives its golden
    values on this machine.

        artefact = load_artefact("gs://bucket/models/demo/1")
        embeddings_BE = artefact.engine.embed(volumes_BCDHW)

    Args:
        uri: its folder: path, gs://, s3:// or memory://.

    Returns:
        The model, with `manifest`, `engine` (`embed`, `compare`) and `references`.

    Raises:
        ArtefactError: a file is missing, altered or of another schema, or a check fails.
        StorageError: the bucket refuses, or the protocol is unknown.
        UsageError: a package of an extra is missing; names the extra.
    """
    from preprocess.surroundings import settle

    # MONAI, which the transforms need, cannot be imported by a user without a name.
    settle()
    with naming_extras("load_artefact"):
        from app.registry import load_artefact as load
    return load(os.fspath(uri))


def predict_pair(
    artefact: "LoadedModel",
    earlier: "ScanSource",
    later: "ScanSource",
    *,
    gap_days: float | None = None,
    accept_unproven: bool = False,
) -> "ProgressionAnswer":
    """Tell what changed between two scans of one person, or that it cannot be told, as `interscan predict` does.

        answer = predict_pair(artefact, "earlier.nii.gz", "later.nii.gz", gap_days=365)
        answer.decision, answer.reasons, answer.probabilities.declined, answer.caution

    A scan is given in one of two forms. The path or URL of a NIfTI file goes the whole way of preprocessing: quality
    checks, resampling by the file's own affine, normalisation. An array says nothing about its orientation and
    spacing, so it must be a stored volume of the model's own preprocessing, as `open_store(...).read(row, modality)`
    gives it: shape (C, D, H, W), axes RAS+, the model's grid and dtype. Shape, dtype and range are checked here;
    `store.require_fingerprint(artefact.manifest.inputs.fingerprint)` makes sure of the rest.

    Args:
        artefact: from `load_artefact`, of kind progression.
        earlier: the scan acquired first.
        later: the scan acquired second.
        gap_days: days between them where known, 0 or more; repeated in the answer, not used by the model.
        accept_unproven: decide even with a model that is not shown to be right more often than by chance.

    Returns:
        The answer: `decision`, `reasons`, `probabilities`, `predicted_change`, `caution` and where it comes from;
        `model_dump(mode="json")` is what the service sends. Of an array, `sha256` is that of its voxels, as
        `content_sha256` of the store's records.

    Raises:
        UsageError: no such file, an array that is not a volume of the model, or a number of days below 0.
        ScanError: a file is not a usable scan; its `finding` says why.
        ArtefactError: the artefact is of a kind that compares no pairs.
        StorageError: the bucket refuses.
    """
    with naming_extras("predict_pair"):
        from app.answers import answer_progression
        from app.registry import LoadedModel

    _require_loaded(artefact, LoadedModel)
    if gap_days is not None and not 0 <= gap_days < math.inf:
        raise UsageError(f"gap_days is {gap_days:g}; it must be a number of days, 0 or more: exchange the two scans?")
    manifest = artefact.manifest
    artefact.require_progression(f"{manifest.name} {manifest.version}", "predict_pair")
    scans = _prepare(artefact, [(earlier, "earlier"), (later, "later")])
    return answer_progression(artefact, *scans, gap_days=gap_days, accept_unproven=accept_unproven)


def predict_trajectory(
    artefact: "LoadedModel",
    scans: "Sequence[ScanSource]",
    days: Sequence[float],
    *,
    age: float | None = None,
    accept_unproven: bool = False,
) -> "TrajectoryAnswer":
    """Tell how one person changes over several visits, as `interscan predict --days` does.

        answer = predict_trajectory(artefact, ["a.nii.gz", "b.nii.gz", "c.nii.gz"], [0, 365, 730], age=71)
        answer.decision, answer.annual_change, answer.percentile_for_age, answer.caution

    Args:
        artefact: from `load_artefact`, of kind progression, with a head on the score (recipe `change`).
        scans: 2 to 16 of one person, each in one of the forms that `predict_pair` takes.
        days: the day of each, days since any one day; in any order with their scans.
        age: years at the first visit, 0 to 120, where known.
        accept_unproven: decide even with a model that is not shown to be right more often than by chance.

    Returns:
        The answer: `decision`, `reasons`, `annual_change`, `fitted_change`, `visits` and `steps` in the order of days,
        `caution` and where it comes from; `model_dump(mode="json")` is what the service sends.

    Raises:
        UsageError: other numbers of scans or days, a day or an age that is none, no such file, or an array that is not
            a volume of the model.
        ScanError: a file is not a usable scan; its `finding` says why.
        ArtefactError: the artefact tells no change in points, or an earlier version exported it.
        StorageError: the bucket refuses.
    """
    with naming_extras("predict_trajectory"):
        from app.registry import LoadedModel
        from app.trajectory import require_visits
        from app.trajectory_answer import answer_trajectory

    _require_loaded(artefact, LoadedModel)
    require_visits(len(scans), days, age)
    artefact.require_trajectory(f"{artefact.manifest.name} {artefact.manifest.version}")
    prepared = _prepare(artefact, [(source, f"scan {position}") for position, source in enumerate(scans, start=1)])
    return answer_trajectory(artefact, prepared, days, age=age, accept_unproven=accept_unproven)


def _require_loaded(artefact: object, kind: type) -> None:
    if not isinstance(artefact, kind):
        raise UsageError(f"artefact is of type {type(artefact).__name__}; give what load_artefact returns")


def _prepare(artefact: "LoadedModel", sources: "Sequence[tuple[ScanSource, str]]") -> "list[PreparedScan]":
    """The scans of one person, each with its name: files are preprocessed together, arrays are taken as they are."""
    from app.inputs import prepare_together

    files: list[tuple[bytes, str]] = []
    arrays: dict[int, PreparedScan] = {}
    for number, (source, name) in enumerate(sources):
        if isinstance(source, str | os.PathLike):
            files.append((_read(os.fspath(source), name), name))
        else:
            arrays[number] = _stored_volume(artefact, source, name)
    recipe = artefact.manifest.inputs.volume_recipe
    if files and arrays and recipe.registration == "subject":
        raise UsageError(
            "the model's recipe has registration = \"subject\", so a file is prepared with the person's others; "
            "give either files or stored volumes, not both"
        )
    prepared = iter(prepare_together(files, recipe))
    return [arrays[number] if number in arrays else next(prepared) for number in range(len(sources))]


def _read(uri: str, name: str) -> bytes:
    from preprocess.storage import Location

    try:
        return Location(uri).read()
    except FileNotFoundError as error:
        which = name if name.startswith("scan ") else f"the {name} scan"
        raise UsageError(f"{uri}: no such file; give {which} as .nii or .nii.gz") from error


def _stored_volume(artefact: "LoadedModel", source: object, name: str) -> "PreparedScan":
    """An array as a scan, once it may be a stored volume of the model's preprocessing."""
    import numpy as np

    from app.inputs import PreparedScan

    inputs = artefact.manifest.inputs
    recipe = inputs.volume_recipe
    remedy = "give a stored volume, as open_store(...).read(row, modality) gives it, or the path of the scan's file"
    if not hasattr(source, "__array__"):
        raise UsageError(f"{name} is of type {type(source).__name__}; {remedy}")
    voxels_CDHW = np.ascontiguousarray(source)
    shape, dtype = (inputs.channels, *recipe.grid), recipe.dtype_of(inputs.modality)
    if voxels_CDHW.shape != shape or voxels_CDHW.dtype != dtype:
        raise UsageError(
            f"{name} has shape {voxels_CDHW.shape} and dtype {voxels_CDHW.dtype}; the model takes {shape} and {dtype}: "
            f"channels, then right, anterior and superior at {recipe.spacing_mm:g} mm; {remedy}"
        )
    if voxels_CDHW.dtype.kind == "f" and not bool(((voxels_CDHW >= 0) & (voxels_CDHW <= 1)).all()):
        raise UsageError(
            f"{name} holds values from {voxels_CDHW.min():g} to {voxels_CDHW.max():g}; those of a stored volume are "
            f"from 0 to 1; {remedy}"
        )
    return PreparedScan(voxels_CDHW, hashlib.sha256(voxels_CDHW.data).hexdigest(), ())
