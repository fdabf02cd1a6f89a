"""Writes provider_arguments.json: the arguments of the Terraform resources that deploy/terraform uses.

    pip download --no-deps cdktf-cdktf-provider-google==16.12.1 && python tests/deploy/make_provider_arguments.py WHEEL

Terraform's own validation needs the provider, a program that cannot be had everywhere; the bindings for Python name
the same arguments (provider 6.50) and are read here as text, never imported.
"""

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
TARGET = FOLDER / "provider_arguments.json"


def resources() -> list[str]:
    """Types of all resources in deploy/terraform."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "deploy" / "terraform").glob("*.tf"))]
    return sorted({name for text in texts for name in re.findall(r'^resource "([a-z0-9_]+)"', text, re.MULTILINE)})


def arguments(classes: dict[str, ast.ClassDef], name: str) -> dict[str, Any]:
    """Arguments of one block: whether each is required, and those of the blocks below it."""
    init = next(node for node in classes[name].body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    found = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation is not None else ""
        below = [inner for inner in re.findall(r"'?([A-Z][A-Za-z0-9]+)'?", annotation) if inner in classes]
        known = arguments(classes, below[0]) if below and not below[0].endswith("Reference") else None
        found[argument.arg.rstrip("_")] = {"required": default is None, "block": known}
    return found


def main(wheel: Path) -> None:
    """Read the wheel and write the table."""
    meta = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners", "timeouts"}
    table = {}
    with zipfile.ZipFile(wheel) as files:
        for resource in resources():
            module = resource.removeprefix("google_")
            tree = ast.parse(files.read(f"cdktf_cdktf_provider_google/{module}/__init__.py"))
            classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            name = "".join(part.capitalize() for part in module.split("_")) + "Config"
            table[resource] = {key: value for key, value in arguments(classes, name).items() if key not in meta}
    TARGET.write_text(
        json.dumps({"source": wheel.name, "resources": table}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
