"""Settings of the service, from `INTERSCAN_*` environment variables or the command line; refused when unsafe."""

import ipaddress
import re
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.allowlist import normal_prefix
from preprocess.errors import UsageError
from preprocess.types import MAX_VOXELS

_MIB = 2**20
_MIN_KEY_LENGTH = 16
"""Characters; 16 of base64 are 96 random bits."""

OWN_PATHS = frozenset({"v1", "livez", "readyz", "metrics", "docs", "redoc", "openapi.json", "static"})
"""First parts of the service's own paths: as a prefix, nobody could tell whether a proxy has cut it off."""
_PATH_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")
"""What stands in a URL as it is (RFC 3986, unreserved)."""

Several = Annotated[tuple[str, ...], NoDecode]
"""Text values, separated by commas in an environment variable."""


class Settings(BaseSettings):
    """What an operator decides.

    Attributes:
        artefacts: URLs of artefact folders; the first is the default model.
        host: address to bind to.
        port: TCP port; 0 takes a free one.
        api_keys: bearer keys, any of which is accepted; none switches authentication off, on loopback only.
        no_auth: serve without keys on any address; only behind something else that authenticates.
        lock_pages: let only callers who may ask for answers see /metrics, /docs, /redoc and /openapi.json.
        allow_prefixes: prefixes of scan URIs that may be read; none refuses every URI.
        max_upload_bytes: largest scan, as uploaded or as it lies under its URI.
        max_voxels: largest image that a header may promise.
        max_cpu_s: CPU time for decoding one scan, seconds.
        max_running: requests worked on at once; as many scans, and at least two, are decoded at once.
        max_waiting: requests that may wait for their turn; the next is answered 503.
        max_wait_s: longest time to an answer, seconds; whose answer is expected later is refused with 503 at once.
        deadline_s: from a whole body to its answer, seconds; then 503.
        fetch_s: for one scan under a URI, seconds; then 504.
        header_s: for the header of a request, and for the rest of a body that is not wanted any more, seconds.
        body_idle_s: longest pause within a body, seconds; a body slower than 16 KiB/s is refused too.
        max_bodies: requests whose bodies are held at once.
        max_held_bytes: bytes of all bodies that are held at once, on disk.
        max_connections: open connections; the oldest idle one makes room for the next.
        stop_s: for answers under way when the service is told to stop, seconds.
        threads: threads of one forward pass; 0 for as many as there are cores.
        root_path: prefix under which a proxy publishes the service, for example `/scan`; empty for none.
        forwarded_allow_ips: addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    model_config = SettingsConfigDict(env_prefix="INTERSCAN_", frozen=True, extra="forbid")

    artefacts: Several = ()
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    no_auth: bool = False
    lock_pages: bool = False
    allow_prefixes: Several = ()
    max_upload_bytes: int = Field(default=200 * _MIB, gt=0)
    max_voxels: int = Field(default=2**26, gt=0, le=MAX_VOXELS)
    max_cpu_s: float = Field(default=20.0, gt=0)
    max_running: int = Field(default=2, ge=1, le=16)
    max_waiting: int = Field(default=16, ge=0, le=1000)
    max_wait_s: float = Field(default=10.0, gt=0)
    deadline_s: float = Field(default=60.0, gt=0)
    fetch_s: float = Field(default=30.0, gt=0)
    header_s: float = Field(default=10.0, gt=0)
    body_idle_s: float = Field(default=15.0, gt=0)
    max_bodies: int = Field(default=64, ge=1)
    max_held_bytes: int = Field(default=2048 * _MIB, gt=0)
    max_connections: int = Field(default=512, ge=8)
    stop_s: float = Field(default=8.0, gt=0)
    threads: int = Field(default=0, ge=0)
    root_path: str = ""
    forwarded_allow_ips: Several = ("127.0.0.1", "::1")

    @field_validator("artefacts", "api_keys", "allow_prefixes", "forwarded_allow_ips", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow_prefixes")
    @classmethod
    def _normalise(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normal_prefix(prefix) for prefix in prefixes)

    @field_validator("root_path")
    @classmethod
    def _refuse_odd_roots(cls, root_path: str) -> str:
        root_path = root_path.rstrip("/")
        parts = root_path.split("/")
        if root_path and (parts[0] or not all(_PATH_PART.fullmatch(part) for part in parts[1:])):
            raise ValueError(
                f"{root_path!r} is no path prefix; write it as the proxy publishes it, for example /scan or /lab/scan"
            )
        if len(parts) > 1 and parts[1] in OWN_PATHS:
            raise ValueError(f"/{parts[1]} is a path of the service itself; publish it under another prefix")
        return root_path

    @field_validator("api_keys")
    @classmethod
    def _refuse_short_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            length = len(key.get_secret_value())
            if length < _MIN_KEY_LENGTH:
                raise ValueError(f"a key of {length} characters is shorter than {_MIN_KEY_LENGTH}; draw a random one")
        return keys

    @model_validator(mode="after")
    def _refuse_open_doors(self) -> "Settings":
        if not (self.api_keys or self.no_auth or is_loopback(self.host)):
            raise ValueError(
                f"{self.host} can be reached from other machines and there is no API key; "
                "set INTERSCAN_API_KEYS, or give --no-auth behind a proxy that authenticates"
            )
        return self


def make_settings(**given: Any) -> Settings:
    """Settings from what the caller gives and, for the rest, the environment.

    Raises:
        UsageError: a value out of range, or a combination that would be unsafe.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {message}" if where else message) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
