"""What routes are given: the service behind the application, the caller's right to ask, and the scans of a request."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from starlette.datastructures import UploadFile

from app.auth import BEARER, check_key
from app.body import open_body
from app.errors import ProblemError
from app.gate import Gate
from app.inputs import PreparedScan, prepare, read_upload, read_uri
from app.registry import LoadedModel, Registry
from app.schemas import FieldFault, PairFields, ScanFields, UriPair, UriScan
from app.settings import Settings
from app.telemetry import Telemetry
from app.trajectory import MAX_VISITS, count_mismatch
from app.trajectory_schemas import TrajectoryFields, UriTrajectory
from preprocess.errors import UsageError

SCAN_PART = ("scan",)
PAIR_PARTS = ("earlier", "later")
VISIT_PARTS = ("scans",)


@dataclass(frozen=True, slots=True)
class Service:
    """What one application holds for its lifetime."""

    settings: Settings
    registry: Registry
    gate: Gate
    telemetry: Telemetry

    def prepare(self, source: UploadFile | str, model: LoadedModel, *, name: str) -> PreparedScan:
        """Read an upload or a URI and make it a volume for the model; errors as in `app.inputs`."""
        settings = self.settings
        if isinstance(source, str):
            data = read_uri(source, settings.allow_prefixes, name=name, max_bytes=settings.max_upload_bytes)
        else:
            data = read_upload(source, name=name, max_bytes=settings.max_upload_bytes)
        recipe = model.manifest.inputs.volume_recipe
        try:
            return prepare(data, recipe, name=name, max_voxels=settings.max_voxels)
        except UsageError as error:
            detail = f"{name}: this service reads no DICOM; send NIfTI, or ask the operator for interscan[dicom]"
            raise ProblemError(422, "decoder_missing", detail) from error


async def get_service(request: Request) -> Service:
    """The service that `create_app` put on the application."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


async def admit(
    request: Request,
    service: ServiceDep,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> None:
    """Let the caller in; before the body is read."""
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


async def read_scan(request: Request, service: ServiceDep) -> AsyncIterator[ScanRequest]:
    """The body of an embedding request; errors as in `open_body`."""
    max_bytes = service.settings.max_upload_bytes
    async with open_body(request, SCAN_PART, ScanFields, UriScan, max_bytes=max_bytes) as body:
        fields = body.fields
        yield ScanRequest(fields.uri if isinstance(fields, UriScan) else body.uploads["scan"][0], fields)


async def read_pair(request: Request, service: ServiceDep) -> AsyncIterator[PairRequest]:
    """The body of a progression request; errors as in `open_body`."""
    max_bytes = service.settings.max_upload_bytes
    async with open_body(request, PAIR_PARTS, PairFields, UriPair, max_bytes=max_bytes) as body:
        fields = body.fields
        if isinstance(fields, UriPair):
            yield PairRequest(fields.earlier_uri, fields.later_uri, fields)
        else:
            yield PairRequest(body.uploads["earlier"][0], body.uploads["later"][0], fields)


async def read_trajectory(request: Request, service: ServiceDep) -> AsyncIterator[TrajectoryRequest]:
    """The body of a trajectory request; errors as in `open_body`, and 422 for another number of days than of scans."""
    async with open_body(
        request,
        VISIT_PARTS,
        TrajectoryFields,
        UriTrajectory,
        max_bytes=service.settings.max_upload_bytes,
        repeated=(*VISIT_PARTS, "days"),
        max_repeats=MAX_VISITS,
    ) as body:
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
