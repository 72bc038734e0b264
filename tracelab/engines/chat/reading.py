"""What a chat endpoint replied: choices, each a message or the reason why it is none. Pure.

    malformed   not the API's JSON, or not what was asked
    missing     fewer choices than were asked
    declined    the model refuses, and says so
    filtered    the provider cut it out
    refused     an error, although the status is 200

Whatever a server makes of the API is one of these; nothing here raises anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracelab.core.item import FinishReason
from tracelab.core.messages import reasoning_of, text_of
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import EndpointError

_FILTERED = frozenset({"content_filter", "safety", "recitation"})
_LENGTH = frozenset({"length", "max_tokens"})
_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them; None where it does not tell."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One of the replies to a request.

    Attributes:
        message: As a log would hold it: `content` is a text, `tool_calls` as they came.
        finish_reason: `length` where the limit of tokens cut it.
        reasoning: What the model thought, where the server keeps it apart; else empty.
    """

    message: Mapping[str, Any]
    finish_reason: FinishReason
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class ReadReply:
    """A reply.

    Attributes:
        choices: One for each that was asked, in order.
        usage: What it took.
        model: The model that answered, as it calls itself; empty where it does not say.
        fingerprint: Of what served it; empty likewise.
    """

    choices: list[ChatChoice | EndpointError]
    usage: Usage
    model: str = ""
    fingerprint: str = ""


def usage_of(content: bytes) -> Usage:
    """What a reply says of its tokens, whatever else it is."""
    try:
        said = decode(content, repair=True)["usage"]
        details = said.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        found = (said.get("prompt_tokens"), said.get("completion_tokens"), cached)
    except (ValueError, LookupError, TypeError, AttributeError):
        return Usage()
    return Usage(*(n if type(n) is int and 0 <= n < 1 << 31 else None for n in found))


def read_reply(content: bytes, n: int) -> ReadReply:
    """Read a reply of status 200.

    Args:
        content: Its body; hostile.
        n: Choices that were asked for.

    Raises:
        EndpointError: None of them can be had.
    """
    try:
        data = decode(content, repair=True)
    except OutsideError as e:
        raise EndpointError("malformed", f"not a completion: {e}") from None
    if not isinstance(data, dict):
        raise EndpointError("malformed", "not a completion")
    if isinstance(said := data.get("error"), dict | str) and said and not data.get("choices"):
        why = said.get("message") if isinstance(said, dict) else said
        raise EndpointError("refused", " ".join(str(why).split())[:_EXCERPT])
    listed = data.get("choices")
    if not isinstance(listed, list) or not listed:
        raise EndpointError("malformed", "the completion has no choices")
    if len(listed) > n:
        raise EndpointError("malformed", f"{len(listed)} choices came, and {n} was asked for")
    found: dict[int, ChatChoice | EndpointError] = {}
    for place, choice in enumerate(listed):
        index = choice.get("index", place) if isinstance(choice, dict) else place
        if type(index) is not int or not 0 <= index < n or index in found:
            raise EndpointError("malformed", f"choice {place + 1} has the index {index!r:.20}")
        try:
            found[index] = _choice(choice)
        except EndpointError as e:
            found[index] = e
    few = f"{len(found)} of {n} choices came (engine.server.choices = 1 asks for one at a time)"
    choices = [found.get(i) or EndpointError("missing", few) for i in range(n)]
    named = [
        v if isinstance(v := data.get(k), str) else "" for k in ("model", "system_fingerprint")
    ]
    return ReadReply(choices, usage_of(content), *named)


def _choice(choice: Any) -> ChatChoice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise EndpointError("malformed", "a choice has no message")
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower() in _FILTERED:
        raise EndpointError("filtered", f"the provider's filter cut the reply ({reason})")
    if (refusal := message.get("refusal")) is not None and refusal != "":
        raise EndpointError("declined", " ".join(str(refusal).split())[:_EXCERPT])
    if not isinstance(reason, str) or not reason or reason == "error":
        raise EndpointError("malformed", f"a choice has the finish_reason {reason!r:.40}")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise EndpointError("malformed", "the message's tool_calls are no list")
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise EndpointError("malformed", "a tool call has no function with a name")
    content = message.get("content")
    if "content" not in message and not calls and not message.get("function_call"):
        raise EndpointError("malformed", "the message has neither content nor tool calls")
    if not isinstance(content, str | list | None):
        raise EndpointError("malformed", "the message's content is no text")
    text, flags = text_of(content)
    if "non_text" in flags:
        raise EndpointError("malformed", "the message has parts that are no text")
    kept = {k: message[k] for k in ("tool_calls", "function_call") if message.get(k)}
    finish: FinishReason = "length" if reason.lower() in _LENGTH else "stop"
    return ChatChoice({"role": "assistant", "content": text, **kept}, finish, reasoning_of(message))
