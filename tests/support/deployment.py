"""Reads deployment files as their platforms would: one function a kind of file, each returning what is wrong with it.

Everything here works offline. The schemas come from packages: Kubernetes' own from kubernetes-validate, Google's
discovery documents from google-api-python-client (made strict, since they would let an unknown field pass), the
Compose specification from check-jsonschema; Kueue's custom resources and the arguments of Terraform's google provider
are files.
"""

import copy
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CRDS = ROOT.parent / "shared" / "data" / "crds"
KUBERNETES_VERSION = "1.34"
"""GKE's regular channel."""
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_ENUMS = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "action": {"Ignore", "FailJob", "FailIndex", "Count"},
    "operator": {"In", "NotIn", "Equal", "Exists", "Lt", "Gt"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
}
"""Kubernetes' schema says `string` for these, so a misspelt one would pass."""
_GOOGLE_KUBERNETES = {"PodMonitoring"}
"""Kinds of Google's own operators; no schema of theirs is at hand."""


def documents(text: str) -> list[dict[str, Any]]:
    """All documents of a YAML (or JSON) file."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def to_yaml(document: dict[str, Any]) -> str:
    """One document as text."""
    return str(yaml.safe_dump(document))


def dockerfile_faults(text: str) -> list[str]:
    """What hadolint says."""
    run = subprocess.run(
        [_tool("hadolint"), "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )
    return [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]


def shell_faults(path: Path) -> list[str]:
    """What shellcheck says."""
    run = subprocess.run([_tool("shellcheck"), str(path)], capture_output=True, text=True, check=False)
    return [line for line in run.stdout.splitlines() if line.strip()]


def compose_faults(text: str) -> list[str]:
    """What the Compose specification says; old clients refuse a top-level name, too."""
    from check_jsonschema.catalog import CUSTOM_SCHEMA_NAMES  # noqa: F401 - fails here when the package is another one

    schema = (
        Path(sys.modules["check_jsonschema"].__file__ or "").parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    )
    return schema_faults(json.loads(schema.read_text(encoding="utf-8")), documents(text)[0])


def kubernetes_faults(text: str) -> list[str]:
    """Unknown and missing fields, enumerations and quantities of each document."""
    faults = []
    for document in documents(text):
        if document["kind"] in _GOOGLE_KUBERNETES:
            continue
        try:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
            faults.append(f"{document['kind']}: {error.message}")
        faults += [f"{document['kind']}: {fault}" for fault in _kubernetes_values(document)]
    return faults


def _kubernetes_values(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _kubernetes_values(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in _ENUMS and isinstance(value, str) and value not in _ENUMS[key]:
                yield f"{key} is {value!r}, none of {', '.join(sorted(_ENUMS[key]))}"
            if key in ("requests", "limits") and isinstance(value, dict):
                yield from (
                    f"{key}.{name} is {amount!r}, no quantity"
                    for name, amount in value.items()
                    if not _QUANTITY.fullmatch(str(amount))
                )
            yield from _kubernetes_values(value)


def kueue_faults(text: str) -> list[str]:
    """What the schemas of Kueue's custom resources say, unknown fields refused."""
    faults = []
    for document in documents(text):
        crd = documents((CRDS / f"kueue_{document['kind'].lower()}s.yaml").read_text(encoding="utf-8"))[0]
        versions = {version["name"]: version for version in crd["spec"]["versions"]}
        version = document["apiVersion"].rpartition("/")[2]
        if version not in versions:
            faults.append(f"{document['kind']}: no version {version}; there are {', '.join(versions)}")
            continue
        schema = _strict(versions[version]["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        faults += schema_faults(schema, document)
    return faults


def google_faults(api: str, schema: str, document: dict[str, Any]) -> list[str]:
    """What the discovery document of a Google API says of a message, unknown fields refused.

    Args:
        api: name and version, for example `batch.v1`.
        schema: name of the message, for example `Job`.
        document: the message.
    """
    return schema_faults(_google_schema(api, schema), document)


@functools.cache
def _google_schema(api: str, schema: str) -> dict[str, Any]:
    text = (Path(DISCOVERY_DOC_DIR) / f"{api}.json").read_text(encoding="utf-8")
    definitions = {name: _from_discovery(body) for name, body in json.loads(text)["schemas"].items()}
    return {"$ref": f"#/$defs/{schema}", "$defs": definitions}


def _from_discovery(body: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in body:
        return {"$ref": f"#/$defs/{body['$ref']}"}
    if body.get("format") in ("int64", "uint64"):
        return {"type": ["string", "integer"], "pattern": "^-?[0-9]+$"}
    if body.get("format") == "google-duration":
        return {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?s$"}
    made: dict[str, Any] = {} if body.get("type") == "any" else {"type": body.get("type", "object")}
    if "enum" in body:
        made["enum"] = body["enum"]
    if "items" in body:
        made["items"] = _from_discovery(body["items"])
    if made.get("type") == "object":
        made["properties"] = {name: _from_discovery(part) for name, part in body.get("properties", {}).items()}
        extra = body.get("additionalProperties")
        made["additionalProperties"] = _from_discovery(extra) if extra else False
    return made


def skypilot_faults(text: str) -> list[str]:
    """Keys and accelerator names that SkyPilot does not know; its own parser runs in `make test-deploy`."""
    document = documents(text)[0]
    faults = [f"unknown key {key}" for key in document if key not in _SKYPILOT_TASK]
    resources = document.get("resources", {})
    faults += [f"resources: unknown key {key}" for key in resources if key not in _SKYPILOT_RESOURCES]
    recovery = resources.get("job_recovery", {})
    faults += [f"job_recovery: unknown key {key}" for key in recovery if key not in _SKYPILOT_RECOVERY]
    name = str(resources.get("accelerators", "")).partition(":")[0]
    return faults + (
        [] if name in _SKYPILOT_GPUS else [f"accelerators: {name!r} is none of {', '.join(sorted(_SKYPILOT_GPUS))}"]
    )


_SKYPILOT_TASK = {"name", "resources", "envs", "secrets", "setup", "run", "num_nodes", "file_mounts", "workdir"}
_SKYPILOT_RESOURCES = {
    "infra",
    "accelerators",
    "cpus",
    "memory",
    "use_spot",
    "disk_size",
    "image_id",
    "job_recovery",
    "any_of",
    "ports",
}
_SKYPILOT_RECOVERY = {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"}
_SKYPILOT_GPUS = {"A100", "A100-80GB", "H100", "L4", "T4", "V100"}


def systemd_faults(text: str) -> list[str]:
    """Settings that systemd does not know, and values of those that have a list of them."""
    faults = []
    section = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        key, _, value = line.partition("=")
        if key not in _SYSTEMD.get(section, {}):
            faults.append(f"[{section}] has no setting {key}")
        elif _SYSTEMD[section][key] and value not in _SYSTEMD[section][key]:
            faults.append(f"{key}={value} is none of {', '.join(sorted(_SYSTEMD[section][key]))}")
    return faults


_YES: set[str] = {"yes", "no"}
_ANY: set[str] = set()
_SYSTEMD: dict[str, dict[str, set[str]]] = {
    "Unit": dict.fromkeys(("Description", "Documentation", "After", "Wants"), _ANY),
    "Install": {"WantedBy": _ANY},
    "Service": {
        "KillMode": {"control-group", "mixed", "process", "none"},
        **dict.fromkeys(
            (
                "EnvironmentFile",
                "Environment",
                "ExecStart",
                "RestartPreventExitStatus",
                "RestartSec",
                "TimeoutStopSec",
                "MemoryMax",
                "CPUWeight",
                "RestrictAddressFamilies",
                "CapabilityBoundingSet",
                "SystemCallFilter",
                "SystemCallArchitectures",
                "UMask",
            ),
            _ANY,
        ),
        **dict.fromkeys(
            (
                "DynamicUser",
                "PrivateTmp",
                "PrivateDevices",
                "ProtectHome",
                "ProtectKernelTunables",
                "ProtectKernelModules",
                "ProtectControlGroups",
                "ProtectClock",
                "ProtectHostname",
                "RestrictNamespaces",
                "RestrictRealtime",
                "RestrictSUIDSGID",
                "LockPersonality",
                "NoNewPrivileges",
            ),
            _YES,
        ),
        "Type": {"simple", "exec", "forking", "oneshot", "notify"},
        "Restart": {"no", "always", "on-failure", "on-abnormal", "on-success"},
        "ProtectSystem": {"yes", "no", "full", "strict"},
    },
}
"""systemd.exec(5) and systemd.service(5); `systemd-analyze verify` needs a running machine's units."""


def _strict(schema: Any) -> Any:
    """The same schema with unknown fields refused wherever fields are listed."""
    schema = copy.deepcopy(schema)

    def close(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
                node["additionalProperties"] = False
            if node.get("x-kubernetes-int-or-string"):
                node.pop("type", None)
            for part in node.values():
                close(part)
        elif isinstance(node, list):
            for part in node:
                close(part)

    close(schema)
    return schema


def schema_faults(schema: dict[str, Any], document: Any) -> list[str]:
    """What a JSON Schema says of a document."""
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(document)
    ]


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)
