"""Reads Prometheus' rules and configuration and Grafana's dashboards: fields, durations, expressions, metrics."""

import json
import re

from tests.support.deployment import documents, schema_faults

_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ALERTS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["groups"],
    "properties": {
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "rules"],
                "properties": {
                    "name": {"type": "string"},
                    "interval": _DURATION,
                    "rules": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["alert", "expr", "labels", "annotations"],
                            "properties": {
                                "alert": {"type": "string"},
                                "expr": {"type": "string"},
                                "for": _DURATION,
                                "labels": _TEXTS,
                                "annotations": _TEXTS,
                            },
                        },
                    },
                },
            },
        }
    },
}
_PROMETHEUS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["scrape_configs"],
    "properties": {
        "global": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"scrape_interval": _DURATION, "evaluation_interval": _DURATION},
        },
        "rule_files": {"type": "array", "items": {"type": "string"}},
        "scrape_configs": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["job_name", "static_configs"],
                "properties": {
                    "job_name": {"type": "string"},
                    "metrics_path": {"type": "string"},
                    "scrape_interval": _DURATION,
                    "static_configs": {"type": "array"},
                },
            },
        },
    },
}
_DASHBOARD = {
    "type": "object",
    "required": ["title", "uid", "schemaVersion", "panels"],
    "properties": {
        "panels": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "gridPos", "targets"],
                "properties": {
                    "targets": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "object", "required": ["refId", "expr"]},
                    }
                },
            },
        }
    },
}


def alert_faults(text: str) -> list[str]:
    """Prometheus' rule files: fields, durations, and brackets and operators of each expression."""
    document = documents(text)[0]
    faults = schema_faults(_ALERTS, document)
    for group in document.get("groups", []):
        faults += [fault for rule in group["rules"] for fault in expression_faults(str(rule.get("expr", "")))]
    return faults


def prometheus_faults(text: str) -> list[str]:
    """What Prometheus' configuration may hold, as far as ours uses it."""
    return schema_faults(_PROMETHEUS, documents(text)[0])


def dashboard_faults(text: str) -> list[str]:
    """What Grafana needs of a dashboard, and the expressions in it."""
    document = json.loads(text)
    faults = schema_faults(_DASHBOARD, document)
    for panel in document.get("panels", []):
        faults += [fault for target in panel.get("targets", []) for fault in expression_faults(target["expr"])]
    return faults


def expression_faults(expression: str) -> list[str]:
    """Brackets that do not match, and label matchers that are none."""
    depth = {"(": 0, "{": 0, "[": 0}
    closing = {")": "(", "}": "{", "]": "["}
    for character in re.sub(r'"[^"]*"', '""', expression):
        if character in depth:
            depth[character] += 1
        elif character in closing:
            depth[closing[character]] -= 1
    faults = [f"{expression}: {name} does not match" for name, count in depth.items() if count]
    for matchers in re.findall(r"\{([^}]*)\}", expression):
        given = filter(None, (part.strip() for part in matchers.split(",")))
        wrong = [matcher for matcher in given if not re.fullmatch(r'[a-z_]+(=|!=|=~|!~)"[^"]*"', matcher)]
        faults += [f"{expression}: {matcher!r} is no label matcher" for matcher in wrong]
    return faults


def metrics_in(expression: str) -> set[str]:
    """Names of the project's metrics in an expression."""
    return set(re.findall(r"\b(interscan_[a-z_]+)", expression))
