"""Which extra of the package a missing module comes with, so that a verb can say what to install."""

_EXTRAS = {
    "train": ("sklearn", "matplotlib", "umap", "tensorboard", "jinja2", "safetensors"),
    "serve": ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"),
    "dicom": ("pydicom",),
    "video": ("av",),
    "s3": ("s3fs",),
    "cluster": ("ray",),
    "imaging": ("SimpleITK",),
}
"""Top-level modules that only verbs of these extras import."""


def missing_extra(module: str | None) -> str:
    """What to install for a module that cannot be imported, as one clause; empty for a module of no extra."""
    top = (module or "").partition(".")[0]
    found = next((extra for extra, modules in _EXTRAS.items() if top in modules), "")
    if not found:
        return ""
    return f"needs {top}, of the extra {found!r}; pip install 'interscan[{found}]', or take the image that has it"
