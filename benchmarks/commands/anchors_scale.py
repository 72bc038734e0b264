"""`python -m benchmarks anchors-scale`."""

from __future__ import annotations

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("anchors-scale", order=50)
def anchors_scale() -> Figures:
    """Seconds to plan, count and estimate one long trace.

    300 sentences, 30,000 tokens, 5,000 rollouts; no model runs.

    \b
    Example:
      python -m benchmarks anchors-scale
    """
    from benchmarks.anchors.scale import measure, show

    return Figures(measure(), show)
