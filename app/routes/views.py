"""POST /v1/volumes and /v1/progression/map: what the model sees of a scan, and where it tells a change, as images."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from app.dependencies import PairDep, ScanDep, ServiceDep, admit
from app.errors import ProblemError
from app.grid_image import map_nifti, volume_nifti
from app.inputs import PreparedScan
from app.openapi import Json, problem_responses, request_body
from app.schemas import PairFields, ScanFields, UriPair, UriScan
from preprocess.errors import ArtefactError

router = APIRouter(prefix="/v1", tags=["images"], dependencies=[Depends(admit)])

GZIP = "application/gzip"
_SCAN = request_body({"scan": "A NIfTI file, .nii or .nii.gz, or a zip of one DICOM series."}, ScanFields, UriScan)
_PAIR = request_body(
    {"earlier": "The scan acquired first.", "later": "The scan acquired second, of the same person and modality."},
    PairFields,
    UriPair,
)


def _image(description: str) -> dict[int | str, Json]:
    content = {GZIP: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": description, "content": content},
        **problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 504, 507),
    }


@router.post(
    "/volumes",
    summary="See a scan as the model sees it",
    response_class=Response,
    responses=_image("A NIfTI file, .nii.gz, in the model's grid."),
    openapi_extra={"requestBody": _SCAN},
)
async def see_volume(request: Request, asked: ScanDep, service: ServiceDep) -> Response:
    """Preprocess a scan exactly as for an answer, and give it back as a NIfTI image in the model's grid.

    Its frame is RAS+ millimetres from the middle of the grid, not the scanner's: heads are centred in it, so two scans
    and the map of their change lie over another.
    """
    model = service.registry.choose(asked.fields.model, asked.fields.version)
    recipe = model.manifest.inputs.volume_recipe

    def finish(scans: Sequence[PreparedScan]) -> bytes:
        return volume_nifti(scans[0], recipe)

    return Response(await service.answer(request, {"scan": asked.scan}, model, finish), media_type=GZIP)


@router.post(
    "/progression/map",
    summary="See where a change is told",
    response_class=Response,
    responses=_image("A NIfTI file, .nii.gz: points of the score per cm3, in the model's grid."),
    openapi_extra={"requestBody": _PAIR},
)
async def map_progression(request: Request, pair: PairDep, service: ServiceDep) -> Response:
    """Share the told change of a pair out over the voxels, in the frame of /v1/volumes.

    Takes what /v1/progression takes. Positive values speak for improvement. It maps what the model told, right or
    wrong; it is no image of atrophy. 422 `no_map` where the model tells no change in points.
    """
    model = service.registry.choose(pair.fields.model, pair.fields.version)
    name = f"model {model.manifest.name}"
    try:
        model.require_progression(name, "a map of the change")
        model.require_points(name)
    except ArtefactError as error:
        raise ProblemError(422, "no_map", str(error)) from error

    def finish(scans: Sequence[PreparedScan]) -> bytes:
        return map_nifti(model, *scans)

    found = await service.answer(request, {"earlier": pair.earlier, "later": pair.later}, model, finish)
    return Response(found, media_type=GZIP)
