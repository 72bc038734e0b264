"""Contexts: cut without loss, ablated without breaking what is left, found in the prompt again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import PlanError
from tracelab.core.messages import as_message, as_turn
from tracelab.core.trace import Trace, Turn
from tracelab.studies.cite.ablations import hex_mask
from tracelab.studies.cite.context import Context, ContextSource, ablate
from tracelab.studies.cite.cut import (
    TEMPLATE,
    Cut,
    Document,
    around,
    context_of,
    from_messages,
    joined,
    templated,
)
from tracelab.studies.cite.place import place_sources

PROSE = st.text(alphabet="ab. \n", max_size=40)
UNITS = st.sampled_from(["word", "sentence", "paragraph", "document"])


def rag(
    docs: list[Document],
    query: str,
    template: str = TEMPLATE,
    ranges: list[list[int]] | None = None,
) -> Trace:
    """Documents and a query as a trace."""
    text, places = joined(docs)
    before, after = around(template, query, "template")
    at = len(before)
    extra: dict[str, object] = {"documents": [[0, at + a, at + b, t] for a, b, t in places]}
    if ranges is not None:
        extra["sources"] = [[0, at + a, at + b] for a, b in ranges]
    return Trace((Turn("user", before + text + after),), "t", extra=extra)


def documents(*texts: str, unit: str = "sentence", **more: object) -> Context:
    docs = [Document(t) for t in texts]
    return context_of(rag(docs, "Q?", "{context}|{query}", **more), Cut(unit))


def content(context: Context, kept: list[int], **more: object) -> str:
    return ablate(context, [bool(k) for k in kept], **more)[0].text


@given(st.lists(PROSE, min_size=1, max_size=4), UNITS, st.booleans())
def test_sources_and_headers_tile_the_context(texts: list[str], unit: str, titled: bool) -> None:
    docs = [Document(t, f"T{i}" if titled else None) for i, t in enumerate(texts)]
    try:
        context = context_of(rag(docs, "{query}", "<{context}>{query}"), Cut(unit))
    except PlanError:
        assert not any(t.strip() for t in texts)
        return
    parts = sorted([*context.sources, *context.headers], key=lambda p: (p.start, p.end))
    text = context.messages[0].text
    assert all(context.messages[0].text[s.start : s.end] == s.text for s in context.sources)
    covered = "".join(text[p.start : p.end] for p in parts)
    whole = "\n\n".join((f"T{i}\n" if titled else "") + t for i, t in enumerate(texts))
    # A document of white space only has nothing to attribute to; it stays where it is.
    assert covered.split() == whole.split()
    if all(t.strip() for t in texts):
        assert covered == whole


@given(st.lists(PROSE, min_size=1, max_size=3), UNITS, st.data())
def test_what_is_kept_stays_in_order_and_what_is_not_is_gone(
    texts: list[str], unit: str, data: st.DataObject
) -> None:
    # Letters of their own, so that every piece can be told from every other.
    texts = [t.replace("a", f"x{i}").replace("b", f"y{i}") for i, t in enumerate(texts)]
    if not any(t.strip() for t in texts):
        return
    context = documents(*texts, unit=unit)
    kept = data.draw(st.lists(st.booleans(), min_size=len(context.sources),
                              max_size=len(context.sources)))  # fmt: skip
    left = [s.text.strip() for s, k in zip(context.sources, kept, strict=True) if k]
    body = content(context, kept).removesuffix("|Q?")
    assert body.split() == " ".join(left).split()
    assert content(context, [True] * len(kept)) == context.messages[0].text


def test_what_separates_paragraphs_and_documents_outlives_its_first_sentence() -> None:
    context = documents("A one. A two.\n\nA three. A four.", "B one. B two.")
    assert [s.text for s in context.sources] == [
        "A one.", " A two.", "\n\nA three.", " A four.", "\n\nB one.", " B two.",
    ]  # fmt: skip
    assert content(context, [0, 1, 0, 1, 0, 1]) == "A two.\n\nA four.\n\nB two.|Q?"
    assert content(context, [0, 0, 0, 0, 0, 1]) == "B two.|Q?"
    assert content(context, [0] * 6) == "|Q?"


def test_a_title_goes_with_the_last_of_its_document() -> None:
    docs = [Document("Ann ran. Bob sat.", "One"), Document("Cy fell.", "Two")]
    context = context_of(rag(docs, "Q"), Cut())
    assert content(context, [0, 1, 0]) == "Context: One\nBob sat.\n\nQuery: Q"
    assert content(context, [0, 0, 1]) == "Context: Two\nCy fell.\n\nQuery: Q"


def test_replacing_keeps_the_shape() -> None:
    context = documents("A one. A two.\n\nA three.")
    assert content(context, [1, 0, 0], mode="placeholder", placeholder="[x]") == (
        "A one. [x]\n\n[x]|Q?"
    )
    assert content(context, [0, 1, 1], mode="resample", replacements=["New.", "", ""]) == (
        "New. A two.\n\nA three.|Q?"
    )


def test_explicit_ranges_with_fixed_text_between_keep_their_own_spaces() -> None:
    context = documents("Say A and B now.", ranges=[[3, 5], [9, 11]])
    assert content(context, [0, 1]) == "Say and B now.|Q?"
    assert content(context, [0, 0]) == "Say and now.|Q?"


CALL = {"tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}]}
CHAT = [
    Turn("user", "Find it."),
    Turn("assistant", "", fields=CALL),
    Turn("tool", "Note: 4. Note: 5.", fields={"tool_call_id": "c"}),
    Turn("assistant", "It says 4."),
    Turn("user", "So?"),
]


def test_messages_are_sources_and_a_call_keeps_its_result() -> None:
    context = from_messages(CHAT, Cut("message"))
    assert [s.message for s in context.sources] == [0, 2, 3]
    left = ablate(context, [False, False, False])
    assert [(m.role, m.text) for m in left] == [
        ("assistant", ""), ("tool", "[...]"), ("user", "So?"),
    ]  # fmt: skip
    assert left[0].fields == CALL


def test_a_call_and_its_results_can_be_one_source() -> None:
    context = from_messages(CHAT, Cut("message", exchanges=True))
    assert [(s.message, s.also) for s in context.sources] == [(0, ()), (1, (2,)), (3, ())]
    left = ablate(context, [True, False, True])
    assert [m.role for m in left] == ["user", "assistant", "user"]


def test_a_result_that_loses_all_its_sentences_leaves_a_placeholder() -> None:
    context = from_messages(CHAT, Cut("sentence"))
    texts = [s.text for s in context.sources]
    assert texts == ["Find it.", "Note: 4.", " Note: 5.", "It says 4."]
    assert ablate(context, [True, False, True, True])[2].text == "Note: 5."
    assert ablate(context, [True, False, False, True])[2].text == "[...]"


def test_calls_are_part_of_a_traces_identity() -> None:
    plain = [*CHAT[:1], Turn("assistant", ""), *CHAT[2:]]
    assert Trace(tuple(CHAT), "t").trace_id != Trace(tuple(plain), "t").trace_id


def test_messages_survive_as_turns() -> None:
    for turn in CHAT:
        assert as_turn(as_message(turn)) == turn
    named = {"role": "user", "content": "a", "name": "Ann", "x": 1}
    assert as_message(as_turn(named)) == named


def test_a_template_moves_documents_sources_and_roles_with_their_text() -> None:
    docs = [Document("Ann ran. Bob sat.", "One"), Document("Cy fell.")]
    trace = rag(docs, "Who?", ranges=[[4, 12]])
    at = trace.turns[0].text.index("Ann")
    extra = {**trace.extra, "query": "Who?", "roles": [[0, at, at + 8, "needed"]]}
    trace = Trace(trace.turns, "t", extra=extra)
    moved = templated(trace, "Q: {query} Notes: {context}")
    assert moved.turns[0].text == "Q: Who? Notes: One\nAnn ran. Bob sat.\n\nCy fell."
    (source,) = context_of(moved, Cut()).sources
    assert (source.text, source.role) == ("Ann ran.", "needed")
    assert templated(moved, "Q: {query} Notes: {context}") == moved
    back = templated(moved, TEMPLATE)
    assert (back.turns, back.extra) == (trace.turns, trace.extra)
    own = Trace(trace.turns, "t", extra={**extra, "template": TEMPLATE})
    assert templated(own, "Q: {query} Notes: {context}") == own


@pytest.mark.parametrize(
    "extra",
    [{"documents": ["a text"]}, {"documents": "x"}, {"sources": ["wiki", 3]},
     {"roles": [[0, 5, "x"]]}],
)  # fmt: skip
def test_what_another_source_says_under_our_keys_is_passed_over(extra: dict) -> None:
    chat = (Turn("user", "Ann ran. Bob sat."), Turn("assistant", "Yes."))
    assert [s.text for s in context_of(Trace(chat, "t", extra=extra), Cut()).sources] == [
        "Ann ran.", " Bob sat.",
    ]  # fmt: skip


def test_documents_beyond_their_message_are_refused() -> None:
    chat = (Turn("user", "Ann ran."), Turn("assistant", "Yes."))
    for ranges in ([[0, 0, 99, None]], [[5, 0, 1, None]], [[0, 2, 5, "a long title"]]):
        with pytest.raises(PlanError, match="is not within it"):
            context_of(Trace(chat, "t", extra={"documents": ranges}), Cut())
    with pytest.raises(PlanError, match="in message 7, which does not exist"):
        context_of(Trace(chat, "t", extra={"sources": [[7, 0, 1]]}), Cut())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: documents("  ", "\n"), "the context is empty"),
        (lambda: documents("abcdef", ranges=[[0, 4], [3, 6]]), "sources 0 and 1 overlap"),
        (lambda: documents("abc", ranges=[[1, 9]]), "source 0 is the characters 1 to 9 of a text"),
        (lambda: context_of(rag([Document("Ann ran. Bob sat. Cy fell.")], ""), Cut(most=2)),
         "has 3 sources, more than"),
        (lambda: from_messages([Turn("user", "q")], Cut()), "there is only the query"),
        (lambda: rag([Document("a")], "q", "no"), "must hold {context}"),
        (lambda: Context((Turn("tool", "a"),),
                         (ContextSource(0, 0, 1, "a", whole=True), ContextSource(0, 0, 1, "a"))),
         "overlap"),
    ],
)  # fmt: skip
def test_bad_contexts_are_one_sentence(make: object, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        make()


@given(st.lists(st.booleans(), max_size=40))
def test_masks_survive_as_digits(kept: list[bool]) -> None:
    bits = "".join(f"{int(digit, 16):04b}" for digit in hex_mask(kept))
    assert [b == "1" for b in bits[: len(kept)]] == kept and "1" not in bits[len(kept) :]


def plain(messages: list[dict]) -> str:
    return "".join(f"<{m['role']}>\n{m['content']}<end>\n" for m in messages) + "<assistant>\n"


def trimming(messages: list[dict]) -> str:
    return plain([{**m, "content": m["content"].strip()} for m in messages])


def forgetful(messages: list[dict]) -> str:
    """Leaves old reasoning out, as many templates do."""
    return plain([{**m, "content": m["content"].split("</think>")[-1]} for m in messages])


@pytest.mark.parametrize("template", [plain, trimming])
def test_sources_are_found_where_the_template_puts_them(template: object) -> None:
    """`user` is also what the template calls a role, and the first content is one letter."""
    chat = [Turn("user", "u"), Turn("assistant", " user. Yes. "), Turn("user", "q")]
    context = from_messages(chat, Cut())
    text, places = place_sources(template, context)
    assert [text[a:b].strip() for a, b in places] == [s.text.strip() for s in context.sources]
    assert places[0][0] == text.index("u<end>")
    assert all(a <= b <= c for (a, b), (c, _) in zip(places, places[1:], strict=False))


def test_a_source_that_the_template_hides_stands_nowhere() -> None:
    chat = [Turn("user", "a"), Turn("assistant", "Hm.</think> B. C."), Turn("user", "q")]
    context = from_messages(chat, Cut())
    text, places = place_sources(forgetful, context)
    assert text[slice(*places[0])] == "a"
    assert all(a == b for a, b in places[1:])
