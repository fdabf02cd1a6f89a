"""GET /livez, /readyz and /metrics, for whoever watches the service; open, since they name no scan.

Only /metrics is locked where the operator sets `lock_pages`: probes of orchestrators carry no key.
"""

import torch
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.dependencies import ServiceDep, admit_to_pages
from app.model_schemas import Live, Readiness
from app.openapi import problem_responses

router = APIRouter(tags=["health"])


@router.get("/livez", summary="Is the process alive?", responses=problem_responses(500))
async def livez() -> Live:
    """Answers as long as the process does."""
    return Live()


@router.get(
    "/readyz",
    summary="Are all models loaded and checked?",
    response_model=Readiness,
    responses={
        503: {"model": Readiness, "description": "Not yet, or one failed; each artefact says why."},
        **problem_responses(500),
    },
)
async def readyz(service: ServiceDep) -> JSONResponse:
    """Ready once scans can be decoded and every artefact has passed its digests, references and golden values."""
    is_ready = service.is_ready
    readiness = Readiness(
        status="ready" if is_ready else "not_ready",
        artefacts=service.registry.statuses,
        decoders="ready" if service.decoders.is_ready else "starting",
        threads=torch.get_num_threads(),
    )
    return JSONResponse(readiness.model_dump(mode="json", exclude_none=True), status_code=200 if is_ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    dependencies=[Depends(admit_to_pages)],
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format."},
        **problem_responses(401, 403, 500),
    },
)
async def metrics(service: ServiceDep) -> Response:
    """Requests, times, models; no names of files or people."""
    return Response(service.telemetry.render(), media_type=CONTENT_TYPE_LATEST)
