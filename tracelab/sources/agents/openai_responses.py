"""Calls of OpenAI's APIs as they are logged: Responses, Batch pairs, LiteLLM.

A record is one exchange: what was sent (`input` items or `messages`) and what came (`output` items,
`choices`). It is found bare, under `request`/`response`, under `body` (Batch), or as LiteLLM logs
it. Lines of a Batch output hold no request: they are joined, by `custom_id`, with lines of a Batch
input of the same file or of a file beside it that ends in `_input` or `-input`; without one they
are steps without an input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.messages import text_or_none
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import finish
from tracelab.sources.agents.build import episode_of, first_of
from tracelab.sources.agents.dialects import Plain, items, messages
from tracelab.sources.agents.openai_chat import outcome_of, plain_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, excerpt, refused
from tracelab.sources.files.guess import foreign, one_run
from tracelab.sources.files.records import documents
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import GENERIC, SOURCES

FORMAT = "openai-responses"
_BESIDE = ("_input", "-input", "_requests", "-requests")
_OURS = ("input", "output", "messages", "response", "request", "body", "choices", "tools",
         "instructions", "custom_id", "model", "id", "request_id", "success", "reward", "score",
         "system")  # fmt: skip


def read_exchanges(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each exchange."""
    seen = Seen() if seen is None else seen
    asked: dict[str, dict[str, Any]] = {}
    for beside in _beside(path):
        for _, data, problem in documents(beside, lines=True):
            _keep_request(asked, None if problem else _object(data))
    for number, data, problem in documents(path, lines=Head.of(path).by_line):
        try:
            if problem:
                raise BadRecordError(problem)
            value = decode(data, repair=True)
            if isinstance(value, dict) and _keep_request(asked, value):
                continue
        except Exception as e:
            yield refused(e, str(path), number, data)
            continue
        for n, record in enumerate(value if isinstance(value, list) else [value], 1):
            at = number or (n if isinstance(value, list) else 0)
            try:
                others = foreign(record, FORMAT, path, at, seen) if at else None
                if others is not None:
                    yield from others
                else:
                    yield finish(_episode(record, path, at, asked), seen, excerpt(data))
            except Exception as e:
                yield refused(e, str(path), at, data)


def _beside(path: Path) -> Iterator[Path]:
    stem = path.name.partition(".")[0]
    for end in ("_output", "-output", "_responses", "-responses", "_results", "-results"):
        if stem.endswith(end):
            for mark in _BESIDE:
                other = path.with_name(stem.removesuffix(end) + mark + path.name[len(stem) :])
                if other.is_file():
                    yield other


def _object(data: bytes) -> Any:
    try:
        return decode(data, repair=True)
    except OutsideError:
        return None


def _keep_request(asked: dict[str, dict[str, Any]], value: Any) -> bool:
    """Whether it is a line of a Batch input; it is kept then."""
    if not isinstance(value, dict) or "response" in value:
        return False
    name, body = text_or_none(value.get("custom_id")), value.get("body", value.get("params"))
    if name is None or not isinstance(body, dict):
        return False
    asked[name] = body
    return True


def _episode(record: Any, path: Path, number: int, asked: dict[str, dict[str, Any]]) -> Episode:
    if not isinstance(record, dict):
        raise BadRecordError("The record is not a JSON object.")
    request, response = _sides(record, asked)
    dropped: Counter[str] = Counter()
    plain = _asked(request, dropped) + _answered(response, dropped)
    success, reward = outcome_of(record)
    episode = episode_of(
        plain_steps(plain, request.get("tools") or response.get("tools")), path, number,
        format=FORMAT,
        name=text_or_none(first_of(record, "custom_id", "request_id", "id")),
        model=text_or_none(first_of(response, "model") or first_of(request, "model")
                           or record.get("model")),
        success=success, reward=reward, dropped=dropped,
        meta={k: v for k, v in record.items() if k not in _OURS},
    )  # fmt: skip
    return episode


def _one(record: Any, path: Path, number: int) -> Iterator[Trace]:
    episode = _episode(record, path, number, {})
    yield from one_run(lambda *_: episode)(record, path, number)


def _sides(
    record: dict[str, Any], asked: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was sent, and what came."""
    response = record.get("response", record.get("result"))
    if isinstance(response, str):
        response = _object(response.encode("utf-8", "replace"))
    name = text_or_none(record.get("custom_id"))
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        response = response["body"]
    if isinstance(response, dict) and isinstance(response.get("message"), dict):
        response = response["message"]  # a batch of Anthropic's
    if record.get("error") and not isinstance(response, dict):
        raise BadRecordError("The request failed; there is no response.", "error")
    request = record.get("request", record.get("body"))
    if isinstance(request, dict) and isinstance(request.get("body"), dict):
        request = request["body"]
    if not isinstance(request, dict) and name is not None and response is not None:
        request = asked.get(name, {})
    if not isinstance(request, dict):
        request = record
    return request, response if isinstance(response, dict) else record


def _asked(request: dict[str, Any], dropped: Counter[str]) -> list[Plain]:
    first = request.get("instructions", request.get("system"))
    before = [{"role": "system", "content": first}] if first else []
    if request.get("messages") is not None:
        return before + messages(request["messages"], dropped, "messages")
    if request.get("input") is not None:
        return before + items(request["input"], dropped, "input")
    if request:
        raise BadRecordError("The record holds no request: neither `messages` nor `input`.",
                             "input")  # fmt: skip
    dropped["requests that are not in the batch's output: put its input beside it"] += 1
    return []


def _answered(response: dict[str, Any], dropped: Counter[str]) -> list[Plain]:
    usage = response.get("usage")
    choices = response.get("choices")
    if isinstance(choices, list):
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        if len(choices) > 1:
            dropped["further choices of a response"] += len(choices) - 1
        found = messages([first["message"]], dropped, "choices") if first.get("message") else []
        if not found and isinstance(first.get("text"), str):
            found = [{"role": "assistant", "content": first["text"]}]
    elif isinstance(response.get("output"), list):
        found = items(response["output"], dropped, "output")
    elif isinstance(response.get("content"), list | str):
        found = messages([{"role": "assistant", "content": response["content"]}], dropped)
    else:
        found = []
    if not found:
        raise BadRecordError("The record holds no response: no `choices`, `output` or `content`.",
                             "response")  # fmt: skip
    if isinstance(usage, dict):
        found[0].setdefault("usage", usage)
    return found


def _exchange(record: dict[str, Any]) -> bool:
    response = record.get("response", record.get("result"))
    response = response if isinstance(response, dict) else {}
    sent = isinstance(record.get("messages"), list) or "input" in record or "request" in record
    came = {"choices", "output", "content"} & set(response) and sent
    own = isinstance(record.get("output"), list) and "input" in record
    batch = "custom_id" in record and ("response" in record or "body" in record
                                       or "result" in record)  # fmt: skip
    return bool(came or own or batch or (sent and isinstance(record.get("choices"), list)))


@SOURCES.register(FORMAT, order=GENERIC - 10)
class OpenAIResponses(SourceFormat):
    """Logged calls of a model's API (OpenAI Responses, Batch, LiteLLM), an exchange a record."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_exchanges)
    one = staticmethod(_one)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        return _exchange(head.record)
