"""Exports a finished run as an artefact folder; manifest.json is written last, and without it there is none."""

import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError

from preprocess.console import LOG
from preprocess.errors import ArtefactError, RunError
from preprocess.lease import ARTEFACT, held
from preprocess.manifest import (
    GOLDEN_NAME,
    MANIFEST_NAME,
    REFERENCES_NAME,
    Anchor,
    ArtefactKind,
    Calibration,
    Decision,
    Flagged,
    Guarantee,
    Inputs,
    Manifest,
    TrainingRun,
)
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import to_stored, unit_scale
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.splits import SPLITS
from trainer.evaluate.checks import fit_answer_checks, has_checks
from trainer.evaluate.run import METRICS_NAME
from trainer.evaluate.tasks import Embedded, normal_score
from trainer.export.decision import decision_part, decision_references
from trainer.export.description import describe_controls, describe_data, describe_metric
from trainer.export.embedding import EMBEDDING_LIMITS, EMBEDDING_USE, EmbeddingModel, embedding_golden
from trainer.export.guarantees import measure_guarantees
from trainer.export.programs import BATCH_SIZES, TOLERANCE, export_programs
from trainer.export.references import age_references, build_references
from trainer.export.severity import (
    describe_anchor,
    severity_golden,
    severity_model,
    severity_references,
)
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.trained import PairModel, Trained, load_trained
from trainer.metrics.evaluation import Evaluation
from trainer.metrics.flags import seldom_flagged
from trainer.metrics.severity import normal_indices

INTENDED_USE = (
    "Research on change between repeated scans of one person, of the modality and preprocessing named under inputs. "
    "Not a medical device; no basis for a diagnosis or a treatment."
)
SEVERITY_USE = (
    "Research on how far a scan lies from normal ones, of the modality and preprocessing named under inputs. "
    "Not a medical device; no basis for a diagnosis or a treatment."
)
SEVERITY_LIMITS = (
    "Distance from normal tells how far, never which disease: two diseases of equal severity lie equally far.",
    "Whatever sets the normal scans apart, such as a camera or a site, is part of the distance.",
)
AXES: dict[str, Literal["RAS", "CHW", "TCHW"]] = {"volume": "RAS", "image": "CHW", "clip": "TCHW"}


@dataclass(frozen=True)
class _Content:
    """What depends on the kind of artefact."""

    kind: ArtefactKind
    model: PairModel | EmbeddingModel
    golden: dict[str, np.ndarray]
    references: dict[str, np.ndarray]
    guarantee: str
    intended_use: str
    calibration: Calibration | None = None
    anchor: Anchor | None = None
    measured: tuple[Guarantee, ...] = ()
    decision: Decision | None = None
    limits: tuple[str, ...] = ()


def export_run(
    run: Run, artefact: Location, *, name: str | None = None, version: str = "1", store_uri: str | None = None
) -> Manifest:
    """Write a run's artefact: of kind progression or severity, where the recipe's task is, else of kind embedding.

    A run of progression without a head, as one without scores, is exported as an embedding too, and a line says so.

    Args:
        run: finished and evaluated.
        artefact: folder to write; must not hold an artefact yet.
        name: the model's name; the recipe's name when not given.
        version: the model's version.
        store_uri: where the run's store is now, if it was moved.

    Raises:
        RunError: the run is not finished or not evaluated, or has no normal scan.
        ArtefactError: an artefact is there already, another process writes one there, the run is of several modalities
            or of arrays, an exact guarantee breaks, or an exported program differs from the model.
        StoreError: the store is another one.
    """
    _refuse_other_inputs(run)
    with held(artefact, ARTEFACT) as leased:
        if leased.exists(MANIFEST_NAME):
            raise ArtefactError(
                f"{artefact.uri}: holds an artefact already; artefacts never change, choose another folder"
            )
        return _export(run, leased, name, version, store_uri)


