"""Bearer keys, compared in constant time; without keys only this machine is served, unless the operator opens it."""

import hmac
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.security import HTTPBearer
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ProblemError
from app.settings import Settings, is_loopback

BEARER = HTTPBearer(auto_error=False, description="A key from INTERSCAN_API_KEYS; not needed when the server has none.")


def check_key(request: Request, settings: Settings) -> None:
    """Let a request pass or refuse it.

    With keys, the request must carry one. Without, unless `no_auth`, both the address it arrived at and the Host it
    names must be loopback: the first holds even when the server was started past the command line, the second keeps a
    web page that rebinds its name to 127.0.0.1 from using a visitor's browser as a bridge.

    Raises:
        ProblemError: 401 without a valid key, 403 when the server has no keys and the request is not local.
    """
    if settings.api_keys:
        given = _bearer(request.headers.get("authorization", ""))
        # Every key is compared, so that the time taken does not tell which one came near.
        matches = [hmac.compare_digest(given, key.get_secret_value().encode()) for key in settings.api_keys]
        if not any(matches):
            raise ProblemError(
                401,
                "unauthorised",
                "send a valid key as 'Authorization: Bearer KEY'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return
    if settings.no_auth:
        return
    bound = (request.scope.get("server") or ("", None))[0]
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not (is_loopback(bound) and is_loopback(named)):
        raise ProblemError(
            403,
            "local_only",
            "this server has no API keys and answers only on this machine; set INTERSCAN_API_KEYS to open it",
        )


def lock_pages(app: FastAPI, settings: Settings) -> None:
    """Hold the pages that FastAPI makes, /docs, /redoc and /openapi.json, to the rule of the answers.

    Args:
        app: before any other route is added to it.
        settings: with keys, or with the rule for none.
    """
    for route in app.routes:
        assert isinstance(route, Route)
        route.app = _locked(route.app, settings)


def _locked(inner: ASGIApp, settings: Settings) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        check_key(Request(scope), settings)
        await inner(scope, receive, send)

    return answer


def _bearer(header: str) -> bytes:
    scheme, _, key = header.partition(" ")
    # Starlette reads header bytes as Latin-1; this gives the caller's bytes back.
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
