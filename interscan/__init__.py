"""What changed between two scans: the program `interscan`, and the door for programs that use it as a library.

    from interscan import VolumeStream, load_artefact, objectives, open_store, predict_pair, predict_trajectory

A name is imported at its first use, so that `import interscan` loads neither torch nor zarr. docs/library.md has the
examples. Everything else in the packages preprocess, trainer, app and interscan may change between versions.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interscan import objectives as objectives
    from interscan.client import Client as Client
    from interscan.client_calls import ServiceError as ServiceError
    from interscan.library import grid_to_scan as grid_to_scan
    from interscan.library import load_artefact as load_artefact
    from interscan.library import open_store as open_store
    from interscan.library import predict_pair as predict_pair
    from interscan.library import predict_trajectory as predict_trajectory
    from interscan.library import volume_to_nifti as volume_to_nifti
    from interscan.stream import VolumeStream as VolumeStream
    from preprocess.errors import InterscanError as InterscanError
else:
    # Hidden from type checkers, to whom a module with __getattr__ has every name, misspelt ones too.
    def __getattr__(name: str) -> object:
        """The public name's value, imported now and kept."""
        from importlib import import_module

        from interscan.collisions import require_own_packages

        if name not in _HOMES:
            raise AttributeError(f"module 'interscan' has no attribute {name!r}; it has {', '.join(__all__)}")
        require_own_packages()
        module = import_module(_HOMES[name])
        value = module if _HOMES[name].endswith(f".{name}") else getattr(module, name)
        globals()[name] = value
        return value


__all__ = [
    "Client",
    "InterscanError",
    "ServiceError",
    "VolumeStream",
    "grid_to_scan",
    "load_artefact",
    "objectives",
    "open_store",
    "predict_pair",
    "predict_trajectory",
    "volume_to_nifti",
]
_HOMES = {
    "Client": "interscan.client",
    "InterscanError": "preprocess.errors",
    "ServiceError": "interscan.client_calls",
    "VolumeStream": "interscan.stream",
    "grid_to_scan": "interscan.library",
    "load_artefact": "interscan.library",
    "objectives": "interscan.objectives",
    "open_store": "interscan.library",
    "predict_pair": "interscan.library",
    "predict_trajectory": "interscan.library",
    "volume_to_nifti": "interscan.library",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
