"""What every section of options shares. Pure.

A section is a pydantic model: one declaration is the config section, the command's options (the
docstring under a field is its help) and the keywords of the Python API.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every config section: no unknown keys, no later changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
