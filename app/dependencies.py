"""What routes are given: the service behind the application, the caller's right to ask, and the scans of a request."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from starlette.datastructures import UploadFile

from app.auth import BEARER, check_key
from app.body import AnyFields, Body, open_body
from app.errors import ProblemError
from app.schemas import FieldFault, PairFields, ScanFields, UriPair, UriScan
from app.service import Service
from app.trajectory_schemas import MAX_VISITS, TrajectoryFields, UriTrajectory, count_mismatch

SCAN_PART = ("scan",)
PAIR_PARTS = ("earlier", "later")
VISIT_PARTS = ("scans",)


async def get_service(request: Request) -> Service:
    """The service that `create_app` put on the application."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


async def admit(
    request: Request,
    service: ServiceDep,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> None:
    """Let the caller in."""
    check_key(request, service.settings)


async def admit_to_pages(request: Request, service: ServiceDep) -> None:
    """Let the caller see a page that is open unless `lock_pages` is set."""
    if service.settings.lock_pages:
        check_key(request, service.settings)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """One scan and the model requested for it."""

    scan: UploadFile | str
    fields: ScanFields


@dataclass(frozen=True, slots=True)
class PairRequest:
    """Two scans and the model requested for it."""

    earlier: UploadFile | str
    later: UploadFile | str
    fields: PairFields


@dataclass(frozen=True, slots=True)
class TrajectoryRequest:
    """The scans of one person, as many as days, and the model requested for them."""

    scans: tuple[UploadFile | str, ...]
    fields: TrajectoryFields


@asynccontextmanager
async def _open(
    request: Request,
    service: Service,
    parts: tuple[str, ...],
    fields: type[AnyFields],
    by_uri: type[AnyFields],
    repeated: Collection[str] = (),
    max_repeats: int = 1,
) -> AsyncIterator[Body[AnyFields]]:
    """Open the body of a request that could be worked on now; none of it is read where there is no place."""
    async with AsyncExitStack() as held:
        with request.state.stages.stage("reading"), service.gate.coming() as coming:
            opened = open_body(
                request,
                parts,
                fields,
                by_uri,
                intake=service.intake,
                moved=coming.moved,
                max_bytes=service.settings.max_upload_bytes,
                repeated=repeated,
                max_repeats=max_repeats,
            )
            body = await held.enter_async_context(opened)
        yield body


async def read_scan(request: Request, service: ServiceDep) -> AsyncIterator[ScanRequest]:
    """The body of an embedding request; errors as in `open_body`."""
    async with _open(request, service, SCAN_PART, ScanFields, UriScan) as body:
        fields = body.fields
        yield ScanRequest(fields.uri if isinstance(fields, UriScan) else body.uploads["scan"][0], fields)


async def read_pair(request: Request, service: ServiceDep) -> AsyncIterator[PairRequest]:
    """The body of a progression request; errors as in `open_body`."""
    async with _open(request, service, PAIR_PARTS, PairFields, UriPair) as body:
        fields = body.fields
        if isinstance(fields, UriPair):
            yield PairRequest(fields.earlier_uri, fields.later_uri, fields)
        else:
            yield PairRequest(body.uploads["earlier"][0], body.uploads["later"][0], fields)


async def read_trajectory(request: Request, service: ServiceDep) -> AsyncIterator[TrajectoryRequest]:
    """The body of a trajectory request; errors as in `open_body`, and 422 for another number of days than of scans."""
    repeated = (*VISIT_PARTS, "days")
    opened = _open(request, service, VISIT_PARTS, TrajectoryFields, UriTrajectory, repeated, MAX_VISITS)
    async with opened as body:
        fields = body.fields
        scans = fields.uris if isinstance(fields, UriTrajectory) else body.uploads["scans"]
        if len(scans) != len(fields.days):
            message = count_mismatch(len(scans), len(fields.days))
            fault = FieldFault(field="days", message=message)
            raise ProblemError(422, "invalid_request", f"days: {message}", faults=(fault,))
        yield TrajectoryRequest(tuple(scans), fields)


ScanDep = Annotated[ScanRequest, Depends(read_scan)]
PairDep = Annotated[PairRequest, Depends(read_pair)]
TrajectoryDep = Annotated[TrajectoryRequest, Depends(read_trajectory)]
