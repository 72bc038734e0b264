"""Measured, causal answers to "why did the model say that?".

    import tracelab

    found = tracelab.anchors({"prompt": "…", "response": "…"}, model="DIR")
    found.to_df()

`anchors`, `cite`, `audit` and `ingest` do what the commands of these names do, `run_config` what
`tracelab run` does (`tracelab.run` is a package); `open_run` opens what an earlier run found. They
are imported when they are used: `import tracelab` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracelab.core.version import __version__

if TYPE_CHECKING:
    from tracelab.core.errors import TracelabError
    from tracelab.view.api import anchors, audit, cite, ingest, open_run, run_config


__all__ = ["TracelabError", "__version__", "anchors", "audit", "cite", "ingest", "open_run",
           "run_config"]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "TracelabError":
        from tracelab.core import errors

        return errors.TracelabError
    if name in __all__:
        from tracelab.view import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
