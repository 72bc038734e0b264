"""The kinds of environments; each file of this folder registers its own.

Installed packages add theirs through entry points of the group `tracelab.environments`.
"""

from __future__ import annotations

from tracelab.core.registry import Registry
from tracelab.environments.base import EnvironmentKind

ENVIRONMENTS: Registry[type[EnvironmentKind]] = Registry(
    "environment", package="tracelab.environments", group="tracelab.environments"
)
"""Every kind by name. A spec belongs to the first one, in this order, that matches it."""
GENERIC = 200
"""Order of kinds that match whole families of names."""
