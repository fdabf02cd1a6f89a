"""Notices when Python finds somebody else's `preprocess`, `trainer` or `app` instead of interscan's.

interscan installs three top-level packages of these common names. A script `app.py` or a folder `trainer/` in front of
them on Python's path replaces them, and what follows would be an error about a module nobody has heard of.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("preprocess", "trainer", "app")


def require_own_packages(root: Path | None = None) -> None:
    """Make sure that the packages Python finds are those that lie beside this one; imports none of them.

    Args:
        root: the folder that holds them; that of this package when not given.

    Raises:
        ImportError: one is somebody else's; names both files and the remedy.
    """
    root = Path(__file__).parents[1] if root is None else root
    for name in PACKAGES:
        own, found = root / name / "__init__.py", _file_of(name)
        if found is None or found.resolve() != own.resolve():
            raise ImportError(
                f"the package {name!r} that Python finds is {found or 'no file'}, and interscan needs its own, {own}; "
                "rename the other one, or use interscan in an environment of its own, by its command line or over REST "
                "(docs/library.md)",
                name=name,
            )


def _file_of(name: str) -> Path | None:
    """The file that `import name` runs, or has run; None where there is none."""
    try:
        spec = find_spec(name)
    except ValueError:  # imported already, by something that gave it no spec
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
