"""Which URIs the service may read: a list of prefixes, closed by default; pure except for links on the local disk.

Only the protocols of `preprocess.storage` pass. http(s) is not among them: a redirect could lead from an allowed
host to the inner network. A URI has one spelling: whatever could be read in two ways (`..`, escapes, backslashes,
chained file systems, queries) is refused, not repaired.
"""

import os
import re
from collections.abc import Sequence

PROTOCOLS = ("gs", "s3", "memory", "file")
_SPLIT = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://(?P<path>.*)", re.DOTALL)
_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f%?#\\*\[\]]|::")


class NotAllowedError(Exception):
    """The URI is not under an allowed prefix, or could be read in two ways."""


def normal_prefix(prefix: str) -> str:
    """The one spelling of a prefix: protocol, path without trailing slash; local paths with their links resolved.

    Raises:
        ValueError: another protocol, a relative path or an ambiguous spelling.
    """
    try:
        return _normal(prefix.rstrip("/") if prefix.strip("/") else prefix)
    except NotAllowedError as error:
        raise ValueError(f"prefix {prefix!r}: {error}") from error


def check_allowed(uri: str, prefixes: Sequence[str]) -> str:
    """Hold a URI against the list.

    Args:
        uri: as a caller sent it.
        prefixes: as `normal_prefix` gives them.

    Returns:
        The URI in its one spelling, which is the one to read.

    Raises:
        NotAllowedError: the list is empty, the URI lies outside, or its spelling is ambiguous.
    """
    if not prefixes:
        raise NotAllowedError("this server reads no URIs; upload the scan, or start it with --allow-prefix")
    normal = _normal(uri)
    # The slash keeps gs://bucket from allowing gs://bucket-evil.
    if any(normal.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes):
        return normal
    raise NotAllowedError("the URI is not under a prefix that this server may read; ask its operator for the list")


def _normal(uri: str) -> str:
    found = _AMBIGUOUS.search(uri)
    if found:
        raise NotAllowedError(f"the URI contains {found.group()!r}, which could be read in two ways")
    if "://" not in uri:
        uri = f"file://{uri}"
    split = _SPLIT.fullmatch(uri)
    protocol = split["protocol"].lower() if split else ""
    protocol = "gs" if protocol == "gcs" else protocol
    if split is None or protocol not in PROTOCOLS:
        raise NotAllowedError(f"the URI's protocol is none of {', '.join(PROTOCOLS)}")
    path = split["path"]
    if protocol in ("file", "memory"):
        if protocol == "file" and not path.startswith("/"):
            raise NotAllowedError("a local path must be absolute")
        path = path.removeprefix("/")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise NotAllowedError("the URI has an empty, . or .. part")
    if protocol == "file":
        # A link inside an allowed folder must not lead out of it.
        return f"file://{os.path.realpath(f'/{path}')}"
    if set("@:") & set(path.split("/")[0]):
        raise NotAllowedError("the URI's bucket has a user or a port")
    return f"{protocol}://{path}"
