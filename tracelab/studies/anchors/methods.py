"""The list of this study's methods. Pure.

A method is one file of this folder: it registers a `cohort.Method` that declares its metrics, asks
for what it needs besides the rollouts that all methods share, and turns what was observed of a
trace into findings. Installed packages add theirs through entry points.
"""

from __future__ import annotations

from typing import Any

from tracelab.core.registry import Registry

METHODS: Registry[Any] = Registry(
    "method", package="tracelab.studies.anchors", group="tracelab.anchors.methods"
)
"""Classes derived from `cohort.Method`, by name."""
