"""The whole OpenAPI document asked of a running service by schemathesis: requests that fit it, and that do not.

Every answer has a status, a media type and a body that the document names, and none is a failure of the service.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup

from app.cli import _listen
from app.main import create_app
from app.server import make_server
from app.settings import make_settings
from tests.support.artefacts import decision_part, write_artefact
from tests.support.heads import head_nifti

KEY = "a-key-of-20-characters"
NAMES = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance", "missing_required_header"),
)
"""Not `positive_data_acceptance`: a field that fits may still hold what is no scan, which is 422."""
OPERATIONS = (
    *("POST /v1/embeddings", "POST /v1/progression", "POST /v1/trajectories", "GET /v1/models"),
    *("GET /livez", "GET /readyz", "GET /metrics"),
)


@contextmanager
def serving(folder: Path, **given: Any) -> Iterator[str]:
    """A service on a socket, ready; its address."""
    app = create_app(make_settings(artefacts=(str(folder),), **given))
    limits = {"header_s": 10.0, "max_connections": 64, "stop_s": 1.0, "forwarded_allow_ips": []}
    server = make_server(app, on_stop=app.state.service.begin_stopping, **limits)
    with _listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not (server.started and app.state.service.is_ready):
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "line" / "1"
    return write_artefact(made, decision=decision_part(), judges=True)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scans")
    (made / "a.nii.gz").write_bytes(head_nifti())
    return made


@pytest.fixture(scope="module")
def opened(folder: Path, scans: Path) -> Iterator[str]:
    with serving(folder, allow_prefixes=(str(scans),)) as address:
        yield address


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[str]:
    with serving(folder, api_keys=(KEY,), lock_pages=True) as address:
        yield address


def ask(
    address: str,
    operation: str,
    count: int,
    *,
    key: str | None = None,
    scan: Path | None = None,
    checks: tuple[str, ...] = NAMES,
    without: str | None = None,
) -> Counter[int]:
    """Send requests drawn from the document, half of which break it, always the same ones.

    Args:
        address: of the service.
        operation: method and path.
        count: requests of each half.
        key: sent along.
        scan: a file that the service may read; every third request that fits the document gets it as its scans.
        checks: what each answer is held to.
        without: a status that is struck from the document.

    Returns:
        How often each status came.

    Raises:
        FailureGroup: an answer that the document does not have, with the request as curl.
    """
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    found = requests.get(f"{address}/openapi.json", headers=headers | {"Authorization": f"Bearer {KEY}"}, timeout=30)
    document = found.json()
    method, path = operation.split()
    if without is not None:
        del document["paths"][path][method.lower()]["responses"][without]
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=address)
    statuses: Counter[int] = Counter()
    # What takes neither fields nor a body can be asked in one way only.
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if method == "POST" else (GenerationMode.POSITIVE,)

    def send(case: schemathesis.Case, is_filled: bool) -> None:
        if is_filled and scan is not None and isinstance(case.body, dict) and statuses.total() % 3 == 0:
            fill(case.body, scan)
        answer = case.call(headers=headers, timeout=60)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS.get_by_names(checks), headers=headers)

    how = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for mode in modes:
        cases = schema[path][method].as_strategy(generation_mode=mode)
        how(given(case=cases, is_filled=st.just(mode == GenerationMode.POSITIVE))(send))()
    return statuses


def fill(body: Any, scan: Path) -> None:
    """Put a real scan wherever the body has one, and leave the other fields as they are drawn, but for the model."""
    for name in ("model", "version"):
        body.pop(name, None)
    for name in ("uri", "earlier_uri", "later_uri"):
        if name in body:
            body[name] = str(scan)
    for name in ("scan", "earlier", "later"):
        if name in body:
            body[name] = scan.read_bytes()
    if "days" in body:
        body["days"] = [0.0, 365.0]
        name = "uris" if "uris" in body else "scans"
        body[name] = [str(scan) if name == "uris" else scan.read_bytes()] * 2


POSTS = [operation for operation in OPERATIONS if operation.startswith("POST")]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_a_documented_one(opened: str, scans: Path, operation: str) -> None:
    statuses = ask(opened, operation, 12, scan=scans / "a.nii.gz")

    assert statuses[200]
    assert operation not in POSTS or statuses[422]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_so_is_every_one_of_many(opened: str, scans: Path, operation: str) -> None:
    assert ask(opened, operation, 1000, scan=scans / "a.nii.gz")[200]


@pytest.mark.parametrize("key", [KEY, "wrong", None], ids=["with the key", "with another key", "without a key"])
def test_so_is_every_answer_of_a_service_with_keys(locked: str, key: str | None) -> None:
    for operation in OPERATIONS:
        statuses = ask(locked, operation, 3, key=key)
        if key == KEY:  # some requests that break the document have none
            assert statuses[200] or statuses[422]
        else:
            assert set(statuses) == ({200} if operation in ("GET /livez", "GET /readyz") else {401})


def test_a_status_that_is_not_documented_would_be_found(opened: str) -> None:
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        ask(opened, "POST /v1/progression", 12, without="422")
