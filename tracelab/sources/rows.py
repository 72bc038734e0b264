"""Rows of data sets of reasoning: ShareGPT, s1K, OpenR1, OpenThoughts, GSM8K and their kind.

Columns are found by name, whatever the data set: a question, a response, its reasoning where it has
a column of its own, the right answer. A row with several generations is a trace each. What a row
holds besides stays in `extra`, under its own name. The response is spelled as a reasoning model
writes it: reasoning between `<think>` tags, then the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracelab.core.messages import reasoning_of, text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources.agents.dialects import messages
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.records import traces_of_records
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import GENERIC, SOURCES
from tracelab.text.tags import blocks, with_reasoning

FORMAT = "dataset-rows"
QUESTION = ("question", "problem", "query", "instruction", "prompt", "input", "task")
RESPONSE = ("response", "completion", "generation", "model_output", "model_response", "output",
            "attempt", "deepseek_attempt", "deepseek_solution", "prediction", "generated_solution",
            "solution", "generated_text")  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "thinking", "thoughts", "deepseek_reasoning",
             "deepseek_thinking_trajectory", "thinking_trajectories", "cot", "chain_of_thought",
             "rationale")  # fmt: skip
REFERENCE = ("reference", "ground_truth", "gold", "gold_answer", "expected_answer", "expected",
             "correct_answer", "reference_answer", "target", "answer", "final_answer")  # fmt: skip
SUCCESS = ("success", "is_correct", "correct", "passed")
_MANY = ("generations", "responses", "completions", "samples")
_VERDICTS = ("correctness_math_verify", "correctness", "is_reasoning_complete")
_DIALOGUE = ("conversations", "conversation", "dialogue", "dialog")
_NAME = ("id", "uuid", "idx", "index", "problem_id", "question_id", "task_id")
_MARK = "####"


def read_rows(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the traces, or the reject, of each row."""
    return traces_of_records(path, seen, traces_of, FORMAT)


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    success: bool | None = None


def traces_of(row: dict[str, Any], path: Path, number: int) -> Iterator[Trace]:
    """The traces of one row, a generation each.

    Raises:
        BadRecordError: It has no question or no response.
    """
    used: set[str] = set()
    dropped: Counter[str] = Counter()
    before, said = _dialogue(row, used, dropped)
    if not before:
        before = _question(row, used)
    if not said:
        said = _responses(row, used)
    reference = _column(row, REFERENCE, used)
    if reference is not None and _MARK in reference:
        reference = reference.rsplit(_MARK, 1)[1].strip()
    if (system := text_or_none(row.get("system"))) and before[0].role != "system":
        used.add("system")
        before = (Turn("system", system), *before)
    name = _column(row, _NAME, used) or f"{path.name}:{number}"
    model = _column(row, ("model", "generator", "model_name"), used)
    success = next((row[k] for k in SUCCESS if isinstance(row.get(k), bool)), None)
    rest = {k: v for k, v in row.items() if k not in used and k not in SUCCESS}
    if dropped:
        rest["dropped"] = dict(dropped)
    for k, one in enumerate(said):
        yield Trace(
            turns=(*before, Turn("assistant", one.text)),
            name=name if len(said) == 1 else f"{name}#{k}",
            model=model,
            reference=reference,
            success=success if one.success is None else one.success,
            source=str(path),
            extra=rest,
            line=number,
        )


def _column(row: Mapping[str, Any], names: tuple[str, ...], used: set[str]) -> str | None:
    """The first column of some names that holds a text or number, marked as used."""
    for name in names:
        if name not in used and (held := text_or_none(row.get(name))) is not None:
            used.add(name)
            return held
    return None