def _export(run: Run, artefact: Location, name: str | None, version: str, store_uri: str | None) -> Manifest:
    evaluation = _read_evaluation(run)
    store = run.open_store(store_uri)
    kind = store.manifest.recipe.kind_of(run.recipe.data.modality)
    if kind not in AXES:
        raise ArtefactError(
            f"{run.location.uri}: {run.recipe.data.modality} is of kind {kind}, which no artefact takes"
        )
    trained = load_trained(run, store)
    content = _content(trained, store, evaluation)
    files = {
        **export_programs(content.model, store.layout(run.recipe.data.modality).shape).files,
        GOLDEN_NAME: _npz(content.golden),
        REFERENCES_NAME: _npz(content.references),
    }
    manifest = _manifest(trained, store, evaluation, content, files, name=name or run.recipe.name, version=version)
    # The manifest last: it has the digests of all others, and a folder without it is no artefact.
    for file_name, data in files.items():
        artefact.write(file_name, data)
    artefact.write(MANIFEST_NAME, manifest.model_dump_json(indent=2).encode())
    return manifest


def _content(trained: Trained, store: Store, evaluation: Evaluation) -> _Content:
    run, task = trained.run, trained.run.recipe.task
    if task == "severity":
        return _severity(trained, store)
    if task == "progression" and trained.head is not None:
        return _progression(trained, store, evaluation)
    why = f"its task is {task}" if task != "progression" else "it has no progression head"
    LOG.warning("%s: %s, so it is exported as an embedding: it embeds scans and compares none", run.location.uri, why)
    return _embedding(trained, store)


def _refuse_other_inputs(run: Run) -> None:
    if run.recipe.data.modalities:
        raise ArtefactError(
            f"{run.location.uri}: the run is of {len(run.recipe.data.modalities)} modalities "
            f"({', '.join(run.recipe.data.modalities)}), and an artefact takes one scan; export a run of one modality"
        )


def _read_evaluation(run: Run) -> Evaluation:
    try:
        return Evaluation.model_validate_json(run.location.read(METRICS_NAME))
    except (FileNotFoundError, ValidationError) as error:
        found = "not evaluated" if isinstance(error, FileNotFoundError) else "evaluated by another version"
        raise RunError(
            f"{run.location.uri}: {found}, and an artefact states its held-out figures; run interscan evaluate first"
        ) from error


def _progression(trained: Trained, store: Store, evaluation: Evaluation) -> _Content:
    model, recipe = trained.pair_model(), trained.run.recipe
    # First, since a model that breaks an exact guarantee is not worth the rest.
    cohort = read_cohort(store, recipe.data.modality, recipe.outcome.name)
    measured = measure_guarantees(trained, store, cohort)
    training, training_NE, validation, validation_NE = _embedded_parts(trained, store, cohort)
    head = trained.result.progression_head
    assert head is not None
    references = build_references(recipe, training, training_NE, validation, validation_NE)
    decision = decision_part(head, recipe.outcome)
    limits: tuple[str, ...] = ()
    if decision is not None:
        references |= decision_references(trained) | age_references(store, training, recipe.outcome)
    if decision is not None and has_checks(trained, store):
        checks = fit_answer_checks(
            trained.encoder,
            store,
            recipe.data.modality,
            training=Embedded(training, training_NE),
            validation=Embedded(validation, validation_NE),
            seed=recipe.seed,
        )
        if checks is not None:
            flagged = _require_flagged(trained.run, evaluation)
            decision = decision.model_copy(update={"checks": checks.checks, "flagged": flagged})
            limits = seldom_flagged(flagged)
            references |= checks.arrays()
    error = evaluation.metrics.get("calibration_error")
    return _Content(
        kind="progression",
        model=model,
        golden=_golden(model, store.layout(recipe.data.modality).shape, store.manifest.recipe.dtype),
        references=references,
        guarantee="exchanging the two scans exchanges P(improved) and P(declined) exactly",
        intended_use=INTENDED_USE,
        calibration=Calibration(
            temperature=head.temperature,
            num_pairs=head.num_validation,
            expected_calibration_error=error.value if error else None,
        ),
        decision=decision,
        limits=limits,
        measured=measured,
    )


def _require_flagged(run: Run, evaluation: Evaluation) -> dict[str, Flagged]:
    if not evaluation.flagged:
        raise RunError(
            f"{run.location.uri}: evaluated by a version that did not measure which spoilt scans are flagged; run "
            "interscan evaluate again"
        )
    return evaluation.flagged


