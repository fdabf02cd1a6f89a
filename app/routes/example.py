"""GET /v1/example: scans of a synthetic person, to try the service with."""

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from app.dependencies import admit
from app.example import Example, VisitName, example, example_file
from app.openapi import problem_responses
from app.routes.views import GZIP

router = APIRouter(prefix="/v1", tags=["example"], dependencies=[Depends(admit)])


@router.get("/example", summary="Describe the bundled example", responses=problem_responses(401, 403, 500))
async def describe_example() -> Example:
    """Three visits of one generated head, whose days and age go with /v1/progression and /v1/trajectories."""
    return example()


@router.get(
    "/example/{visit}",
    summary="Get a scan of the bundled example",
    response_class=FileResponse,
    responses={
        200: {
            "description": "A NIfTI file, .nii.gz.",
            "content": {GZIP: {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses(401, 403, 422, 500),
    },
)
async def get_example(visit: VisitName) -> FileResponse:
    """One scan; the earlier and the later one make a pair, all three a trajectory."""
    return FileResponse(example_file(visit), media_type=GZIP, filename=f"example_{visit}.nii.gz")
