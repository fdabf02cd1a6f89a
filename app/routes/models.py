"""GET /v1/models: what can answer here, and how well it was measured to."""

from fastapi import APIRouter, Depends

from app.dependencies import ServiceDep, admit
from app.model_schemas import ModelList, ModelSummary
from app.openapi import problem_responses
from app.registry import LoadedModel

router = APIRouter(prefix="/v1", tags=["models"], dependencies=[Depends(admit)])


@router.get("/models", summary="List the models", responses=problem_responses(401, 403, 500))
async def list_models(service: ServiceDep) -> ModelList:
    """All models that passed their checks; the default is the one used when a request names none."""
    default = service.registry.default
    return ModelList(models=[summarise(model, is_default=model is default) for model in service.registry.models])


def summarise(model: LoadedModel, *, is_default: bool) -> ModelSummary:
    """The parts of a manifest that a caller needs."""
    manifest = model.manifest
    recipe = manifest.inputs.volume_recipe
    return ModelSummary(
        name=manifest.name,
        version=manifest.version,
        is_default=is_default,
        kind=manifest.kind,
        created=manifest.created,
        method=manifest.method,
        modality=manifest.inputs.modality,
        grid=recipe.grid,
        spacing_mm=recipe.spacing_mm,
        fingerprint=manifest.inputs.fingerprint,
        embedding_width=manifest.embedding_width,
        outcome=manifest.outcome,
        metrics=manifest.metrics,
        guarantees=manifest.guarantees,
        intended_use=manifest.intended_use,
        limitations=manifest.limitations,
        num_references=len(model.references.scores_N),
        num_noise_pairs=model.references.noise_distances_P.size,
    )
