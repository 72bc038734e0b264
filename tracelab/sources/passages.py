"""Rows of answers from documents, in the names of `contexts`: RAGAS, HotpotQA, SQuAD, LangChain.

`understood` maps one row, `rows_of` a document that holds several. Texts of documents are found
wherever the libraries keep them; what a row holds besides stays under its own name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tracelab.core.errors import PlanError
from tracelab.core.messages import text_of
from tracelab.sources.agents.dialects import role_of

CONTEXT = ("context", "contexts", "retrieved_contexts", "source_documents", "documents", "passages",
           "ctxs", "retrieved_documents", "source_nodes", "docs")  # fmt: skip
QUERY = ("query", "question", "user_input", "input", "instruction", "prompt")
RESPONSE = ("response", "answer", "result", "output", "generated_answer", "generation",
            "prediction", "completion")  # fmt: skip
REFERENCE = ("reference", "ground_truth", "ground_truths", "reference_answer", "gold", "answers")
_TITLES = ("title", "source")
_TEXTS = ("text", "page_content", "content", "contents", "passage", "chunk", "body", "document")


def is_passages(record: Mapping[str, Any]) -> bool:
    """Whether a record is documents and a question, under whichever names."""
    if {"messages", "prompt", "conversations"} & set(record):
        return False
    key = next((k for k in CONTEXT if record.get(k)), None)
    if key is None or not _holds_text(record[key]):
        return False
    return key == "context" or any(record.get(k) is not None for k in QUERY)


def rows_of(value: Any) -> Iterator[Any]:
    """The rows of a document: SQuAD's articles, columns of equal length; else the value."""
    held = value.get("data") if isinstance(value, dict) else None
    if isinstance(held, list) and held and all(
        isinstance(a, dict) and isinstance(a.get("paragraphs"), list) for a in held
    ):  # fmt: skip
        for article in held:
            for paragraph in article["paragraphs"]:
                if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                    yield paragraph
                    continue
                for asked in paragraph["qas"]:
                    more = asked if isinstance(asked, dict) else {"question": asked}
                    yield {"context": paragraph.get("context"), **more,
                           "title": article.get("title")}  # fmt: skip
        return
    if isinstance(value, dict) and _in_columns(value):
        size = len(value[next(iter(value))])
        for i in range(size):
            yield {k: v[i] for k, v in value.items()}
        return
    yield value


def is_document(value: Any) -> bool:
    """Whether a document holds rows that `rows_of` finds."""
    held = value.get("data") if isinstance(value, dict) else None
    first = held[0] if isinstance(held, list) and held else None
    articles = isinstance(first, dict) and isinstance(first.get("paragraphs"), list)
    return articles or (isinstance(value, dict) and _in_columns(value))


def _in_columns(value: Mapping[str, Any]) -> bool:
    """A table as lists by column: texts of questions, and lists or texts of contexts."""
    asked = next((value[k] for k in QUERY if isinstance(value.get(k), list)), None)
    given = next((value[k] for k in CONTEXT if isinstance(value.get(k), list)), None)
    return (
        asked is not None and given is not None and len(asked) > 0
        and all(isinstance(q, str) for q in asked)
        and all(isinstance(v, list) and len(v) == len(asked) for v in value.values())
    )  # fmt: skip


def understood(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row with `context`, `query`, `response` and `reference`; a row that has them stays.

    `answer` is what the model said, unless the row is one of a data set whose answers are the
    right ones (HotpotQA, SQuAD).

    Raises:
        PlanError: It has documents and no question.
    """
    if record.get("messages") is not None:
        return dict(record)
    out = dict(record)
    key = next((k for k in CONTEXT if out.get(k) is not None), None)
    if key is None:
        return out
    out["context"] = _documents(out.pop(key))
    asked = next((k for k in QUERY if out.get(k) is not None), None)
    if asked is None:
        raise PlanError(
            "the record has a context and no question: none of " + ", ".join(f"`{k}`" for k in
                                                                            QUERY)
        )  # fmt: skip
    out["query"] = _said_last(out.pop(asked))
    gold = "supporting_facts" in out or isinstance(out.get("answers"), dict | list)
    if out.get("reference") is None:
        named = [k for k in REFERENCE if k != "reference"] + (["answer"] if gold else [])
        for name in named:
            if (right := _answer(out.get(name))) is not None:
                out["reference"] = right
                del out[name]
                break
    if out.get("response") is None:
        named = [k for k in RESPONSE if k != "response" and isinstance(out.get(k), str)]
        if named and not (gold and named[0] == "answer"):
            out["response"] = out.pop(named[0])
    return out


def _said_last(asked: Any) -> Any:
    """A question, or the last that a user said of several messages."""
    if not isinstance(asked, list):
        return asked
    said = [m for m in asked if isinstance(m, dict) and role_of(m) == "user"]
    return text_of(said[-1].get("content"))[0] if said else asked


def _answer(value: Any) -> str | None:
    """A right answer, or the first of several."""
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, list):
        value = value[0] if value else None
        value = value.get("text") if isinstance(value, dict) else value
    return value if isinstance(value, str) and value.strip() else None


def _documents(value: Any) -> Any:
    """Documents as texts and `{title, text}`; what is neither stays, for whoever refuses it."""
    if isinstance(value, dict):
        titles, bodies = value.get("title"), value.get("sentences", value.get("text"))
        if isinstance(titles, list) and isinstance(bodies, list) and len(titles) == len(bodies):
            value = [list(pair) for pair in zip(titles, bodies, strict=True)]  # HotpotQA, columns
        else:
            value = [value]
    return [_document(d) for d in value] if isinstance(value, list) else value


def _document(value: Any) -> Any:
    if isinstance(value, list):  # HotpotQA: [title, [sentence, ...]]
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list | str):
            body = value[1] if isinstance(value[1], str) else _run_on(value[1])
            return value if body is None else {"title": value[0], "text": body}
        return value
    if not isinstance(value, dict):
        return value
    held = [value[k] for k in ("kwargs", "node", "document") if isinstance(value.get(k), dict)]
    inner = held[0] if held else value
    text = next((inner[k] for k in _TEXTS if isinstance(inner.get(k), str)), None)
    if text is None:
        return value
    told = inner.get("metadata")
    places = [inner, value, told if isinstance(told, dict) else {}]
    title = next((p[k] for p in places for k in _TITLES if isinstance(p.get(k), str)
                  and p[k].strip()), None)  # fmt: skip
    return {"text": text, **({"title": title} if title is not None else {})}


def _run_on(sentences: list[Any]) -> str | None:
    """Sentences of one paragraph as its text; they bring their own spaces, or need them."""
    if not all(isinstance(s, str) for s in sentences):
        return None
    spaced = any(s[:1].isspace() or s[-1:].isspace() for s in sentences)
    return ("" if spaced else " ").join(sentences)


def _holds_text(value: Any) -> bool:
    held = _documents(value)
    if isinstance(held, str):
        return bool(held.strip())
    return isinstance(held, list) and any(
        isinstance(d, str) or (isinstance(d, dict) and "text" in d) for d in held
    )
