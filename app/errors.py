"""Every error as RFC 9457 `application/problem+json`, with a stable code and without traceback, path or header text."""

import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.schemas import FieldFault, FindingModel, Problem
from preprocess.console import LOG
from preprocess.errors import ScanError
from preprocess.system_errors import describe

PROBLEM_JSON = "application/problem+json"
_ROOM_RETRY_S = 60
_CODES = {401: "unauthorised", 404: "no_such_path", 405: "method_not_allowed"}


class ProblemError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status.
        code: short stable name.
        detail: one sentence for a person, with the remedy.
        headers: response headers, for example Retry-After.
        faults: the fields of the request that are wrong.
        findings: what is wrong with a scan.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        faults: tuple[FieldFault, ...] = (),
        findings: tuple[FindingModel, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.faults = faults
        self.findings = findings


def invalid_request(error: ValidationError, known: Collection[str]) -> ProblemError:
    """Which fields of a request are wrong, without repeating what they held, or what unknown ones are called.

    Args:
        error: what the model of the request said.
        known: names of all fields that the request may have.
    """
    found = error.errors(include_input=False, include_url=False)
    faults = [(fault["loc"], fault["msg"]) for fault in found if fault["type"] != "extra_forbidden"]
    num_unknown = len(found) - len(faults)
    return invalid_fields([*_named(faults), *unknown_fields(num_unknown, known)])


def invalid_fields(faults: Sequence[FieldFault]) -> ProblemError:
    """The answer to a request with wrong fields."""
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return ProblemError(422, "invalid_request", detail, faults=tuple(faults))


def unknown_fields(count: int, known: Collection[str]) -> tuple[FieldFault, ...]:
    """What is said of fields that nobody knows: never their names, which anybody may fill with anything.

    Args:
        count: how many there are; nothing is said of 0.
        known: names of all fields that there may be.
    """
    if not count:
        return ()
    several = "1 field is not known" if count == 1 else f"{count} fields are not known"
    return (FieldFault(field="body", message=f"{several}; the known ones are {', '.join(sorted(known))}"),)


def no_room(error: OSError) -> ProblemError:
    """The answer where a scan could not be kept while it is worked on."""
    LOG.error("a scan could not be kept: %s", describe(error))
    detail = "the service has no room for a scan now; try again later, or tell its operator"
    return ProblemError(507, "no_room", detail, headers={"Retry-After": str(_ROOM_RETRY_S)})


def install_handlers(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(ScanError, _on_scan)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_crash)


def _answer(request: Request, error: ProblemError) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    problem = Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        code=error.code,
        detail=error.detail,
        request_id=request_id,
        errors=list(error.faults) or None,
        findings=list(error.findings) or None,
    )
    headers = {**error.headers, "X-Request-ID": request_id} if request_id else error.headers
    content = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status_code=error.status, headers=headers, media_type=PROBLEM_JSON)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return _answer(request, error)


async def _on_scan(request: Request, error: Exception) -> Response:
    assert isinstance(error, ScanError)
    finding = FindingModel.of(error.finding)
    return _answer(request, ProblemError(422, finding.code, finding.message, findings=(finding,)))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, invalid_fields(_named((fault["loc"], fault["msg"]) for fault in error.errors())))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "refused")
    detail = {
        404: "there is nothing at this path; see /docs for what there is",
        405: f"this path does not take {request.method}; see the Allow header",
    }.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return _answer(request, ProblemError(error.status_code, code, detail, headers=headers))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientDisconnect)
    return _answer(request, ProblemError(400, "disconnected", "the connection closed before the whole body arrived"))


async def _on_crash(request: Request, error: Exception) -> Response:
    request_id = getattr(request.state, "request_id", "")
    # The error's own text is left out of the log: it could quote a scan's header.
    frames = traceback.extract_tb(error.__traceback__)
    stack = "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    LOG.error("request %s failed: %s\n%s", request_id, type(error).__qualname__, stack)
    detail = "the service failed; give the operator this request id"
    return _answer(request, ProblemError(500, "internal", detail))


def _named(faults: Iterable[tuple[tuple[int | str, ...], str]]) -> list[FieldFault]:
    return [
        FieldFault(field=".".join(map(str, field)) or "body", message=message.removeprefix("Value error, "))
        for field, message in faults
    ]
