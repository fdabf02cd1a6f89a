"""Which extra of the package a missing module comes with, so that a verb or a function can say what to install."""

from collections.abc import Iterator
from contextlib import contextmanager

from preprocess.errors import UsageError

_EXTRAS = {
    "train": ("sklearn", "matplotlib", "umap", "tensorboard", "jinja2", "safetensors"),
    "serve": ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"),
    "client": ("httpx2",),
    "dicom": ("pydicom",),
    "video": ("av",),
    "s3": ("s3fs",),
    "cluster": ("ray",),
    "imaging": ("SimpleITK",),
}
"""Top-level modules that only verbs and functions of these extras import."""


def missing_extra(module: str | None) -> str:
    """What to install for a module that cannot be imported, as one clause; empty for a module of no extra."""
    top = (module or "").partition(".")[0]
    found = next((extra for extra, modules in _EXTRAS.items() if top in modules), "")
    if not found:
        return ""
    return f"needs {top}, of the extra {found!r}; pip install 'interscan[{found}]', or take the image that has it"


@contextmanager
def naming_extras(what: str) -> Iterator[None]:
    """Turn a missing package of an extra into one line that says what to install.

    Args:
        what: needs the package, for example a function's name.

    Raises:
        UsageError: a package of an extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        reason = missing_extra(error.name)
        if not reason:
            raise
        raise UsageError(f"{what} {reason}") from error
