"""The formats that can be read; each file of this folder registers what it reads.

Installed packages add theirs through entry points of the group `tracelab.sources`.
"""

from __future__ import annotations

from tracelab.core.registry import Registry
from tracelab.sources.base import SourceFormat

SOURCES: Registry[type[SourceFormat]] = Registry(
    "format", package="tracelab.sources", group="tracelab.sources"
)
"""Every format by name. `auto` takes the first one, in this order, that recognises a file: those
with unmistakable marks come first, then formats of other packages, then what could be many things.
"""
GENERIC = 200
"""Order of formats that would also recognise the files of more special ones."""
