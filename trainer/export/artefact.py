"""Exports a finished run as an artefact folder; manifest.json is written last, and without it there is none."""

import hashlib
import io
from datetime import UTC, datetime

import numpy as np
import torch
from pydantic import ValidationError

from preprocess.errors import ArtefactError, RunError
from preprocess.manifest import (
    GOLDEN_NAME,
    MANIFEST_NAME,
    REFERENCES_NAME,
    Calibration,
    Inputs,
    Manifest,
    Metric,
    TrainingRun,
)
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import to_stored, unit_scale
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.splits import SPLITS
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.run import METRICS_NAME
from trainer.export.programs import BATCH_SIZES, TOLERANCE, export_programs
from trainer.export.references import build_references
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.trained import PairModel, Trained, load_trained

INTENDED_USE = (
    "Research on change between repeated scans of one person, of the modality and preprocessing named under inputs. "
    "Not a medical device; no basis for a diagnosis or a treatment."
)


def export_run(
    run: Run, artefact: Location, *, name: str | None = None, version: str = "1", store_uri: str | None = None
) -> Manifest:
    """Write a run's artefact.

    Args:
        run: finished and evaluated.
        artefact: folder to write; must not hold an artefact yet.
        name: of the model; the recipe's when not given.
        version: of the model.
        store_uri: where the run's store is now, if it was moved.

    Raises:
        RunError: the run is not finished or not evaluated, or has no progression head.
        ArtefactError: an artefact is there already, or an exported program differs from the model.
        StoreError: the store is another one.
    """
    if artefact.exists(MANIFEST_NAME):
        raise ArtefactError(f"{artefact.uri}: holds an artefact already; artefacts never change, choose another folder")
    if run.recipe.data.modalities or run.recipe.target != "progression":
        raise ArtefactError(
            f"{run.location.uri}: the run's target is {run.recipe.target} on "
            f"{', '.join(run.recipe.data.modalities) or run.recipe.data.modality}; an artefact answers progression "
            "from one volume, so export a run of that target"
        )
    evaluation = _read_evaluation(run)
    store = run.open_store(store_uri)
    trained = load_trained(run, store)
    model = trained.pair_model()
    shape = store.layout(run.recipe.data.modality).shape
    programs = export_programs(model, shape)
    cohort = read_cohort(store, run.recipe.data.modality, run.recipe.outcome.name)
    files = {
        **programs.files,
        GOLDEN_NAME: _npz(_golden(model, shape, store.manifest.recipe.dtype)),
        REFERENCES_NAME: _npz(_references(trained, store, cohort)),
    }
    manifest = _manifest(trained, store, evaluation, files, name=name or run.recipe.name, version=version)
    for file_name, data in files.items():
        artefact.write(file_name, data)
    artefact.write(MANIFEST_NAME, manifest.model_dump_json(indent=2).encode())
    return manifest


def _read_evaluation(run: Run) -> Evaluation:
    try:
        return Evaluation.model_validate_json(run.location.read(METRICS_NAME))
    except (FileNotFoundError, ValidationError) as error:
        found = "not evaluated" if isinstance(error, FileNotFoundError) else "evaluated by another version"
        raise RunError(
            f"{run.location.uri}: {found}, and an artefact states its held-out figures; run interscan evaluate first"
        ) from error


@torch.no_grad()
def _golden(model: PairModel, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """A made-up pair in the stored type, and what the eager model answers for it."""
    draws = np.random.default_rng(0)
    earlier, later = (to_stored(draws.random((1, *shape), dtype=np.float32), dtype) for _ in range(2))
    first, second = (torch.as_tensor(voxels.astype(np.float32) * unit_scale(dtype)) for voxels in (earlier, later))
    return {
        "earlier_BCDHW": earlier,
        "later_BCDHW": later,
        "embedding_BE": model.embed(first).numpy(),
        "probabilities_B3": model.compare(first, second).numpy(),
    }


def _references(trained: Trained, store: Store, cohort: Cohort) -> dict[str, np.ndarray]:
    run = trained.run
    exact = Compute(torch.device("cpu"), torch.float32)
    training, validation = (cohort.of_subjects(run.split.of(part)) for part in ("train", "validation"))
    training_NE, validation_NE = (
        embed_cohort(trained.encoder, store, run.recipe.data.modality, part, exact) for part in (training, validation)
    )
    return build_references(run.recipe, training, training_NE, validation, validation_NE)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _manifest(
    trained: Trained, store: Store, evaluation: Evaluation, files: dict[str, bytes], *, name: str, version: str
) -> Manifest:
    run, result = trained.run, trained.result
    recipe = run.recipe
    measured = {
        key: Metric(value=metric.value, low=metric.low, high=metric.high, chance=metric.chance, num=metric.num)
        for key, metric in evaluation.metrics.items()
        if metric.value is not None
    }
    calibration_error = measured.get("calibration_error")
    return Manifest(
        name=name,
        version=version,
        created=datetime.now(UTC).replace(microsecond=0),
        method=" + ".join(dict.fromkeys(term.name for term in recipe.terms)),
        embedding_width=recipe.encoder.embedding_width,
        inputs=Inputs(
            modality=recipe.data.modality,
            channels=store.layout(recipe.data.modality).shape[0],
            volume_recipe=store.manifest.recipe,
            fingerprint=store.manifest.fingerprint,
        ),
        outcome=recipe.outcome,
        calibration=Calibration(
            temperature=result["progression_head"]["temperature"],
            num_pairs=result["progression_head"]["num_validation"],
            expected_calibration_error=calibration_error.value if calibration_error else None,
        ),
        metrics=measured,
        files={file_name: hashlib.sha256(data).hexdigest() for file_name, data in files.items()},
        tolerance=TOLERANCE,
        guarantees=(
            "exchanging the two scans exchanges P(improved) and P(declined) exactly",
            f"eager, TorchScript and torch.export outputs agree within {TOLERANCE:g} at batch sizes "
            f"{', '.join(map(str, BATCH_SIZES))}, checked at export",
            "metrics are of subjects that neither training nor calibration saw",
        ),
        intended_use=INTENDED_USE,
        limitations=(*evaluation.notes, *evaluation.caveats),
        training=TrainingRun(
            run_uri=run.location.uri,
            checkpoint=result["model_sha256"],
            recipe=recipe.model_dump(mode="json"),
            store_uri=store.location.uri,
            store_index_sha256=run.record["index_sha256"],
            num_subjects={part: len(run.split.of(part)) for part in SPLITS},
            git_revision=run.record["git_revision"],
            torch_version=torch.__version__,
        ),
    )
