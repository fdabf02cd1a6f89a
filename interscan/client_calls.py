"""One call of the service: its time, its repeats, and every way in which it can fail as one typed error.

A call is repeated only where the service asks for it: status 503 or 429 with Retry-After, while there is time. Nothing
else is, since nobody knows then whether the service is at work on the first request still.
"""

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from interscan.extras import naming_extras
from preprocess.errors import InterscanError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from app.schemas import FindingModel
    from interscan.client_scans import Body

AnyModel = TypeVar("AnyModel", bound="BaseModel")

_MAX_ANSWER_BYTES = 2**26
"""64 MiB; the longest answers have some hundred kB."""
_REPEATED = (429, 503)
_MIN_WAIT_S = 0.5
"""Before a repeat, also where Retry-After is 0 or a moment that has passed."""
_PROBLEM_JSON = "application/problem+json"


class ServiceError(InterscanError):
    """A request that the service refused, or an answer that did not come.

    As text it is one line: `detail`, then status, code and request id.

    Args:
        status: HTTP status; None where no answer came.
        code: short stable name: the service's own, such as `not_nifti`, `unauthorised` or `busy`, or one of the
            client's: `unreachable`, `no_answer`, `too_slow`, `redirected`, `foreign_answer`.
        detail: one sentence for a person, with the remedy.
        request_id: as in the service's log; all repeats of a call have the same.
        retry_after_s: seconds after which the service asked to be tried again; None where it did not.
        findings: what is wrong with a scan.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        detail: str,
        request_id: str,
        retry_after_s: float | None = None,
        findings: "tuple[FindingModel, ...]" = (),
    ) -> None:
        # All arguments, so that the error can be pickled: it may be raised in a worker process.
        super().__init__(status, code, detail, request_id, retry_after_s, findings)
        self.status = status
        self.code = code
        self.detail = " ".join(detail.split())
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.findings = findings

    def __str__(self) -> str:
        status = "" if self.status is None else f"{self.status} "
        return f"{self.detail} ({status}{self.code}, request {self.request_id})"


class OutOfTimeError(Exception):
    """The time of a call is over."""


class Deadline:
    """The end of a call.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least a thousandth: httpx takes 0 for no time at all, not for none left."""
        return max(0.001, self._end - monotonic())

    def check(self) -> None:
        """Go on while there is time.

        Raises:
            OutOfTimeError: there is none left.
        """
        if monotonic() >= self._end:
            raise OutOfTimeError


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, of whatever status.

    Attributes:
        kind: media type, in small letters.
        retry_after_s: seconds; None where the header is not there or not readable.
        location: where a redirect leads; empty for none.
    """

    status: int
    kind: str
    content: bytes
    request_id: str
    retry_after_s: float | None = None
    location: str = ""


