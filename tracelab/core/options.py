"""What every section of options shares. Pure.

A section is a pydantic model: one declaration is the config section, the command's options (the
docstring under a field is its help) and the keywords of the Python API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every config section: no unknown keys, no later changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    may_change: ClassVar[tuple[str, ...]] = ()
    """Keys that may differ when a run is continued: they ask for more of the same, or only for
    other numbers from the same observations."""
    grows: ClassVar[tuple[str, ...]] = ()
    """Those of them that only grow: a run that is continued with less keeps what it has."""
    names: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {}
    """For keys whose values are names of a registry: who knows them, for help and completion."""