def _dialogue(
    row: Mapping[str, Any], used: set[str], dropped: Counter[str]
) -> tuple[tuple[Turn, ...], list[_Said]]:
    """Turns before the last of an assistant's, and that one, of a row that holds a conversation."""
    key = next((k for k in _DIALOGUE if isinstance(row.get(k), list) and row[k]), None)
    if key is None:
        return (), []
    used.add(key)
    turns = []
    for message in messages(row[key], dropped):
        if message["role"] not in ("system", "user", "assistant") or message.get("tool_calls"):
            raise BadRecordError(
                f"`{key}` holds tools, so it is an agent's run: give --format openai-chat.", key
            )
        text = text_of(message.get("content"))[0]
        if message["role"] == "assistant" and (thought := reasoning_of(message)):
            text = spelled(thought, text)
        turns.append(Turn(message["role"], text))
    if turns[-1].role != "assistant":
        raise BadRecordError(f"`{key}` does not end with a response.", key)
    if len(turns) < 2:
        raise BadRecordError(f"`{key}` holds no question.", key)
    return tuple(turns[:-1]), [_Said(turns[-1].text)]


def _question(row: Mapping[str, Any], used: set[str]) -> tuple[Turn, ...]:
    asked = _column(row, QUESTION, used)
    if asked is None:
        raise BadRecordError("The row has no question: none of " + ", ".join(QUESTION) + ".")
    more = text_or_none(row.get("input"))
    if "instruction" in used and more and "input" not in used:  # Alpaca
        used.add("input")
        asked = f"{asked}\n\n{more}"
    return (Turn("user", asked),)


def _responses(row: Mapping[str, Any], used: set[str]) -> list[_Said]:
    for key in _MANY:
        held = row.get(key)
        if isinstance(held, list) and held and all(isinstance(t, str) for t in held):
            used.add(key)
            right = next((row[k] for k in _VERDICTS[:2] if isinstance(row.get(k), list)
                          and len(row[k]) == len(held)), [None] * len(held))  # fmt: skip
            return [_Said(t, r if isinstance(r, bool) else None)
                    for t, r in zip(held, right, strict=True)]  # fmt: skip
    thought = _thought(row, used)
    text = _column(row, RESPONSE, used)
    if text is None and "answer" in row and isinstance(row["answer"], str):
        # GSM8K: the worked solution and the right answer are one column.
        text = text_or_none(row["answer"]) if thought or _MARK in row["answer"] else None
    if text is None and thought is None:
        raise BadRecordError("The row has no response: none of " + ", ".join(RESPONSE) + ".")
    return [_Said(spelled(thought, text or "") if thought else text or "")]


def _thought(row: Mapping[str, Any], used: set[str]) -> str | None:
    for key in REASONING:
        held = row.get(key)
        if isinstance(held, list) and held and all(isinstance(t, str) for t in held):
            held = held[0] if len(held) == 1 else "\n\n".join(held)
        if isinstance(held, str) and held.strip():
            used.add(key)
            return held
    return None


def spelled(thought: str, text: str) -> str:
    """A response with its reasoning; one that has its reasoning inside stays."""
    return text if blocks(text) else with_reasoning(thought.strip(), text)


def is_row(record: Mapping[str, Any]) -> bool:
    """Whether a record looks like a row: not like plain JSONL, a context, or an agent's run."""
    if any(isinstance(record.get(k), list) for k in _DIALOGUE):
        return True
    if {"messages", "context", "contexts", "documents", "steps", "target"} & set(record):
        return False
    plain = isinstance(record.get("prompt"), str) and (
        isinstance(record.get("response"), str) or "problem" not in record
    )
    asked = any(isinstance(record.get(k), str) for k in ("question", "problem", "instruction"))
    answered = any(record.get(k) for k in (*RESPONSE, *_MANY, *REASONING)) or (
        isinstance(record.get("answer"), str) and _MARK in record["answer"]
    )
    return asked and bool(answered) and not plain


@SOURCES.register(FORMAT, order=GENERIC + 5)
class DatasetRows(SourceFormat):
    """Rows of data sets of reasoning (ShareGPT, s1K, OpenR1, GSM8K, …), columns found by name."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_rows)
    one = staticmethod(traces_of)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        return is_row(head.record)
