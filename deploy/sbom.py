"""Writes a bill of materials (CycloneDX) for each image from its locked requirements: `make sbom`, into dist/sbom/."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("app", "trainer", "preprocess")


def bill(target: str) -> dict[str, Any]:
    """The bill of one image: everything that is locked, torch, which its index pins, and the project itself.

    Raises:
        subprocess.CalledProcessError: the lock cannot be read.
    """
    lock = ROOT / "deploy" / "requirements" / f"{target}.txt"
    torch = re.search(r"(?m)^ARG TORCH=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert torch is not None, "the Dockerfile pins torch"
    text = lock.read_text(encoding="utf-8") + f"torch=={torch[1]}\n"
    command = [
        *(sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(ROOT / "pyproject.toml")),
        *("--output-reproducible", "--output-format", "JSON", "-"),
    ]
    made = subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def main(folder: Path) -> None:
    """Write all bills."""
    folder.mkdir(parents=True, exist_ok=True)
    for target in TARGETS:
        text = json.dumps(bill(target), indent=1, sort_keys=True)
        (folder / f"{target}.cdx.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "sbom")
