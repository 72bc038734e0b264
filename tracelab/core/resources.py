"""Where the files that are not Python live: `warehouse/`, `configs/`.

In a checkout they stand at the top; a wheel carries them inside the package.
"""

from __future__ import annotations

from pathlib import Path


def resource_dir(name: str) -> Path:
    """Folder of a resource, from a wheel or a checkout."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent / name
