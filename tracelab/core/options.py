"""What every section of options shares. Pure.

A section is a pydantic model: one declaration is the config section, the command's options (the
docstring under a field is its help) and the keywords of the Python API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from tracelab.core.secrets import key_variable, plain_url

KeyVariable = Annotated[str, AfterValidator(key_variable)]
"""A config key that names the environment variable of a key."""
PlainUrl = Annotated[str, AfterValidator(plain_url)]
"""A config key that is the URL of an endpoint."""


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
