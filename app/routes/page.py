"""GET / and its files: the page for people, which asks the service's own routes and nobody else."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "static"

HEADERS: Mapping[str, str] = {
    # Images as data: and blob: are those NiiVue draws its labels from and makes of volumes; it starts no worker and no
    # WebAssembly for NIfTI files, so neither is allowed.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Asked anew each time, and answered 304 while nothing has changed: an upgrade is seen at once.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The page. Open without a key: it names no scan, and its questions need one."""
    return FileResponse(FOLDER / "index.html", headers=dict(HEADERS))


@router.get("/static/{name:path}")
async def file(request: Request, name: str) -> Response:
    """One file of the page; 404 for any name outside of its folder."""
    found = await StaticFiles(directory=FOLDER).get_response(name, request.scope)
    found.headers.update(HEADERS)
    return found
