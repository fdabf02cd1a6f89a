"""The client against a running service, over real sockets: its answers are those of the library for the same files."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interscan import Client, InterscanError, ServiceError, load_artefact, predict_pair, predict_trajectory
from preprocess.errors import UsageError
from tests.support.artefacts import decision_part, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti
from tests.support.service import listening

ROOT = Path(__file__).resolve().parents[2]
EARLIER, LATER = head_nifti(15, seed=1), head_nifti(22, seed=2)
KEY = "a-key-of-more-than-sixteen-characters"


@pytest.fixture(scope="module", autouse=True)
def _clean_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("INTERSCAN_") or name.lower().endswith("_proxy")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "anna_smith_1.nii.gz").write_bytes(EARLIER)
    (folder / "anna_smith_2.nii.gz").write_bytes(LATER)
    return folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Path, Path]:
    return folder / "anna_smith_1.nii.gz", folder / "anna_smith_2.nii.gz"


@pytest.fixture(scope="module")
def line(folder: Path) -> Path:
    """A model that tells a change in points."""
    return write_artefact(folder / "line" / "1", decision=decision_part(), judges=True)


@pytest.fixture(scope="module")
def running(folder: Path, line: Path) -> Iterator[tuple[str, Any, Any]]:
    far = write_severity_artefact(folder / "far" / "1")
    with listening(line, far, api_keys=(KEY,), allow_prefixes=(str(folder),), max_upload_bytes=10**6) as found:
        yield found


@pytest.fixture(scope="module")
def client(running: tuple[str, Any, Any]) -> Iterator[Client]:
    with Client(running[0], KEY, timeout_s=120) as client:
        yield client


def forms(pair: tuple[Path, Path]) -> dict[str, tuple[Any, Any]]:
    """One pair of scans in each form that a scan may have."""
    earlier, later = pair
    return {
        "path": (earlier, later),
        "text": (str(earlier), str(later)),
        "bytes": (EARLIER, LATER),
        "mixed": (earlier, LATER),
        "uri": (f"file://{earlier}", f"file://{later}"),
    }


@pytest.mark.parametrize("form", ["path", "text", "bytes", "mixed", "uri"])
def test_a_pair_is_answered_as_by_the_library_in_every_form(client, line, pair, form):
    answer = client.progression(*forms(pair)[form], gap_days=365, accept_unproven=True)

    assert answer == predict_pair(load_artefact(line), *pair, gap_days=365, accept_unproven=True)
    assert answer.gap_days == 365


def test_the_order_of_scans_and_every_field_arrives(client, pair):
    forward, backward = client.progression(*pair), client.progression(*reversed(pair))

    assert forward.probabilities.improved == pytest.approx(backward.probabilities.declined)
    assert forward.probabilities.improved != pytest.approx(forward.probabilities.declined)
    assert forward.gap_days is None
    assert (forward.provenance.model, client.embedding(pair[0], model="far", version="1").model) == ("tiny", "far")


@pytest.mark.parametrize("form", ["path", "uri"])
def test_a_trajectory_is_answered_as_by_the_library(client, line, pair, form):
    scans = [*forms(pair)[form], forms(pair)[form][0]]
    answer = client.trajectory(scans, [0.5, 365, 800], age=71, accept_unproven=True)

    expected = predict_trajectory(load_artefact(line), [*pair, pair[0]], [0.5, 365, 800], age=71, accept_unproven=True)
    assert answer == expected
    assert [visit.day for visit in answer.visits] == [0.5, 365, 800]


@pytest.mark.parametrize("form", ["path", "bytes", "uri"])
def test_an_embedding_comes_with_its_facts(client, line, pair, form):
    answer = client.embedding(forms(pair)[form][0])

    assert len(answer.embedding) == answer.width == load_artefact(line).manifest.embedding_width
    assert answer.scan.sha256 == predict_pair(load_artefact(line), *pair).earlier.sha256


def test_models_and_readiness_are_told(client, running):
    assert [(model.name, model.is_default) for model in client.models()] == [("tiny", True), ("far", False)]
    assert client.ready().status == "ready"
    with Client(running[0]) as keyless:
        assert keyless.ready().status == "ready"
    with listening() as (url, _, _), Client(url) as early:
        assert early.ready().status == "not_ready"


REFUSALS = [
    (lambda client, pair: client.progression(b"<html>", pair[1]), 422, "not_nifti"),
    (lambda client, pair: client.embedding(pair[0], model="other"), 404, "unknown_model"),
    (lambda client, pair: client.progression(*pair, model="far"), 422, "wrong_kind"),
    (lambda client, pair: client.trajectory(pair, [0, 1], model="far"), 422, "wrong_kind"),
    (lambda client, pair: client.embedding(b"x" * (10**6 + 1)), 413, "too_large"),
    (lambda client, pair: client.embedding("gs://elsewhere/scan.nii"), 403, "uri_not_allowed"),
    (lambda client, pair: client.embedding(f"file://{pair[0]}.none"), 422, "not_found"),
]


@pytest.mark.parametrize(("ask", "status", "code"), REFUSALS, ids=[code for _, _, code in REFUSALS])
def test_each_problem_is_one_typed_error_with_its_status_code_and_request_id(client, pair, ask, status, code):
    with pytest.raises(ServiceError) as caught:
        ask(client, pair)

    error = caught.value
    assert isinstance(error, InterscanError)
    assert (error.status, error.code) == (status, code)
    assert str(error) == f"{error.detail} ({status} {code}, request {error.request_id})"
    assert len(error.request_id) == 32
    assert "\n" not in str(error)
    assert "anna_smith" not in str(error) or "file://" in str(error)
    assert [finding.code for finding in error.findings] == ([code] if code == "not_nifti" else [])


def test_a_wrong_or_missing_key_is_refused_and_never_repeated_in_words(running):
    for key in ("another-key-of-sixteen-or-more", None):
        with Client(running[0], key) as client, pytest.raises(ServiceError, match="send a valid key") as caught:
            client.models()
        assert (caught.value.status, caught.value.code) == (401, "unauthorised")
        assert "another-key" not in f"{caught.value!r} {client!r} {vars(client)}"


def test_a_refusal_before_a_large_body_is_whole_is_told_all_the_same(running, folder):
    scan = folder / "large.nii"
    with scan.open("wb") as file:
        file.truncate(64 * 2**20)
    for key, status in (("another-key-of-sixteen-or-more", 401), (KEY, 413)):
        with Client(running[0], key) as client, pytest.raises(ServiceError) as caught:
            client.embedding(scan)
        assert caught.value.status == status


def test_files_are_sent_without_their_names(client, pair, monkeypatch):
    sent = bytearray()
    monkeypatch.setattr("socket.socket.sendall", tee(sent, "sendall"))
    monkeypatch.setattr("socket.socket.send", tee(sent, "send"))
    client.progression(*pair)

    assert b'filename="earlier"' in sent
    assert EARLIER in sent
    assert b"anna" not in sent


def tee(sent: bytearray, name: str) -> Any:
    import socket

    real = getattr(socket.socket, name)

    def send(self: Any, data: Any, *rest: Any) -> Any:
        sent.extend(data)
        return real(self, data, *rest)

    return send


def test_a_service_that_stops_says_so_and_afterwards_cannot_be_reached(line, pair):
    with listening(line) as (url, service, server), Client(url, timeout_s=2) as client:
        server._loop.call_soon_threadsafe(service.begin_stopping)
        while not service.gate._is_closed:
            time.sleep(0.01)
        with pytest.raises(ServiceError) as caught:
            client.progression(*pair)
        assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "stopping", 5.0)
    with Client(url) as client, pytest.raises(ServiceError, match=r"cannot be reached: .*; is the ser") as caught:
        client.progression(*pair)
    assert (caught.value.status, caught.value.code) == (None, "unreachable")


def test_a_busy_service_is_asked_again_when_it_said_until_there_is_room(line, pair, monkeypatch):
    waits: list[float] = []
    with listening(line, max_waiting=0, max_running=1) as (url, service, _), Client(url) as client:
        expected = client.progression(*pair)
        service.gate._num_running += 1  # somebody else's request is worked on

        def pause(seconds: float) -> None:
            waits.append(seconds)
            service.gate._num_running -= len(waits) == 2

        monkeypatch.setattr("interscan.client_calls.sleep", pause)
        assert client.progression(*pair) == expected
    assert len(waits) == 2
    assert all(seconds >= 1 for seconds in waits)


def test_a_slow_service_is_left_when_the_time_is_over(line, pair):
    with listening(line) as (url, service, _), Client(url, timeout_s=0.5) as client:
        pids = [decoder._process.pid for decoder in service.decoders._all]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ServiceError, match=r"no answer from http://127\.0\.0\.1:\d+ within 0\.5 s") as caught:
            client.progression(*pair)
        assert (caught.value.status, caught.value.code) == (None, "too_slow")
        # The connection is not kept: the late answer is nobody's. Other processes take the place of those that hang.
        assert client.ready().status in ("ready", "not_ready")


def test_threads_may_share_a_client(client, pair):
    expected, found = client.embedding(pair[0]), []
    threads = [threading.Thread(target=lambda: found.append(client.embedding(pair[0]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def test_a_wrong_number_of_days_or_a_single_scan_is_refused_before_anything_is_sent(pair):
    nowhere = Client("http://127.0.0.1:9")
    with pytest.raises(UsageError, match="3 days for 2 scans; give one day for each scan"):
        nowhere.trajectory(pair, [0, 1, 2])
    with pytest.raises(UsageError, match="scans is one scan; give a list"):
        nowhere.trajectory("scan.nii", [0])
    with pytest.raises(UsageError, match=r"days: .* at least 2 items"):
        nowhere.trajectory(pair[:1], [0])
    with pytest.raises(UsageError, match=r"gap_days: Input should be greater than or equal to 0"):
        nowhere.progression(*pair, gap_days=-1)


def test_a_client_and_its_answers_load_neither_torch_nor_the_server(running, pair):
    heavy = "{'torch', 'monai', 'zarr', 'scipy', 'fastapi', 'starlette', 'nibabel'} & set(sys.modules)"
    program = (
        "import sys\nfrom interscan import Client\n"
        f"client = Client({running[0]!r}, {KEY!r})\n"
        f"print(client.progression({str(pair[0])!r}, {str(pair[1])!r}).decision, client.models()[0].name)\n"
        f"client.trajectory([{str(pair[0])!r}, {str(pair[1])!r}], [0, 365])\n"
        f"sys.exit(str({heavy}) if {heavy} else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" tiny\n")


def test_without_the_extra_the_answer_is_what_to_install():
    program = (
        "import sys\nsys.modules['httpx2'] = None\nfrom interscan import Client, InterscanError\n"
        "try: Client('http://127.0.0.1:8000')\nexcept InterscanError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("Client needs httpx2, of the extra 'client'; pip install 'interscan[client]'")
