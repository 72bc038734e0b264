"""Records of contexts: every line is one, or a reject that says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read
from tracelab.sources.context import read_contexts, read_one
from tracelab.sources.context_testbed import contexts
from tracelab.studies.cite.cut import Cut, context_of
from tracelab.testbed import problems

GOOD = {"context": "A is 1. B is 2.", "query": "A?", "response": "A is 1."}


def lines(tmp_path: Path, *rows: object) -> list[Trace | Reject]:
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return list(read_contexts(path))


def test_records_of_every_shape(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    chat = [{"role": "user", "content": "Go."}, call, {"role": "tool", "content": "4."}]
    found = lines(
        tmp_path,
        GOOD,
        {**GOOD, "context": ["A is 1.", {"title": "Two", "text": "B is 2."}], "id": "docs"},
        {"messages": [*chat, {"role": "assistant", "content": "It is 4."}]},
        {"messages": [*chat, call], "target": "action"},
        {"messages": chat},
        {**GOOD, "sources": [[0, 7]], "roles": [[0, 7, "needed"]], "template": "{context}?"},
    )
    assert all(isinstance(r, Trace) for r in found), found
    one, docs, said, acts, silent, ranges = (r for r in found if isinstance(r, Trace))
    assert one.turns[0].text == "Context: A is 1. B is 2.\n\nQuery: A?"
    assert (one.name, one.line, one.response) == ("c.jsonl:1", 1, "A is 1.")
    assert docs.name == "docs"
    assert [h.document for h in context_of(docs, Cut()).headers] == [1]
    assert said.response == "It is 4."
    assert acts.turns[-1].fields["tool_calls"] == call["tool_calls"]
    assert acts.extra["target"] == "action"
    assert not silent.answered
    assert [s.text for s in context_of(silent, Cut()).sources] == ["Go.", "4."]
    assert [(s.text, s.role) for s in context_of(ranges, Cut()).sources] == [("A is 1.", "needed")]


def test_what_looks_like_contexts_is_read_as_such(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "Yes."}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    tools = [chat[0], call, {"role": "tool", "content": "4."}, chat[1]]
    for row in (GOOD, {"messages": chat, "target": "Yes."}, {"messages": tools, "target": "Yes."}):
        lines(tmp_path, row)
        (found,) = read(tmp_path / "c.jsonl")
        assert isinstance(found, Trace) and ("target" in found.extra or "query" in found.extra)
    for row in ({"messages": chat}, {"prompt": "q", "response": "a", "context": "mine"}):
        lines(tmp_path, row)
        (found,) = read(tmp_path / "c.jsonl")
        assert isinstance(found, Trace) and "documents" not in found.extra


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({**GOOD, "context": " \n"}, "the context is empty, so there is nothing"),
        ({**GOOD, "context": []}, "the context is empty"),
        ({**GOOD, "context": 3}, "`context` must be a string or a list"),
        ({**GOOD, "context": ["a", 3]}, "`context[1]` must be"),
        ({"query": "x"}, "neither `context` nor `messages`"),
        ({**GOOD, "messages": []}, "both `context` and `messages`"),
        ({**GOOD, "response": ""}, "`response` is empty"),
        ({**GOOD, "response": 3}, "`response` must be a string"),
        ({**GOOD, "sources": [[0, 5], [4, 99]]}, "source 4 to 99 is not within"),
        ({**GOOD, "template": "{query}"}, "`template` must hold {context} once"),
        ({**GOOD, "sources": "all"}, "`sources` must be a list"),
        ({**GOOD, "target": {"a": 1}}, "`target` has the keys a"),
        ({"messages": [{"role": "clerk", "content": "q"}]}, "`messages[0].role` must be one of"),
        ({"messages": [{"role": "user", "content": 3}]}, "`messages[0].content` must be"),
        (GOOD, "the same turns and model; put several targets into one record"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "`messages` holds no prompt"),
        ("{", "Not valid JSON"),
        ("[1]", "a list, not a JSON object"),
        ('{"context": "\\ud800"}', "lone surrogate"),
    ],
)
def test_a_bad_record_is_a_reject_and_the_rest_goes_on(
    tmp_path: Path, row: object, says: str
) -> None:
    first, bad, last = lines(tmp_path, GOOD, row, {**GOOD, "query": "B?"})
    assert isinstance(first, Trace)
    assert isinstance(last, Trace)
    assert isinstance(bad, Reject)
    assert says in bad.reason
    assert bad.line == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(ImportFormatError, match="is empty"):
        list(read_contexts(tmp_path / "a"))
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "none", "no such file")):
        with pytest.raises(ImportFormatError, match=says):
            list(read_contexts(path))


def test_one_record_may_span_lines_or_be_the_first_of_many() -> None:
    assert read_one(json.dumps(GOOD, indent=2)).response == "A is 1."
    assert read_one(f"\n{json.dumps(GOOD)}\n{{").response == "A is 1."
    for text, says in (("", "empty"), ("{", "Not valid JSON")):
        with pytest.raises(ImportFormatError, match=says):
            read_one(text)


def test_testbed_contexts_are_the_testbeds_prompts_with_roles() -> None:
    drawn = problems(6, seed=3, missing=False, hinted=False)
    for problem, trace in zip(drawn, contexts(6, seed=3), strict=True):
        assert trace.turns[0].text == problem.prompt
        assert [(s.text.strip(), s.role) for s in context_of(trace, Cut()).sources] == [
            (f.text, f.role) for f in problem.facts
        ]


NODE = {"node": {"text": "Kale costs 4.", "metadata": {"file_name": "a"}}, "score": 0.5}
LC = {"lc": 1, "id": ["langchain", "Document"], "kwargs": {"page_content": "Kale costs 4."}}


@pytest.mark.parametrize(
    ("row", "query", "response", "reference"),
    [
        ({"context": "Kale costs 4.", "question": "Kale?", "response": "4."}, "Kale?", "4.", None),
        ({"user_input": "Kale?", "retrieved_contexts": ["Kale costs 4."], "response": "4.",
          "reference": "4"}, "Kale?", "4.", "4"),
        ({"question": "Kale?", "contexts": ["Kale costs 4."], "answer": "4.",
          "ground_truth": "4"}, "Kale?", "4.", "4"),
        ({"question": "Kale?", "contexts": ["Kale costs 4."], "answer": "4.",
          "ground_truths": ["4", "four"]}, "Kale?", "4.", "4"),
        ({"user_input": [{"content": "Hi", "type": "human"}, {"content": "Kale?", "type": "human"}],
          "retrieved_contexts": ["Kale costs 4."], "response": "4."}, "Kale?", "4.", None),
        ({"query": "Kale?", "result": "4.", "source_documents": [
            {"page_content": "Kale costs 4.", "metadata": {"source": "a.pdf", "page": 1}}]},
         "Kale?", "4.", None),
        ({"input": "Kale?", "context": [LC], "answer": "4."}, "Kale?", "4.", None),
        ({"query": "Kale?", "source_nodes": [NODE], "response": "4."}, "Kale?", "4.", None),
        ({"question": "Kale?", "ctxs": [{"title": "P", "text": "Kale costs 4."}],
          "answers": ["4", "four"]}, "Kale?", "", "4"),
        ({"id": "h", "question": "Kale?", "answer": "4", "supporting_facts": [["P", 0]],
          "context": [["P", ["Kale costs 4.", " Tea costs 5."]], ["Q", ["No."]]]},
         "Kale?", "", "4"),
        ({"question": "Kale?", "answer": "4", "supporting_facts": {"title": ["P"]},
          "context": {"title": ["P"], "sentences": [["Kale costs 4.", "Tea costs 5."]]}},
         "Kale?", "", "4"),
        ({"id": "s", "title": "P", "context": "Kale costs 4.", "question": "Kale?",
          "answers": {"text": ["4"], "answer_start": [11]}}, "Kale?", "", "4"),
    ],
)  # fmt: skip
def test_rows_of_libraries_are_understood(
    tmp_path: Path, row: dict[str, object], query: str, response: str, reference: str | None
) -> None:
    for name, text in (("a.jsonl", json.dumps(row)), ("b.json", json.dumps([row], indent=1))):
        (tmp_path / name).write_text(text)
        (found,) = read(tmp_path / name)
        assert isinstance(found, Trace), found
        assert (found.extra["query"], found.response) == (query, response)
        assert found.reference == reference
        assert "Kale costs 4." in found.turns[0].text and found.extra["documents"]


def test_a_context_without_a_question_is_refused(tmp_path: Path) -> None:
    (found,) = lines(tmp_path, {"context": "Kale costs 4.", "response": "4."})
    assert isinstance(found, Reject) and "no question" in found.reason


def test_documents_of_rows(tmp_path: Path) -> None:
    qas = [{"id": f"q{i}", "question": f"{i}?", "answers": [{"text": str(i)}]} for i in range(3)]
    article = {"title": "P", "paragraphs": [{"context": "One. Two.", "qas": qas}]}
    (tmp_path / "squad.json").write_text(json.dumps({"version": "1.1", "data": [article]}))
    found = [t for t in read(tmp_path / "squad.json") if isinstance(t, Trace)]
    assert [(t.name, t.reference) for t in found] == [("q0", "0"), ("q1", "1"), ("q2", "2")]
    columns = {"question": ["a?", "b?"], "contexts": [["A."], ["B."]], "answer": ["A.", "B."]}
    (tmp_path / "ragas.json").write_text(json.dumps(columns))
    found = [t for t in read(tmp_path / "ragas.json") if isinstance(t, Trace)]
    assert [t.response for t in found] == ["A.", "B."]
