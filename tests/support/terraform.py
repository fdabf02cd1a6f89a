"""Reads Terraform as its provider would: syntax, arguments of resources, references to what is not declared."""

import json
import re
from typing import Any

import hcl2

from tests.support.deployment import ROOT


def terraform_faults(texts: dict[str, str]) -> list[str]:
    """Syntax, arguments of resources against the provider's own, and references to what is not declared.

    Args:
        texts: all files of the module by name.
    """
    faults: list[str] = []
    parsed = []
    for name, text in texts.items():
        try:
            parsed.append(hcl2.loads(text))
        except Exception as error:  # noqa: BLE001 - lark's errors have no common root that is exported
            return [f"{name}: {' '.join(str(error).split())[:200]}"]
    table = json.loads((ROOT / "tests" / "deploy" / "provider_arguments.json").read_text(encoding="utf-8"))["resources"]
    declared = {"var": set(), "local": set(), "resource": set()}
    for module in parsed:
        for block in module.get("variable", []):
            declared["var"] |= {_bare(key) for key in block if not key.startswith("__")}
        for block in module.get("locals", []):
            declared["local"] |= {_bare(key) for key in block if not key.startswith("__")}
        for block in module.get("resource", []):
            for kind, named in block.items():
                for label, body in named.items():
                    declared["resource"].add((_bare(kind), _bare(label)))
                    if _bare(kind) not in table:
                        faults.append(f"{_bare(kind)}: no such resource in the provider")
                    else:
                        faults += _block_faults(f"{_bare(kind)}.{_bare(label)}", body, table[_bare(kind)])
    # Comments may name anything.
    code = "\n".join(re.sub(r"(?m)^\s*#.*$", "", text) for text in texts.values())
    faults += [f"var.{name} is not declared" for name in set(re.findall(r"\bvar\.([a-z_]+)", code)) - declared["var"]]
    faults += [
        f"local.{name} is not declared" for name in set(re.findall(r"\blocal\.([a-z_]+)", code)) - declared["local"]
    ]
    used = set(re.findall(r"\b(google_[a-z0-9_]+)\.([a-z_]+)\b", code))
    faults += [f"{kind}.{label} is not declared" for kind, label in used - declared["resource"]]
    unused = {name for name in declared["var"] if not re.search(rf"\bvar\.{name}\b", code)}
    return faults + [f"var.{name} is declared and never used" for name in sorted(unused)]


_META = {"for_each", "count", "depends_on", "lifecycle", "provider", "timeouts"}


def _block_faults(where: str, body: dict[str, Any], known: dict[str, Any]) -> list[str]:
    faults = []
    present = set()
    for raw, value in body.items():
        key = _bare(raw)
        if key.startswith("__") or key in _META:
            continue
        if key == "dynamic":
            for block in value:
                for name, dynamic in block.items():
                    present.add(_bare(name))
                    if _bare(name) not in known:
                        faults.append(f"{where}: unknown block {_bare(name)}")
                        continue
                    for content in dynamic["content"]:
                        faults += _block_faults(f"{where}.{_bare(name)}", content, known[_bare(name)]["block"])
            continue
        present.add(key)
        if key not in known:
            faults.append(f"{where}: unknown argument {key}")
        elif known[key]["block"] is not None:
            for block in value if isinstance(value, list) else [value]:
                if isinstance(block, dict):
                    faults += _block_faults(f"{where}.{key}", block, known[key]["block"])
    faults += [f"{where}: {key} is missing" for key, told in known.items() if told["required"] and key not in present]
    return faults


def _bare(name: str) -> str:
    return name.strip('"')
