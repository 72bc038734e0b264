"""The kinds of outcomes; files of this folder register them.

Installed packages add theirs through entry points of the group `tracelab.outcomes`.
"""

from __future__ import annotations

from typing import Any

from tracelab.core.registry import Registry

OUTCOMES: Registry[Any] = Registry(
    "kind of outcome", package="tracelab.grading", group="tracelab.outcomes"
)
"""Every kind by name, as classes of `tracelab.grading.rule`; `grading.kind` chooses one."""