def _severity(trained: Trained, store: Store) -> _Content:
    recipe, where = trained.run.recipe, trained.run.location.uri
    modality, normal = recipe.data.modality, normal_score(trained.run.recipe)
    cohort = read_cohort(store, modality, recipe.outcome.name)
    training, training_NE, validation, validation_NE = _embedded_parts(trained, store, cohort)
    indices_K = normal_indices(training.scores_N, normal)
    model = severity_model(trained.encoder, training_NE[indices_K], where=where)
    anchor = describe_anchor(training, indices_K, normal)
    own = severity_references(model, training, indices_K, training_NE, validation, validation_NE)
    return _Content(
        kind="severity",
        model=model,
        golden=severity_golden(model, store.layout(modality).shape, store.manifest.recipe.dtype_of(modality)),
        references=build_references(recipe, training, training_NE, validation, validation_NE) | own,
        guarantee=f"severity is the cosine distance, 0 to 2, of the embedding from the mean of all {anchor.num_scans} "
        "normal training scans, which is the distance that the metrics were measured on",
        intended_use=SEVERITY_USE,
        anchor=anchor,
        limits=SEVERITY_LIMITS,
    )


def _embedding(trained: Trained, store: Store) -> _Content:
    recipe, modality = trained.run.recipe, trained.run.recipe.data.modality
    cohort = read_cohort(store, modality, recipe.outcome.name)
    model = EmbeddingModel(trained.encoder).eval()
    return _Content(
        kind="embedding",
        model=model,
        golden=embedding_golden(model, store.layout(modality).shape, store.manifest.recipe.dtype_of(modality)),
        references=build_references(recipe, *_embedded_parts(trained, store, cohort)),
        guarantee="embeddings are those that the metrics were measured on",
        intended_use=EMBEDDING_USE,
        limits=EMBEDDING_LIMITS,
    )


def _embedded_parts(trained: Trained, store: Store, cohort: Cohort) -> tuple[Cohort, np.ndarray, Cohort, np.ndarray]:
    """Training scans, their embeddings, validation scans, their embeddings."""
    run, modality = trained.run, trained.run.recipe.data.modality
    exact = Compute(torch.device("cpu"), torch.float32)
    training, validation = (cohort.of_subjects(run.split.of(part)) for part in ("train", "validation"))
    training_NE, validation_NE = (
        embed_cohort(trained.encoder, store, (modality,), part, exact) for part in (training, validation)
    )
    return training, training_NE, validation, validation_NE


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


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _manifest(
    trained: Trained,
    store: Store,
    evaluation: Evaluation,
    content: _Content,
    files: dict[str, bytes],
    *,
    name: str,
    version: str,
) -> Manifest:
    run, result = trained.run, trained.result
    recipe = run.recipe
    metrics = {key: describe_metric(metric) for key, metric in evaluation.metrics.items()}
    kind = store.manifest.recipe.kind_of(recipe.data.modality)
    shape = store.layout(recipe.data.modality).shape
    return Manifest(
        kind=content.kind,
        name=name,
        version=version,
        created=datetime.now(UTC).replace(microsecond=0),
        method=" + ".join(dict.fromkeys(term.name for term in recipe.terms)),
        embedding_width=trained.encoder.width_joined(),
        inputs=Inputs(
            modality=recipe.data.modality,
            channels=shape[1 if kind == "clip" else 0],
            axes=AXES[kind],
            volume_recipe=store.manifest.recipe,
            fingerprint=store.manifest.fingerprint,
        ),
        outcome=recipe.outcome,
        calibration=content.calibration,
        anchor=content.anchor,
        decision=content.decision,
        metrics={key: metric for key, metric in metrics.items() if metric is not None},
        files={file_name: hashlib.sha256(data).hexdigest() for file_name, data in files.items()},
        tolerance=TOLERANCE,
        guarantees=(
            content.guarantee,
            f"eager, TorchScript and torch.export outputs agree within {TOLERANCE:g} at batch sizes "
            f"{', '.join(map(str, BATCH_SIZES))}, checked at export",
            "metrics are of subjects that neither training nor validation saw",
        ),
        measured=content.measured,
        controls=describe_controls(evaluation),
        data=describe_data(store, recipe.data.modality),
        intended_use=content.intended_use,
        limitations=(*content.limits, *evaluation.notes, *evaluation.caveats),
        training=TrainingRun(
            run_uri=run.location.uri,
            checkpoint=result.model_sha256,
            recipe=recipe.model_dump(mode="json"),
            store_uri=store.location.uri,
            store_index_sha256=run.record.index_sha256,
            num_subjects={part: len(run.split.of(part)) for part in SPLITS},
            git_revision=run.record.git_revision,
            torch_version=torch.__version__,
        ),
    )
