"""Every file of deploy/ passes the validator of its platform, and a copy with one fault is refused by it."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import deployment, kuberay, observing
from tests.support.deployment import DEPLOY, ROOT
from tests.support.terraform import terraform_faults

Check = Callable[[str], list[str]]


def terraform(text: str, name: str) -> list[str]:
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted((DEPLOY / "terraform").glob("*.tf"))}
    return terraform_faults({**files, name: text})


CHECKS: dict[str, Check] = {
    "Dockerfile": deployment.dockerfile_faults,
    "deploy/compose.yaml": deployment.compose_faults,
    "deploy/gke/train.yaml": deployment.kubernetes_faults,
    "deploy/gke/service.yaml": deployment.kubernetes_faults,
    "deploy/gke/preprocess-ray.yaml": kuberay.rayjob_faults,
    "deploy/gke/kueue.yaml": deployment.kueue_faults,
    "deploy/vertex/train.yaml": lambda text: deployment.google_faults(
        "aiplatform.v1", "GoogleCloudAiplatformV1CustomJobSpec", deployment.documents(text)[0]
    ),
    "deploy/batch/preprocess.json": lambda text: deployment.google_faults("batch.v1", "Job", json.loads(text)),
    "deploy/cloudrun/service.yaml": lambda text: deployment.google_faults(
        "run.v1", "Service", deployment.documents(text)[0]
    ),
    "deploy/skypilot/train.yaml": deployment.skypilot_faults,
    "deploy/systemd/interscan.service": deployment.systemd_faults,
    "deploy/prometheus/alerts.yml": observing.alert_faults,
    "deploy/prometheus/prometheus.yml": observing.prometheus_faults,
    "deploy/grafana/dashboard.json": observing.dashboard_faults,
    **{
        f"deploy/terraform/{path.name}": lambda text, name=path.name: terraform(text, name)  # type: ignore[misc]
        for path in sorted((DEPLOY / "terraform").glob("*.tf"))
    },
}
FAULTS = [
    (
        "Dockerfile",
        'ENTRYPOINT ["/opt/interscan/bin/python", "-m", "interscan"]',
        "ENTRYPOINT /opt/interscan/bin/python",
    ),
    ("Dockerfile", "WORKDIR /tmp", "WORKDIR tmp"),
    ("deploy/compose.yaml", "read_only: true", "readonly: true"),
    ("deploy/compose.yaml", "condition: service_healthy", "condition: service_is_healthy"),
    ("deploy/gke/train.yaml", "podFailurePolicy:", "podFailurePolicies:"),
    ("deploy/gke/train.yaml", "restartPolicy: Never", "restartPolicy: Sometimes"),
    ("deploy/gke/train.yaml", "action: FailJob", "action: FailAll"),
    ("deploy/gke/train.yaml", "memory: 48Gi", "memory: 48GiB"),
    (
        "deploy/gke/train.yaml",
        "          image: REGION-docker.pkg.dev/PROJECT/interscan/trainer:0.1.0\n",
        "          imageUri: x\n",
    ),
    ("deploy/gke/service.yaml", "minAvailable: 1", "minimum: 1"),
    ("deploy/gke/service.yaml", "readinessProbe:", "readyProbe:"),
    ("deploy/gke/service.yaml", "type: AverageValue", "kind: AverageValue"),
    ("deploy/gke/service.yaml", "protocol: UDP", "protocol: QUIC"),
    ("deploy/gke/preprocess-ray.yaml", "ray.io/v1", "ray.io/v1alpha1"),
    (
        "deploy/gke/preprocess-ray.yaml",
        "    app.kubernetes.io/name: interscan\n",
        "    app: [interscan]\n",
    ),
    ("deploy/gke/preprocess-ray.yaml", "entrypoint:", "entryPoint:"),
    ("deploy/gke/preprocess-ray.yaml", "submissionMode: HTTPMode", "submissionMode: HttpMode"),
    ("deploy/gke/preprocess-ray.yaml", "backoffLimit: 2", 'backoffLimit: "2"'),
    ("deploy/gke/preprocess-ray.yaml", "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: 1"),
    ("deploy/gke/preprocess-ray.yaml", "rayVersion: 2.60.0", "rayVersion: 2.6"),
    ("deploy/gke/preprocess-ray.yaml", "headGroupSpec:", "headGroup:"),
    ("deploy/gke/preprocess-ray.yaml", 'num-cpus: "4"', "num-cpus: 4"),
    ("deploy/gke/preprocess-ray.yaml", 'num-cpus: "4"', 'num-cpus: "8"'),
    ("deploy/gke/preprocess-ray.yaml", "object-store-memory", "object-store-bytes"),
    ("deploy/gke/preprocess-ray.yaml", "maxReplicas: 8", "maxReplicas: 4"),
    ("deploy/gke/preprocess-ray.yaml", "containerPort: 8265", "port: 8265"),
    ("deploy/gke/preprocess-ray.yaml", "effect: NoSchedule", "effect: Never"),
    ("deploy/gke/preprocess-ray.yaml", "memory: 8Gi", "memory: 8GiB"),
    ("deploy/gke/preprocess-ray.yaml", "annotations:", "annotation:"),
    ("deploy/gke/kueue.yaml", 'nominalQuota: "2"', 'quota: "2"'),
    ("deploy/gke/kueue.yaml", "queueingStrategy: BestEffortFIFO", "queueingStrategy: Fair"),
    ("deploy/gke/kueue.yaml", "kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v9"),
    ("deploy/vertex/train.yaml", "strategy: SPOT", "useSpot: true"),
    ("deploy/vertex/train.yaml", "strategy: SPOT", "strategy: CHEAP"),
    ("deploy/vertex/train.yaml", "NVIDIA_TESLA_A100", "A100"),
    ("deploy/vertex/train.yaml", "timeout: 86400s", "timeout: 24h"),
    ("deploy/batch/preprocess.json", '"maxRetryCount"', '"retries"'),
    ("deploy/batch/preprocess.json", '"RETRY_TASK"', '"RETRY"'),
    ("deploy/batch/preprocess.json", '"7200s"', '"2h"'),
    ("deploy/cloudrun/service.yaml", "containerConcurrency: 8", "concurrency: 8"),
    ("deploy/cloudrun/service.yaml", "periodSeconds: 2", "periodSeconds: often"),
    ("deploy/skypilot/train.yaml", "accelerators: A100:1", "accelerator: A100:1"),
    ("deploy/skypilot/train.yaml", "accelerators: A100:1", "accelerators: A1000:1"),
    ("deploy/skypilot/train.yaml", "recover_on_exit_codes", "recover_on_exit"),
    ("deploy/systemd/interscan.service", "Type=exec", "Type=often"),
    ("deploy/systemd/interscan.service", "KillMode=mixed", "KillMode=some"),
    ("deploy/systemd/interscan.service", "DynamicUser=yes", "DynamicUsers=yes"),
    ("deploy/prometheus/alerts.yml", "expr: interscan_models_ready < 1", "expresion: interscan_models_ready < 1"),
    ("deploy/prometheus/alerts.yml", "for: 2m", "for: two minutes"),
    ("deploy/prometheus/alerts.yml", "up{job=", "up{job=="),
    ("deploy/prometheus/prometheus.yml", "scrape_interval: 15s", "scrape_every: 15s"),
    ("deploy/grafana/dashboard.json", '"targets"', '"queries"'),
    ("deploy/terraform/buckets.tf", "uniform_bucket_level_access", "uniform_access"),
    ("deploy/terraform/buckets.tf", "retention_period =", "retention_days ="),
    ("deploy/terraform/buckets.tf", "  location                    = var.region\n", ""),
    ("deploy/terraform/service.tf", "startup_cpu_boost", "cpu_boost"),
    (
        "deploy/terraform/identities.tf",
        'resource "google_service_account" "role"',
        'resource "google_service_account" "roles"',
    ),
    ("deploy/terraform/variables.tf", 'variable "artefact"', 'variable "artifact"'),
    ("deploy/terraform/alerts.tf", "combiner     =", "combine ="),
    ("deploy/terraform/registry.tf", 'format        = "DOCKER"\n', ""),
    ("deploy/terraform/secrets.tf", "user_managed {", "user_managed {{"),
    (
        "deploy/terraform/outputs.tf",
        "google_cloud_run_v2_service.app.uri",
        "google_cloud_run_v2_service.application.uri",
    ),
    ("deploy/terraform/versions.tf", "project = var.project", "project = var.projekt"),
]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "deploy", "Dockerfile"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def skip_without_crds(name: str) -> None:
    if "kueue" in name and not deployment.CRDS.is_dir():
        pytest.skip("the schemas of Kueue's resources do not lie beside the checkout")


@pytest.mark.parametrize("name", CHECKS)
def test_a_file_passes_the_validator_of_its_platform(name: str) -> None:
    skip_without_crds(name)
    assert CHECKS[name](text_of(name)) == []


@pytest.mark.parametrize(("name", "right", "wrong"), FAULTS)
def test_a_copy_with_one_fault_is_refused(name: str, right: str, wrong: str) -> None:
    skip_without_crds(name)
    text = text_of(name)
    assert right in text, "the fault must be put into a line that is there"
    assert CHECKS[name](text.replace(right, wrong, 1)) != []


def test_every_file_of_deploy_has_a_validator_and_a_fault() -> None:
    files = {
        name
        for name in tracked()
        if name.endswith((".yaml", ".yml", ".json", ".tf", ".service")) or name == "Dockerfile"
    }
    assert files == set(CHECKS)
    assert set(CHECKS) == {name for name, _, _ in FAULTS}


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = [ROOT / ".ci" / "run"]
    assert [fault for path in scripts for fault in deployment.shell_faults(path)] == []


@pytest.mark.parametrize("name", [name for name in CHECKS if name.endswith((".yaml", ".service"))])
def test_a_file_says_how_it_is_used_and_what_it_costs(name: str) -> None:
    heading = "\n".join(line for line in text_of(name).splitlines() if line.startswith("#"))
    assert re.search(r"(?m)^#   \S", heading), "the command that uses it"
    assert "# Cost: " in heading


def test_no_file_names_a_machine_or_a_person() -> None:
    for name in tracked():
        if Path(name).suffix in {".txt", ".json"}:
            continue
        assert not re.search(r"/(home|work|Users)/", text_of(name)), name
