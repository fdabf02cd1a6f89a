"""What probes and proxies ask beyond the routes: HEAD wherever GET is, and a prefix that a proxy may cut off or not.

Behind `https://host/scan/` the service must know `/scan` (setting `root_path`), or its pages and redirects lead past
the proxy. Proxies differ in whether they pass the prefix on; both ways reach the same routes. A header that names a
prefix is never believed: anybody may send one.
"""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FrontMiddleware:
    """Makes HEAD of GET, completes paths by the prefix, and keeps redirects on the proxy's address.

    Args:
        app: the application inside.
        root_path: the prefix, for example `/scan`; empty for none.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                message["headers"] = [_local(pair) for pair in message.get("headers", [])]
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server asks its own scope whether it may send a body.
        inner = {
            **scope,
            "path": self._whole(scope["path"]),
            "root_path": self._root_path or scope.get("root_path", ""),
        }
        if is_head:
            inner["method"] = "GET"
        if scope.get("raw_path") is not None:
            inner["raw_path"] = self._whole(scope["raw_path"].decode("latin-1")).encode("latin-1")
        try:
            await self._app(inner, receive, send_on)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]  # which is counted

    def _whole(self, path: str) -> str:
        """The path with the prefix, as ASGI has it, whether or not the proxy passed the prefix on."""
        prefix = self._root_path
        return path if not prefix or path == prefix or path.startswith(f"{prefix}/") else prefix + path


def _local(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A Location without scheme and host, which a proxy may have changed on the way here."""
    name, value = header
    if name.lower() != b"location":
        return header
    url = urlsplit(value.decode("latin-1"))
    # Two slashes would begin another host.
    path = "/" + url.path.lstrip("/")
    return name, f"{path}?{url.query}".encode("latin-1") if url.query else path.encode("latin-1")
