"""Rules of our own that no schema knows, and that every name in deploy/ and the docs exists in the code."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from app.telemetry import Telemetry
from interscan.cli import VERBS, build_app
from tests.support import deployment
from tests.support.deployment import DEPLOY, ROOT
from tests.support.observing import metrics_in
from trainer.recipe import load_recipe

YAML = sorted(path for path in DEPLOY.rglob("*.y*ml") if path.parent.name != "prometheus")
EXIT_CODES = {0, 1, 2, 3, 130}
OF_OTHERS = {
    "FSSPEC_GS_TOKEN",
    "FSSPEC_GS_ENDPOINT_URL",
    "FSSPEC_GS_PROJECT",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT",
    "OMP_NUM_THREADS",
    "PORT",
    "HOME",
    "RAY_USAGE_STATS_ENABLED",
    "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Environment variables that libraries or platforms read."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a document."""
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from walk(part)
    elif isinstance(node, list):
        for part in node:
            yield from walk(part)


def commands() -> list[tuple[str, list[str]]]:
    """The command line of every container, unit and script, with the file it stands in."""
    found: list[tuple[str, list[str]]] = []
    for path in YAML:
        for document in deployment.documents(path.read_text(encoding="utf-8")):
            for node in walk(document):
                arguments = node.get("args", node.get("command"))
                if isinstance(arguments, list) and arguments and arguments[0] in VERBS:
                    found.append((name_of(path), [defaulted(str(part)) for part in arguments]))
                for key in ("run", "entrypoint"):
                    if isinstance(node.get(key), str):
                        found += [(name_of(path), line) for line in after_program(node[key])]
    batch = json.loads((DEPLOY / "batch" / "preprocess.json").read_text(encoding="utf-8"))
    found += [("deploy/batch/preprocess.json", node["commands"]) for node in walk(batch) if "commands" in node]
    for path in (*DEPLOY.glob("systemd/*.service"), ROOT / "docs" / "deploy.md"):
        found += [(name_of(path), line) for line in after_program(path.read_text(encoding="utf-8"))]
    terraform = (DEPLOY / "terraform" / "service.tf").read_text(encoding="utf-8")
    listed = re.search(r"args = \[(.*?)\]", terraform, re.DOTALL)
    assert listed is not None
    found.append(
        (
            "deploy/terraform/service.tf",
            re.findall(r'"([^"]+(?:"[^"\]]*"\][^"]*)?)"', re.sub(r"\$\{[^}]*\}", "x", listed[1])),
        )
    )
    return found


