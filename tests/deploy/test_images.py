"""The three images, built and run for real: sizes, labels, refusals, hardening, and an answer for a pair.

`make test-deploy`; needs root and Debian's docker.io, mmdebstrap and docker-compose, and says so when they are
missing. What it measured stands in .engine/figures.json afterwards.
"""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from tests.support.artefacts import write_artefact
from tests.support.bucket import free_port
from tests.support.containers import KEY, TARGETS, ask, memory_mib, open_to_all, upload, wait_until_ready
from tests.support.engine import HARDENED, ROOT, Engine, build
from tests.support.images import head_file

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1200)]
MAX_PACKED_BYTES = 350_000_000
MAX_UNPACKED_BYTES = 1_100_000_000
"""Decoders of DICOM take 60 MB, most of it gdcm, which alone reads the lossless JPEG of many archives."""


def test_the_service_fits_the_sizes_that_are_promised(engine: Engine, images: dict[str, float]) -> None:
    unpacked = {target: engine.unpacked_bytes(f"interscan-{target}") for target in TARGETS}
    packed = engine.packed_bytes("interscan-app")
    engine.figures |= {"unpacked_bytes": unpacked, "app_packed_bytes": packed}
    assert unpacked["app"] <= MAX_UNPACKED_BYTES
    assert packed <= MAX_PACKED_BYTES


def test_an_unchanged_tree_is_not_built_again_and_a_changed_line_copies_the_program_only(
    engine: Engine, images: dict[str, float], tmp_path: Path
) -> None:
    def layers() -> list[str]:
        told = engine.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", "interscan-app").stdout
        found: list[str] = json.loads(told)
        return found

    before = layers()
    engine.figures["build_unchanged_s"] = build(engine, "app")
    assert layers() == before
    context = tmp_path / "source"
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(".engine", ".venv", ".git", "demo", "__pycache__"))
    with (context / "app" / "main.py").open("a", encoding="utf-8") as file:
        file.write("\n# One line more.\n")
    engine.figures["build_one_line_s"] = build(engine, "app", context)
    after = layers()
    # The environment's layer, nearly a gigabyte, is the same; the program's is another one.
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    build(engine, "app")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_answers_for_help_as_any_user_in_a_read_only_root(
    engine: Engine, images: dict[str, float], target: str
) -> None:
    done = engine.run("run", "--rm", "--network", "none", *HARDENED, f"interscan-{target}", "--help")
    assert "Usage: interscan COMMAND" in done.stdout
    assert done.stderr == ""
    version = engine.run("run", "--rm", "--network", "none", *HARDENED, f"interscan-{target}", "--version").stdout
    assert version.strip() == "0.1.0"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_by_exec_with_labels(engine: Engine, images: dict[str, float], target: str) -> None:
    told = json.loads(engine.run("image", "inspect", f"interscan-{target}").stdout)[0]["Config"]
    assert told["User"] == "65532:65532"
    assert told["Entrypoint"] == ["/opt/interscan/bin/python", "-m", "interscan"]
    assert told["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert ("Healthcheck" in told) == (target == "app")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_no_installer_and_no_tests(engine: Engine, images: dict[str, float], target: str) -> None:
    code = (
        "import pathlib, sys\np = pathlib.Path(sys.prefix)\n"
        "print(*p.glob('lib/python*/site-packages/pip'), *p.glob('**/torch/test'))"
    )
    done = engine.run("run", "--rm", "--entrypoint", "/opt/interscan/bin/python", f"interscan-{target}", "-c", code)
    assert done.stdout.strip() == ""


def test_a_verb_whose_extra_is_not_there_says_which_image_has_it(engine: Engine, images: dict[str, float]) -> None:
    done = engine.run("run", "--rm", *HARDENED, "interscan-app", "evaluate", "/tmp/run", check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "interscan[train]" in done.stderr


def test_the_service_refuses_to_be_reached_without_keys(engine: Engine, images: dict[str, float]) -> None:
    done = engine.run("run", "--rm", "--network", "none", *HARDENED, "interscan-app", "serve", "/model", check=False)
    assert done.returncode == 2
    assert "INTERSCAN_API_KEYS" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hardened_service_answers_a_pair_and_stops_cleanly(
    engine: Engine, images: dict[str, float], tmp_path: Path
) -> None:
    model = write_artefact(tmp_path / "model")
    open_to_all(tmp_path)
    port = free_port()
    started = engine.container(
        "interscan-app",
        "serve",
        "/model",
        options=(
            "--network",
            "host",
            "--env",
            f"PORT={port}",
            "--env",
            f"INTERSCAN_API_KEYS={KEY}",
            "--volume",
            f"{model}:/model:ro",
        ),
    )
    url = f"http://127.0.0.1:{port}"
    engine.figures["app_ready_s"] = wait_until_ready(engine, started, url)
    engine.figures["app_memory_mib"] = memory_mib(engine, started)
    status, answer = upload(url, head_file(1.0), head_file(0.9, seed=1))
    assert status == 200, answer
    assert answer["progression"] in ("improved", "stable", "declined", "undecided")
    assert ask(f"{url}/v1/models")[0] == 401
    # The page and the example are files of the package, not modules.
    for path in ("", "static/js/main.js", "static/vendor/niivue.umd.js"):
        with urllib.request.urlopen(f"{url}/{path}", timeout=60) as file:
            assert file.status == 200, path
    health = engine.run("exec", started, "/opt/interscan/bin/python", "-m", "app.healthcheck", check=False)
    assert health.returncode == 0
    code, seconds = engine.stop(started)
    engine.figures["app_stop_s"] = seconds
    assert code == 0
    engine.run("rm", started)
