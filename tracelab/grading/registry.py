"""The kinds of outcomes; files of this folder register them.

Installed packages add theirs through entry points of the group `tracelab.outcomes`.
"""

from __future__ import annotations

from tracelab.core.registry import Registry
from tracelab.grading.rule import OutcomeRule

OUTCOMES: Registry[type[OutcomeRule]] = Registry(
    "kind of outcome", package="tracelab.grading", group="tracelab.outcomes"
)
"""Every kind by name; `grading.kind` chooses one."""
