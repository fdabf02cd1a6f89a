"""Writes the hash-locked requirements of the images: `make lock`, after a change of pyproject.toml.

torch is left out, and with it the CUDA libraries that one of its builds asks for: the Dockerfile installs torch from
the index that fits the machine. Everything else is pinned with the hashes of all its files, so that an image is the
same whoever builds it, and a file that was exchanged on the way is refused.
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
EXTRAS = {"app": ("serve", "dicom"), "trainer": ("train",), "preprocess": ("dicom", "video")}
"""By target of the Dockerfile: what its program can do beside the core."""
PYTHON = "3.11"
_OF_TORCH = re.compile(r"^(torch|triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==", re.MULTILINE)


def compile_lock(extras: tuple[str, ...], *options: str) -> str:
    """What `uv pip compile` makes of the core and some extras.

    Raises:
        subprocess.CalledProcessError: no set of versions fits, or an index cannot be reached.
    """
    chosen = [part for extra in extras for part in ("--extra", extra)]
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade"),
        *("--python-version", PYTHON, "--python-platform", "x86_64-unknown-linux-gnu"),
        *("--constraints", str(ROOT / "constraints.txt"), *chosen, *options, str(ROOT / "pyproject.toml")),
    ]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Write all locks."""
    for target, extras in EXTRAS.items():
        surplus = sorted({match[1] for match in _OF_TORCH.finditer(compile_lock(extras))})
        left_out = [part for name in surplus for part in ("--no-emit-package", name)]
        lock = compile_lock(extras, "--generate-hashes", *left_out)
        heading = f"# The image `{target}` without torch, for Python {PYTHON}; written by `make lock`.\n"
        (FOLDER / f"{target}.txt").write_text(heading + lock, encoding="utf-8")
    # What builds the wheel of the project itself.
    build = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade"),
            *("--python-version", PYTHON, "--generate-hashes", "-"),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        input="hatchling\npip\n",
    ).stdout
    (FOLDER / "build.txt").write_text(f"# What builds an image; written by `make lock`.\n{build}", encoding="utf-8")


if __name__ == "__main__":
    main()
