"""POST /v1/trajectories: two to sixteen visits of one person in, change a year out."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request

from app.dependencies import ServiceDep, TrajectoryDep, admit
from app.errors import ProblemError
from app.inputs import PreparedScan
from app.openapi import problem_responses, request_body
from app.trajectory_answer import answer_trajectory
from app.trajectory_schemas import MAX_VISITS, MIN_VISITS, TrajectoryAnswer, TrajectoryFields, UriTrajectory
from preprocess.errors import ArtefactError

router = APIRouter(prefix="/v1", tags=["answers"], dependencies=[Depends(admit)])

_BODY = request_body(
    {"scans": "One scan a visit, of one person and modality: NIfTI, or zips of one DICOM series, one part each."},
    TrajectoryFields,
    UriTrajectory,
    several=(MIN_VISITS, MAX_VISITS),
)


@router.post(
    "/trajectories",
    summary="Tell how one person changes over several visits",
    responses=problem_responses(400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 504, 507),
    openapi_extra={"requestBody": _BODY},
)
async def tell_trajectory(request: Request, asked: TrajectoryDep, service: ServiceDep) -> TrajectoryAnswer:
    """Fit a line through the visits of one person: change a year with its interval and noise floor, and a decision.

    Send the files as multipart parts `scans` with as many `days`, or `{"uris": [...], "days": [...]}` as JSON. Days are
    offsets from any one day, never dates, and may come in any order with their scans. Read `decision`, as for a pair;
    `steps` has the answers for neighbouring visits. With `age` the change a year is placed among people of that age.
    """
    fields = asked.fields
    model = service.registry.choose(fields.model, fields.version)
    try:
        model.require_trajectory(f"model {model.manifest.name}")
    except ArtefactError as error:
        raise ProblemError(422, "wrong_kind", str(error)) from error

    def finish(scans: Sequence[PreparedScan]) -> TrajectoryAnswer:
        return answer_trajectory(model, scans, fields.days, age=fields.age, accept_unproven=fields.accept_unproven)

    named = {f"scan {position}": scan for position, scan in enumerate(asked.scans, start=1)}
    return await service.answer(request, named, model, finish)