class Caller:
    """Sends requests to one service; may be shared by threads.

    Args:
        base_url: address of the service, with the prefix of a proxy where there is one.
        key: bearer key; None for a service without keys.
        timeout_s: for one call with its uploads and repeats, seconds.

    Raises:
        UsageError: an address, key or time that cannot be used, or the extra `client` is missing.
    """

    def __init__(self, base_url: str, key: str | None, timeout_s: float) -> None:
        with naming_extras("Client"):
            import httpx2
        from importlib.metadata import version

        self.base_url = _checked_url(base_url)
        self._timeout_s = _checked_seconds(timeout_s)
        headers = {"User-Agent": f"interscan/{version('interscan')}", "Accept": f"application/json, {_PROBLEM_JSON}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {_checked_key(key)}"
        self._http = httpx2.Client(headers=headers, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, body: "Body | None" = None, *, repeats: bool = True) -> Reply:
        """Send a request, again where the service asks for it and there is time, and give the last reply.

        Args:
            method: GET or POST.
            path: from the service's root, with its slash.
            body: what to send.
            repeats: whether to follow Retry-After.

        Raises:
            ServiceError: no reply came, or one that no interscan service gives.
            UsageError: a file that cannot be read.
        """
        deadline, request_id = Deadline(self._timeout_s), uuid4().hex
        while True:
            reply = self._attempt(method, path, body, deadline, request_id)
            wait_s = reply.retry_after_s
            if not repeats or reply.status not in _REPEATED or wait_s is None:
                return reply
            wait_s = max(wait_s, _MIN_WAIT_S)
            if wait_s >= deadline.left_s:
                return reply
            sleep(wait_s)

    def _attempt(self, method: str, path: str, body: "Body | None", deadline: Deadline, request_id: str) -> Reply:
        with self._as_service_errors(request_id), ExitStack() as held:
            arguments = body.open(held, deadline) if body else {}
            response = held.enter_context(
                self._http.stream(
                    method,
                    self.base_url + path,
                    headers={"X-Request-ID": request_id},
                    timeout=deadline.left_s,
                    **arguments,
                )
            )
            content = bytearray()
            for chunk in response.iter_bytes():
                deadline.check()
                content += chunk
                if len(content) > _MAX_ANSWER_BYTES:
                    detail = (
                        f"{self.base_url} sends more than {_MAX_ANSWER_BYTES >> 20} MiB; is it an interscan service?"
                    )
                    raise ServiceError(response.status_code, "foreign_answer", detail, request_id)
            return Reply(
                response.status_code,
                response.headers.get("content-type", "").partition(";")[0].strip().lower(),
                bytes(content),
                request_id,
                _seconds_of(response.headers.get("retry-after", "")),
                response.headers.get("location", ""),
            )

    @contextmanager
    def _as_service_errors(self, request_id: str) -> Iterator[None]:
        import httpx2

        def error(code: str, detail: str) -> ServiceError:
            return ServiceError(None, code, detail, request_id)

        try:
            yield
        except (OutOfTimeError, httpx2.TimeoutException) as caught:
            detail = f"no answer from {self.base_url} within {self._timeout_s:g} s; ask later, or raise timeout_s"
            raise error("too_slow", detail) from caught
        except httpx2.ConnectError as caught:
            detail = f"{self.base_url} cannot be reached: {caught}; is the service started, and the address right?"
            raise error("unreachable", detail) from caught
        except httpx2.HTTPError as caught:
            what = str(caught) or type(caught).__name__
            raise error("no_answer", f"{self.base_url} broke off: {what}; ask again") from caught

    def parse(self, reply: Reply, model: type[AnyModel], *, statuses: tuple[int, ...] = (200,)) -> AnyModel:
        """The answer in a reply.

        Fields that this version does not know are passed over: a service may be newer.

        Args:
            reply: from `call`.
            model: what an answer is.
            statuses: which have such an answer.

        Raises:
            ServiceError: the problem in the reply, or what came instead of an answer.
        """
        from pydantic import ValidationError

        if reply.status not in statuses or reply.kind != "application/json":
            raise self._problem(reply)
        try:
            return model.model_validate_json(reply.content, extra="ignore")
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the whole"
            detail = (
                f"the answer of {self.base_url} is no {model.__name__} ({where}: {fault['msg']}); use a client of the "
                "service's version, and see that base_url is that of an interscan service"
            )
            raise ServiceError(reply.status, "foreign_answer", detail, reply.request_id) from error

    def _problem(self, reply: Reply) -> ServiceError:
        from pydantic import ValidationError

        from app.schemas import Problem

        if 300 <= reply.status < 400:
            detail = (
                f"{self.base_url} redirects to {_place(reply.location)}; no redirect is followed, since a key would go "
                "along: give the address of the service itself as base_url"
            )
            return ServiceError(reply.status, "redirected", detail, reply.request_id)
        if reply.kind == _PROBLEM_JSON:
            try:
                problem = Problem.model_validate_json(reply.content, extra="ignore")
            except ValidationError:
                pass  # a problem of somebody else: RFC 9457 asks for none of our fields
            else:
                found = tuple(problem.findings or ())
                return ServiceError(
                    reply.status, problem.code, problem.detail, problem.request_id, reply.retry_after_s, found
                )
        phrase = HTTPStatus(reply.status).phrase if reply.status in list(HTTPStatus) else "unknown"
        detail = (
            f"{self.base_url} answered {reply.status} ({phrase}), not in the form of an interscan service; look at "
            "what stands between, or at base_url"
        )
        return ServiceError(reply.status, "foreign_answer", detail, reply.request_id, reply.retry_after_s)


def _place(location: str) -> str:
    """Scheme and host of a redirect, as far as they are readable; never the rest, which may hold secrets."""
    try:
        url = urlsplit(location)
        host = url.hostname or ""
    except ValueError:
        host = ""
    return f"{url.scheme}://{host}" if re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", host) else "another path"


def _seconds_of(retry_after: str) -> float | None:
    """Seconds of a Retry-After, which is a number or a date (RFC 9110, 10.2.3); None where it is neither."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _checked_url(base_url: str) -> str:
    import httpx2

    example = "give an address such as http://127.0.0.1:8000 or https://host/prefix"
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise UsageError(f"base_url is no address of a service; {example}") from error
    if url.userinfo:
        raise UsageError(f"base_url holds a user or a password; give a key as key=..., and {example}")
    if (
        url.scheme not in ("http", "https")
        or not re.fullmatch(rb"[A-Za-z0-9._:-]+", url.raw_host)
        or url.query
        or url.fragment
    ):
        raise UsageError(f"base_url is {str(base_url)!r}; {example}")
    return str(url).rstrip("/")


def _checked_key(key: str) -> str:
    if not isinstance(key, str) or not re.fullmatch(r"[\x21-\x7e]+", key):
        # Never repeated: it may be a key with a line end.
        raise UsageError("key is empty or holds a space, a line end or a character beyond ASCII; give the key alone")
    return key


def _checked_seconds(timeout_s: float) -> float:
    if not 0 < timeout_s < math.inf:
        raise UsageError(f"timeout_s is {timeout_s:g}; it must be a number of seconds above 0")
    return float(timeout_s)
