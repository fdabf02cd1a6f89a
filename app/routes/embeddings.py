"""POST /v1/embeddings: one scan in, its embedding out."""

from fastapi import APIRouter, Depends, Request

from app.answers import answer_embedding
from app.dependencies import ScanDep, ServiceDep, admit
from app.openapi import problem_responses, request_body
from app.schemas import EmbeddingAnswer, ScanFields, UriScan

router = APIRouter(prefix="/v1", tags=["answers"], dependencies=[Depends(admit)])

_BODY = request_body({"scan": "A NIfTI file, .nii or .nii.gz, or a zip of one DICOM series."}, ScanFields, UriScan)


@router.post(
    "/embeddings",
    summary="Embed one scan",
    responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 504, 507),
    openapi_extra={"requestBody": _BODY},
)
async def embed_scan(request: Request, asked: ScanDep, service: ServiceDep) -> EmbeddingAnswer:
    """Preprocess a scan exactly as the training data were, and embed it.

    Send the file as multipart part `scan`, or `{"uri": ...}` as JSON. Compare embeddings only where model, version and
    fingerprint are equal. A model of kind severity tells how far the scan lies from normal too.
    """
    model = service.registry.choose(asked.fields.model, asked.fields.version)
    return await service.answer(request, {"scan": asked.scan}, model, lambda scans: answer_embedding(model, *scans))
