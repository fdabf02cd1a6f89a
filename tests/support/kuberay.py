"""Reads a RayJob of KubeRay as its operator would, as far as that goes without the operator's own schema.

Fields and values of `ray.io/v1` are listed here, from the Go types of KubeRay (ray-operator/apis/ray/v1); each pod
template is held against Kubernetes' own schema, as a pod of its own.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.support.deployment import documents, kubernetes_faults, to_yaml

_JOB = {
    "entrypoint": str, "submissionMode": str, "backoffLimit": int, "activeDeadlineSeconds": int, "jobId": str,
    "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int, "rayClusterSpec": dict, "runtimeEnvYAML": str,
    "submitterPodTemplate": dict, "submitterConfig": dict, "clusterSelector": dict, "metadata": dict, "suspend": bool,
    "entrypointNumCpus": (int, float), "entrypointNumGpus": (int, float), "entrypointResources": str, "managedBy": str,
}  # fmt: skip
_CLUSTER = {
    "rayVersion": str, "headGroupSpec": dict, "workerGroupSpecs": list, "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict, "suspend": bool,
}  # fmt: skip
_GROUP = {"rayStartParams": dict, "template": dict}
_HEAD = {**_GROUP, "serviceType": str, "enableIngress": bool, "headService": dict}
_WORKERS = {
    **_GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "numOfHosts": int,
    "scaleStrategy": dict,
}  # fmt: skip
_MODES = {"K8sJobMode", "HTTPMode", "InteractiveMode"}
_START = {
    "num-cpus", "num-gpus", "memory", "object-store-memory", "dashboard-host", "dashboard-port", "port", "resources",
    "labels", "block", "node-ip-address", "metrics-export-port", "disable-usage-stats", "no-monitor",
}  # fmt: skip
"""Options of `ray start`, without their dashes."""


def rayjob_faults(text: str) -> list[str]:
    """What is wrong with each document: of a RayJob as above, of any other kind by Kubernetes' schema."""
    return [fault for document in documents(text) for fault in _faults(document)]


def _faults(document: dict[str, Any]) -> Iterator[str]:
    if not str(document.get("apiVersion", "")).startswith("ray.io/"):
        yield from kubernetes_faults(to_yaml(document))
        return
    if (document["apiVersion"], document.get("kind")) != ("ray.io/v1", "RayJob"):
        yield f"{document['apiVersion']} {document.get('kind')}: expected ray.io/v1 RayJob"
        return
    yield from _fields("RayJob", document, {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, "spec")
    # The rest of a resource's metadata is Kubernetes' own.
    pod = {"containers": [{"name": "x", "image": "x"}]}
    yield from kubernetes_faults(
        to_yaml({"apiVersion": "v1", "kind": "Pod", "metadata": document.get("metadata"), "spec": pod})
    )
    spec = document.get("spec") or {}
    yield from _fields("spec", spec, _JOB, "entrypoint", "rayClusterSpec")
    if spec.get("submissionMode", "K8sJobMode") not in _MODES:
        yield f"submissionMode {spec['submissionMode']} is none of {', '.join(sorted(_MODES))}"
    for key in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if isinstance(spec.get(key), int) and spec[key] < 0:
            yield f"{key} is {spec[key]}, below 0"
    cluster = spec.get("rayClusterSpec") or {}
    yield from _fields("rayClusterSpec", cluster, _CLUSTER, "rayVersion", "headGroupSpec", "workerGroupSpecs")
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(cluster.get("rayVersion"))):
        yield f"rayVersion {cluster.get('rayVersion')} is no version"
    head = cluster.get("headGroupSpec") or {}
    yield from _fields("headGroupSpec", head, _HEAD, "rayStartParams", "template")
    yield from _group("headGroupSpec", head)
    names = [group.get("groupName") for group in cluster.get("workerGroupSpecs") or []]
    if len(set(names)) != len(names):
        yield f"workerGroupSpecs: groupName occurs twice in {names}"
    for group in cluster.get("workerGroupSpecs") or []:
        where = f"workerGroupSpecs {group.get('groupName')}"
        wanted = ("groupName", "rayStartParams", "template", "replicas", "minReplicas", "maxReplicas")
        yield from _fields(where, group, _WORKERS, *wanted)
        yield from _group(where, group)
        least, now, most = (group.get(key, 0) for key in ("minReplicas", "replicas", "maxReplicas"))
        if not least <= now <= most:
            yield f"{where}: replicas {now} outside minReplicas {least} to maxReplicas {most}"


def _group(where: str, group: dict[str, Any]) -> Iterator[str]:
    for key, value in (group.get("rayStartParams") or {}).items():
        if key not in _START:
            yield f"{where}: ray start has no option --{key}"
        if not isinstance(value, str):
            yield f"{where}: rayStartParams.{key} is {value!r}, no text"
    template = group.get("template") or {}
    yield from _fields(f"{where}.template", template, {"metadata": dict, "spec": dict}, "spec")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template.get("metadata", {}), "spec": template.get("spec")}
    yield from (f"{where}: {fault}" for fault in kubernetes_faults(to_yaml(pod)))
    cores = [container.get("resources", {}).get("requests", {}).get("cpu") for container in _containers(template)]
    asked = (group.get("rayStartParams") or {}).get("num-cpus")
    if asked not in (None, "0") and cores and cores[0] is not None and float(asked) > float(cores[0]):
        yield f"{where}: num-cpus {asked} is more than the {cores[0]} cores that its container asks for"


def _containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    found = (template.get("spec") or {}).get("containers", [])
    return found if isinstance(found, list) else []


def _fields(where: str, node: dict[str, Any], known: dict[str, Any], *wanted: str) -> Iterator[str]:
    yield from (f"{where}: unknown field {key}" for key in node if key not in known)
    yield from (f"{where}: {key} is missing" for key in wanted if key not in node)
    for key, value in node.items():
        kind = known.get(key)
        if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            yield f"{where}: {key} is {value!r}, not of its type"
