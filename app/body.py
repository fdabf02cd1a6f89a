"""The two ways a request brings its scans, on one path: a multipart upload, or JSON with URIs."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.errors import ProblemError, invalid_fields, invalid_request, no_room, unknown_fields
from app.inputs import too_large
from app.intake import Intake
from app.schemas import FieldFault, ModelChoice

_MAX_TEXT_BYTES = 2**16
"""For a JSON body, for one text field, and for the boundaries and headers around uploads."""
_MAX_TEXT_FIELDS = 8

AnyFields = TypeVar("AnyFields", bound=ModelChoice)


@dataclass(frozen=True, slots=True)
class Body(Generic[AnyFields]):
    """What a request says.

    Attributes:
        fields: the text fields, or with JSON the whole object.
        uploads: by part name, in the order of the body; empty with JSON.
    """

    fields: AnyFields
    uploads: dict[str, list[UploadFile]] = field(default_factory=dict)


@asynccontextmanager
async def open_body(
    request: Request,
    parts: tuple[str, ...],
    fields: type[AnyFields],
    by_uri: type[AnyFields],
    *,
    intake: Intake,
    moved: Callable[[int], None] = lambda _: None,
    max_bytes: int,
    repeated: Collection[str] = (),
    max_repeats: int = 1,
) -> AsyncIterator[Body[AnyFields]]:
    """Read the body; uploads are spooled to unnamed temporary files, closed on leaving.

    Args:
        request: with its body still unread.
        parts: the uploads that must be there.
        fields: model of the text fields beside them.
        by_uri: model of the JSON object.
        intake: where the body finds a place, and how slow it may be.
        moved: told how many bytes of uploads have come, each time that some have.
        max_bytes: most bytes of one upload; the body may hold that many for each upload, and `read_upload` holds
            each upload to it.
        repeated: names of parts and text fields that may come several times; texts are joined with commas.
        max_repeats: how often.

    Raises:
        ProblemError: 400 broken multipart, 413 too large, 415 another content type, 422 wrong fields, 507 no room for
            temporary files; and as `Intake.place` and `Intake.chunks`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        with intake.place(_MAX_TEXT_BYTES):
            yield Body(_parse_json(by_uri, await _read_text(request, intake)))
    elif kind == "multipart/form-data":
        max_files = len(parts) * max_repeats
        most = max_files * max_bytes + _MAX_TEXT_BYTES
        promised = _promised(request)
        if promised is not None and promised > most:
            raise too_large("a scan", max_bytes)
        with intake.place(most if promised is None else promised):
            max_fields = _MAX_TEXT_FIELDS + max_repeats - 1
            stream = _counted(intake.chunks(request, moved), most, too_large("a scan", max_bytes))
            form = await _read_form(request, stream, max_files, max_fields)
            try:
                yield _sort_form(form, parts, fields, repeated)
            finally:
                await form.close()
    else:
        needed = ", ".join(name for name, entry in by_uri.model_fields.items() if entry.is_required())
        raise ProblemError(
            415,
            "unsupported_media_type",
            f"send multipart/form-data with the files {', '.join(parts)}, or application/json with {needed}",
        )


async def _read_form(
    request: Request, stream: AsyncGenerator[bytes, None], max_files: int, max_fields: int
) -> FormData:
    try:
        parser = MultiPartParser(
            request.headers, stream, max_files=max_files, max_fields=max_fields, max_part_size=_MAX_TEXT_BYTES
        )
        return await parser.parse()
    except MultiPartException as error:
        raise _bad_multipart(error.message) from error
    except LookupError as error:
        raise _bad_multipart("its charset is none that is known") from error
    except UnicodeError as error:
        raise _bad_multipart("a field is no text in its charset") from error
    except OSError as error:
        raise no_room(error) from error


def _bad_multipart(reason: str) -> ProblemError:
    return ProblemError(400, "bad_multipart", f"the body is not sound multipart/form-data: {reason}")


async def _read_text(request: Request, intake: Intake) -> bytes:
    refusal = ProblemError(413, "too_large", f"the JSON body is larger than {_MAX_TEXT_BYTES} bytes")
    promised = _promised(request)
    if promised is not None and promised > _MAX_TEXT_BYTES:
        raise refusal
    return b"".join([chunk async for chunk in _counted(intake.chunks(request), _MAX_TEXT_BYTES, refusal)])


def _promised(request: Request) -> int | None:
    promised = request.headers.get("content-length", "")
    return int(promised) if promised.isdecimal() else None


async def _counted(
    chunks: AsyncGenerator[bytes, None], max_bytes: int, refusal: ProblemError
) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    async for chunk in chunks:
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise refusal
        yield chunk


def _sort_form(
    form: FormData, parts: tuple[str, ...], fields: type[AnyFields], repeated: Collection[str]
) -> Body[AnyFields]:
    uploads: dict[str, list[UploadFile]] = {}
    texts: dict[str, str] = {}
    faults = []
    known = (*parts, *fields.model_fields)
    items = form.multi_items()
    for name, value in items:
        if name not in known:
            continue
        if (name in uploads or name in texts) and name not in repeated:
            faults.append(FieldFault(field=name, message="given twice"))
        elif isinstance(value, UploadFile) != (name in parts):
            faults.append(FieldFault(field=name, message="must be a file" if name in parts else "must be text"))
        elif isinstance(value, UploadFile):
            uploads.setdefault(name, []).append(value)
        elif value.strip():  # an empty field of a web form is one not given
            texts[name] = f"{texts[name]},{value.strip()}" if name in texts else value.strip()
    named = {name for name, _ in items}
    faults += [FieldFault(field=name, message="the file is missing") for name in parts if name not in named]
    faults += unknown_fields(len(named.difference(known)), known)
    if faults:
        raise invalid_fields(faults)
    try:
        return Body(fields.model_validate(texts), uploads)
    except ValidationError as error:
        raise invalid_request(error, known) from error


def _parse_json(model: type[AnyFields], text: bytes) -> AnyFields:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise invalid_request(error, model.model_fields) from error
