"""Logged samples of lm-evaluation-harness (`samples_*.jsonl`): prompts, responses, metrics.

The prompt is what the model was given, template and all, so it is used as it is; chat models behind
an API were given messages. Tasks that score choices by log-likelihood hold no text and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_of, text_or_none
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources.agents.dialects import messages
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.records import traces_of_records
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "lm-eval"
_METRICS = ("exact_match", "acc", "math_verify", "pass@1", "correct")
_OURS = ("arguments", "resps", "target", "doc_id")


def read_samples(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the traces, or the reject, of each sample: a trace a response."""
    return traces_of_records(path, seen, _traces, FORMAT)


def _traces(row: dict[str, Any], path: Path, number: int) -> Iterator[Trace]:
    if not isinstance(row.get("resps"), list):
        raise BadRecordError("`resps` is missing or not a list.", "resps")
    turns, raw = _asked(row.get("arguments"))
    first = row["resps"][0] if row["resps"] else None
    said = first if isinstance(first, list) else [first]
    said = [t[0] if isinstance(t, list) and t else t for t in said]
    if not said or not all(isinstance(t, str) for t in said):
        raise BadRecordError(
            "The task scores choices by log-likelihood; it holds no text.", "resps"
        )
    name = f"doc {row['doc_id']}" if row.get("doc_id") is not None else f"{path.name}:{number}"
    success = _success(row) if len(said) == 1 else None
    rest = {k: v for k, v in row.items() if k not in _OURS}
    for k, text in enumerate(said):
        if not text.strip():
            raise BadRecordError("The response is empty.", "resps")
        yield Trace(
            turns=(*turns, Turn("assistant", text)),
            name=name if len(said) == 1 else f"{name}#{k}",
            reference=text_or_none(row.get("target")),
            success=success,
            rendering="raw" if raw else "chat",
            source=str(path),
            extra=rest,
            line=number,
        )


def _asked(arguments: Any) -> tuple[tuple[Turn, ...], bool]:
    """The prompt, and whether it is the exact text."""
    if isinstance(arguments, Mapping):  # {"gen_args_0": {"arg_0": prompt, …}}
        arguments = [list(v.values()) if isinstance(v, Mapping) else v for v in arguments.values()]
    first = arguments[0] if isinstance(arguments, list) and arguments else None
    prompt = first[0] if isinstance(first, list) and first else first
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt.lstrip().startswith('[{"role"'):
        try:
            prompt = decode(prompt.encode("utf-8", "replace"), repair=True)
        except OutsideError:
            pass
    if isinstance(prompt, list):
        told = messages(prompt)
        return tuple(Turn(m["role"], text_of(m.get("content"))[0]) for m in told), False
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRecordError("`arguments` holds no prompt.", "arguments")
    return (Turn("user", prompt),), True


def _success(row: Mapping[str, Any]) -> bool | None:
    """What the harness says, where one metric says yes or no."""
    named = row.get("metrics")
    names = [n for n in (named if isinstance(named, list) else _METRICS) if isinstance(n, str)]
    found = [row[n] for n in names if row.get(n) in (0, 1, True, False)]
    return bool(found[0]) if found else None


@SOURCES.register(FORMAT, order=40)
class LmEval(SourceFormat):
    """Logged samples of lm-evaluation-harness, a trace a response."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_samples)
    one = staticmethod(_traces)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        return {"doc_id", "resps", "arguments"} <= set(head.record)