def defaulted(word: str) -> str:
    """What Compose makes of `${NAME:-default}`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word)


def after_program(text: str) -> Iterator[list[str]]:
    """Command lines of the program in a text: what follows `interscan` or `-m interscan`, up to the end of the line."""
    joined = text.replace("\\\n", " ")
    for match in re.finditer(r"(?m)^\s*(?:ExecStart=)?(?:\S*python -m )?interscan ([a-z].*)$", joined):
        words = shlex.split(match[1], comments=True)
        yield [word for word in words if word not in {"&&"}]


def parse(arguments: list[str]) -> None:
    """Raise when the program would not understand the command line."""
    app = build_app(arguments[0])
    app.parse_args(arguments, exit_on_error=False, print_error=False)


def test_every_command_line_is_understood_by_the_program() -> None:
    found = commands()
    assert {name for name, _ in found} >= {
        "deploy/compose.yaml",
        "deploy/gke/train.yaml",
        "deploy/gke/service.yaml",
        "deploy/gke/preprocess-ray.yaml",
        "deploy/vertex/train.yaml",
        "deploy/cloudrun/service.yaml",
        "deploy/skypilot/train.yaml",
        "deploy/batch/preprocess.json",
        "deploy/systemd/interscan.service",
        "deploy/terraform/service.tf",
        "docs/deploy.md",
    }
    for name, arguments in found:
        try:
            parse(arguments)
        except Exception as error:
            raise AssertionError(f"{name}: {' '.join(arguments)}: {error}") from error


def test_a_command_line_with_an_unknown_option_is_not_understood() -> None:
    with pytest.raises(Exception, match="epochs"):
        parse(["train", "demo", "--store", "gs://b/s", "--run", "gs://b/r", "--epochs", "3"])


def test_every_recipe_that_is_named_exists() -> None:
    recipes = {arguments[1] for _, arguments in commands() if arguments[0] == "train"}
    assert recipes
    for recipe in recipes:
        load_recipe(recipe)


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """File, pod (or service) and container of every Kubernetes-like file."""
    found = []
    for path in [*(DEPLOY / "gke").glob("*.yaml"), DEPLOY / "cloudrun" / "service.yaml"]:
        for document in deployment.documents(path.read_text(encoding="utf-8")):
            for node in walk(document):
                found += [(name_of(path), node, container) for container in node.get("containers", [])]
    assert found
    return found


def test_every_container_says_whose_credentials_it_takes() -> None:
    """Without it gcsfs goes on as nobody, and GKE's metadata server is late in a pod's first seconds."""
    for name, _, container in containers():
        assert {"name": "FSSPEC_GS_TOKEN", "value": "google_default"} in container["env"], name
    compose = deployment.documents((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))[0]
    for service, body in compose["services"].items():
        if service not in ("gcs", "prometheus"):
            assert "FSSPEC_GS_TOKEN" in body["environment"], service
    for path in (
        "vertex/train.yaml",
        "skypilot/train.yaml",
        "batch/preprocess.json",
        "systemd/interscan.service",
        "terraform/service.tf",
    ):
        assert "FSSPEC_GS_TOKEN" in (DEPLOY / path).read_text(encoding="utf-8"), path


def test_pods_are_nobody_in_a_read_only_root_without_capabilities() -> None:
    for name, pod, container in containers():
        if "cloudrun" in name:
            continue  # its sandbox offers no such fields; the image itself runs as nobody
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
    assert re.findall(r"(?m)^USER (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8")) == ["65532:65532"] * 3


def test_a_ray_job_is_of_the_version_that_is_tested_and_its_head_is_no_spot_machine() -> None:
    """Head, workers and the program speak one version of Ray, and the head holds the plan."""
    text = (DEPLOY / "gke" / "preprocess-ray.yaml").read_text(encoding="utf-8")
    cluster = deployment.documents(text)[1]["spec"]["rayClusterSpec"]
    pinned = re.search(r"(?m)^ray==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    assert f"rayproject/ray:{pinned[1]}-py311-cpu" in (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nodeSelector" not in head["template"]["spec"]
    for group in (head, *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


def test_a_job_that_judges_exit_codes_starts_no_container_again_by_itself() -> None:
    for document in deployment.documents((DEPLOY / "gke" / "train.yaml").read_text(encoding="utf-8")):
        if "podFailurePolicy" in document.get("spec", {}):
            assert document["spec"]["template"]["spec"]["restartPolicy"] == "Never"
            rules = document["spec"]["podFailurePolicy"]["rules"]
            assert {"type": "DisruptionTarget", "status": "True"} in rules[0]["onPodConditions"]
            assert rules[0]["action"] == "Ignore"
            ended = next(rule for rule in rules if rule["action"] == "FailJob")["onExitCodes"]["values"]
            assert set(ended) == {2, 3}, "what no second try mends"
            return
    raise AssertionError("gke/train.yaml has no podFailurePolicy")


def test_exit_codes_that_are_tried_again_are_those_of_a_stop() -> None:
    batch = json.loads((DEPLOY / "batch" / "preprocess.json").read_text(encoding="utf-8"))
    policy = next(node["lifecyclePolicies"] for node in walk(batch) if "lifecyclePolicies" in node)
    # 50001: the machine was taken away; 130: stopped cleanly; 143: ended by SIGTERM before it could say so.
    assert policy == [{"action": "RETRY_TASK", "actionCondition": {"exitCodes": [50001, 130, 143]}}]
    sky = deployment.documents((DEPLOY / "skypilot" / "train.yaml").read_text(encoding="utf-8"))[0]
    assert sky["resources"]["job_recovery"]["recover_on_exit_codes"] == [130, 143]
    for code in (*sky["resources"]["job_recovery"]["recover_on_exit_codes"], 2, 3):
        assert code in EXIT_CODES | {143}


def test_images_are_pinned() -> None:
    for path in YAML:
        for node in (
            node for document in deployment.documents(path.read_text(encoding="utf-8")) for node in walk(document)
        ):
            for key in ("image", "imageUri", "image_id"):
                image = node.get(key)
                if not isinstance(image, str) or image.startswith("${"):
                    continue  # built on this machine, by the command above
                tag = image.rpartition("/")[2].partition(":")[2]
                assert re.fullmatch(r"v?[0-9]+\.[0-9]+\.[0-9]+", tag), f"{name_of(path)}: {image}"
    assert "latest" not in (DEPLOY / "terraform" / "variables.tf").read_text(encoding="utf-8").replace(
        "never `latest`", ""
    )


def test_all_images_are_of_one_version() -> None:
    version = re.search(r'(?m)^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert version is not None
    named = {
        tag
        for path in (*YAML, DEPLOY / "batch" / "preprocess.json", DEPLOY / "terraform" / "variables.tf")
        for tag in re.findall(r"interscan/(?:app|trainer|preprocess):([0-9.]+)", path.read_text(encoding="utf-8"))
    }
    assert named == {version[1]}
    assert f'default     = "{version[1]}"' in (DEPLOY / "terraform" / "variables.tf").read_text(encoding="utf-8")


def test_nothing_is_open_to_everybody() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file())
    assert "allUsers" not in text
    assert "allAuthenticatedUsers" not in text
    buckets = (DEPLOY / "terraform" / "buckets.tf").read_text(encoding="utf-8")
    assert 'public_access_prevention    = "enforced"' in buckets
    for port in re.findall(r"(?m)^ +- ([0-9.:]*\S+:\d+)$", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")):
        if re.search(r":\d+:\d+$|\}:\d+$", port):
            assert port.startswith("127.0.0.1:"), port


def test_roles_are_given_for_single_buckets_and_secrets() -> None:
    identities = (DEPLOY / "terraform" / "identities.tf").read_text(encoding="utf-8")
    project_wide = re.findall(r'resource "google_project_iam_member".*?role\s+= "([^"]+)"', identities, re.DOTALL)
    assert project_wide == ["roles/logging.logWriter"]
    assert "roles/storage.admin" not in identities
    assert "roles/storage.objectAdmin" not in identities


def expressions() -> list[str]:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    found = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    return found + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_that_is_watched_exists() -> None:
    telemetry = Telemetry()
    telemetry.observe("GET", "/livez", 200, 0.1)
    exported = set(re.findall(r"(?m)^(interscan_[a-z_]+)", telemetry.render().decode()))
    watched = {name for expression in expressions() for name in metrics_in(expression)}
    assert len(watched) >= 4
    assert watched <= exported
    scaled = (DEPLOY / "gke" / "service.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"prometheus\.googleapis\.com\|(interscan_[a-z_]+)\|", scaled)) <= exported


def test_every_route_that_is_watched_or_probed_exists() -> None:
    from app.main import create_app

    routes = set(create_app(Settings()).openapi()["paths"])
    text = "".join(path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file())
    probed = set(re.findall(r'path\s*[:=]\s*"?(/[a-z]+)\b', text)) | set(re.findall(r'route=\\?"(/[a-z0-9/]+)', text))
    assert {"/readyz", "/livez", "/v1/progression"} <= probed
    assert probed <= routes


def test_every_environment_variable_that_is_named_is_read() -> None:
    paths = [path for path in DEPLOY.rglob("*") if path.is_file()] + [ROOT / "Dockerfile", ROOT / "docs" / "deploy.md"]
    named = {
        name for path in paths for name in re.findall(r"\b(INTERSCAN_[A-Z_]+)\b", path.read_text(encoding="utf-8"))
    }
    code = "".join(
        path.read_text(encoding="utf-8")
        for part in ("app", "preprocess", "trainer", "interscan")
        for path in (ROOT / part).rglob("*.py")
    )
    fields = {f"INTERSCAN_{name.upper()}" for name in Settings.model_fields}
    unread = {name for name in named if name not in fields and name not in code}
    assert unread == set()
    containers_name = {entry["name"] for _, _, container in containers() for entry in container["env"]}
    assert containers_name <= OF_OTHERS | named
