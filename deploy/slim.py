"""Makes an installed environment small without losing a function, then writes the bytecode that it will need.

python3 slim.py ENVIRONMENT TARGET

What goes: test suites, headers, static libraries and build files, symbols of libraries, and two parts of Arrow that
nothing here speaks: Flight (a network protocol) and its own client of S3 (s3:// goes through fsspec). What stays
although it looks spare: torch's shared-memory manager, pyarrow's substrait library, which its data set module links,
and most of `torch.testing`, which MONAI imports. Bytecode of all files would double the size of the Python part; none
would double the time of a start, since a read-only image can never write any. So the modules that the target's program
imports are imported once.
"""

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE_FOLDER = "/opt/package"
"""Where the Dockerfile puts the project itself; reached by a .pth file."""
_FOLDERS = (
    *("torch/include", "torch/share", "torch/test", "pyarrow/include", "pyarrow/src", "pyarrow/tests"),
    *("torch/testing/_internal/distributed", "torch/testing/_internal/generated", "torch/testing/_internal/opinfo"),
)
_FILES = (
    "torch/lib/*.a",
    "torch/lib/*_test.so",
    "torch/lib/libjitbackend*",
    "torch/bin/protoc*",
    "torch/testing/_internal/common_methods_invocations.py",
    "torch/bin/*[tT]est*",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/_flight*",
    "pyarrow/libarrow_s3*",
    "pyarrow/_s3fs*",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pxi",
    "**/*.h",
    "**/*.hpp",
    "numpy/**/*.a",
)
_TESTED = (
    *(
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "nibabel",
        "networkx",
        "sympy",
        "numba",
        "umap",
        "monai",
        "zarr",
        "fsspec",
    ),
    *("pydicom",),
)
"""Packages that bring folders called `tests`; elsewhere the name may mean something else."""
_SHARED = (
    *("torch", "monai.data", "monai.transforms", "scipy.ndimage", "nibabel", "zarr", "gcsfs", "pyarrow.parquet"),
    *("cyclopts", "rich.progress", "PIL.Image"),
)
_IMPORTED = {
    "app": (
        *("torch.export", "torch.jit", "pyarrow.compute", "fastapi", "uvicorn", "multipart", "prometheus_client"),
        *("pydantic_settings", "pydicom", "pydicom.pixels"),
    ),
    "preprocess": ("pydicom", "pydicom.pixels", "av"),
    "trainer": (
        *("torch.export", "torch.utils.tensorboard", "monai.networks.nets", "sklearn.pipeline", "sklearn.linear_model"),
        *("sklearn.covariance", "sklearn.model_selection", "matplotlib.figure", "umap", "jinja2", "safetensors.torch"),
    ),
}


def slim(packages: Path) -> None:
    """Remove what no program of ours reads."""
    for name in _FOLDERS:
        shutil.rmtree(packages / name, ignore_errors=True)
    for pattern in _FILES:
        for path in packages.glob(pattern):
            path.unlink()
    for library in packages.glob("**/*.so*"):
        # Libraries that auditwheel has renamed (`*.libs`) are damaged by it.
        if library.is_file() and not library.relative_to(packages).parts[0].endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", library], check=True)
    for package in _TESTED:
        for folder in sorted((packages / package).glob("**/tests")):
            shutil.rmtree(folder, ignore_errors=True)


def main(environment: Path, target: str) -> None:
    """Slim the environment and import what the target needs."""
    packages = next(environment.glob("lib/python*/site-packages"))
    slim(packages)
    (packages / "interscan.pth").write_text(PACKAGE_FOLDER + "\n", encoding="utf-8")
    modules = (*_SHARED, *_IMPORTED[target])
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in modules)
    # -B is not given and PYTHONDONTWRITEBYTECODE is emptied: this is the one time that bytecode is written.
    subprocess.run([environment / "bin" / "python", "-c", code], check=True, env={"HOME": "/build", "PATH": "/usr/bin"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
