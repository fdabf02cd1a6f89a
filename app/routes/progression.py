"""POST /v1/progression: two scans of one person in, what changed out."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request

from app.answers import answer_progression
from app.dependencies import PairDep, ServiceDep, admit
from app.errors import ProblemError
from app.inputs import PreparedScan
from app.openapi import problem_responses, request_body
from app.schemas import PairFields, ProgressionAnswer, UriPair

router = APIRouter(prefix="/v1", tags=["answers"], dependencies=[Depends(admit)])

_BODY = request_body(
    {
        "earlier": "The scan acquired first: NIfTI, .nii or .nii.gz, or a zip of one DICOM series.",
        "later": "The scan acquired second, of the same person and modality.",
    },
    PairFields,
    UriPair,
)


@router.post(
    "/progression",
    summary="Tell what changed between two scans",
    responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 504, 507),
    openapi_extra={"requestBody": _BODY},
)
async def tell_progression(request: Request, pair: PairDep, service: ServiceDep) -> ProgressionAnswer:
    """Compare two scans of one person: improved, stable, declined or undecided, and what is needed to judge the answer.

    Send the files as multipart parts `earlier` and `later`, or `{"earlier_uri": ..., "later_uri": ...}` as JSON.
    Exchanging the scans exchanges the probabilities of improved and declined. Read `decision`; `reasons` says as codes
    what it rests on or is kept from by, and `caution` says the same in words. `progression` is the most probable class
    even where the decision is undecided.
    """
    fields = pair.fields
    model = service.registry.choose(fields.model, fields.version)
    if model.manifest.kind != "progression":
        raise ProblemError(
            422,
            "wrong_kind",
            f"model {model.manifest.name} is of kind {model.manifest.kind} and compares no pairs; ask /v1/embeddings "
            "for each scan, or name a model of kind progression",
        )

    def finish(scans: Sequence[PreparedScan]) -> ProgressionAnswer:
        return answer_progression(model, *scans, gap_days=fields.gap_days, accept_unproven=fields.accept_unproven)

    return await service.answer(request, {"earlier": pair.earlier, "later": pair.later}, model, finish)
