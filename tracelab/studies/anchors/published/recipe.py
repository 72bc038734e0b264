"""The published Thought Anchors recipe (arXiv:2506.19143): how it samples.

What it computes of the rollouts is in `scores`, `figures` and `matrix`, signs, zeros and quirks
included; `docs/migrating-thought-anchors.md` says what tracelab does instead by default. Pure.
"""

from __future__ import annotations

from tracelab.studies.anchors.published.answers import FORCED_SUFFIX
from tracelab.studies.anchors.published.figures import THRESHOLD

SETTINGS: dict[str, object] = {
    "allocation": "uniform",
    "rollouts": 100,
    "segmenter": "thought-anchors",
    "threshold": THRESHOLD,
    "force_suffix": FORCED_SUFFIX,
    "certificates": False,
    "recycle": False,
    "pooled": False,
}
"""Options that make a run sample as the published recipe does.

Two things of the recipe are not reproduced on purpose: a prefix is cut at the exact token instead
of being joined again with single spaces, and chunk i is taken out at its place only, not wherever
the same string occurs.
"""
