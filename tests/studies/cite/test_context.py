"""Contexts: cut without loss, ablated without breaking what is left, found in the prompt again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracelab.studies.cite.parts import Cut, Document, from_documents, from_messages

from tracelab.core.errors import PlanError
from tracelab.studies.cite.context import Context, Message, Source, ablate, hex_mask, read_mask
from tracelab.studies.cite.place import place_sources

PROSE = st.text(alphabet="ab. \n", max_size=40)
UNITS = st.sampled_from(["word", "sentence", "paragraph", "document"])


def documents(*texts: str, unit: str = "sentence", **more: object) -> Context:
    docs = [Document(t) for t in texts]
    return from_documents(docs, "Q?", Cut(unit), template="{context}|{query}", **more)


def content(context: Context, kept: list[int], **more: object) -> str:
    return ablate(context, [bool(k) for k in kept], **more)[0].content


@given(st.lists(PROSE, min_size=1, max_size=4), UNITS, st.booleans())
def test_sources_and_headers_tile_the_context(texts: list[str], unit: str, titled: bool) -> None:
    docs = [Document(t, f"T{i}" if titled else None) for i, t in enumerate(texts)]
    try:
        context = from_documents(docs, "{query}", Cut(unit), template="<{context}>{query}")
    except PlanError:
        assert not any(t.strip() for t in texts)
        return
    parts = sorted([*context.sources, *context.headers], key=lambda p: (p.start, p.end))
    text = context.messages[0].content
    assert all(context.messages[0].content[s.start : s.end] == s.text for s in context.sources)
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
    assert content(context, [True] * len(kept)) == context.messages[0].content


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
    context = from_documents(docs, "Q", Cut())
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
    context = documents("Say A and B now.", ranges=[(3, 5), (9, 11)])
    assert content(context, [0, 1]) == "Say and B now.|Q?"
    assert content(context, [0, 0]) == "Say and now.|Q?"


CALL = {"tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}]}
CHAT = [
    Message("user", "Find it."),
    Message("assistant", "", CALL),
    Message("tool", "Note: 4. Note: 5.", {"tool_call_id": "c"}),
    Message("assistant", "It says 4."),
    Message("user", "So?"),
]


def test_messages_are_sources_and_a_call_keeps_its_result() -> None:
    context = from_messages(CHAT, Cut("message"))
    assert [s.message for s in context.sources] == [0, 2, 3]
    left = ablate(context, [False, False, False])
    assert [(m.role, m.content) for m in left] == [
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
    assert ablate(context, [True, False, True, True])[2].content == "Note: 5."
    assert ablate(context, [True, False, False, True])[2].content == "[...]"


def test_calls_are_part_of_a_traces_identity() -> None:
    assert '"look"' in CHAT[1].turn().text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: documents("  ", "\n"), "the context is empty"),
        (lambda: documents("abcdef", ranges=[(0, 4), (3, 6)]), "sources 0 and 1 overlap"),
        (lambda: documents("abc", ranges=[(1, 9)]), "source 1 to 9 is not within"),
        (lambda: from_documents([Document("Ann ran. Bob sat. Cy fell.")], "", Cut(most=2)),
         "has 3 sources, more than"),
        (lambda: from_messages([Message("user", "q")], Cut()), "there is only the query"),
        (lambda: from_documents([Document("a")], "q", Cut(), template="no"), "must hold {context}"),
        (lambda: Context((Message("tool", "a"),),
                         (Source(0, 0, 1, "a", whole=True), Source(0, 0, 1, "a"))), "overlap"),
    ],
)  # fmt: skip
def test_bad_contexts_are_one_sentence(make: object, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        make()


@given(st.lists(st.booleans(), max_size=40))
def test_masks_survive_as_digits(kept: list[bool]) -> None:
    assert read_mask(hex_mask(kept), len(kept)) == tuple(kept)


def test_contexts_survive_as_json() -> None:
    context = from_messages(CHAT, Cut("message", exchanges=True), roles={0: "needed"})
    assert Context.from_json(context.to_json()) == context


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
    chat = [Message("user", "u"), Message("assistant", " user. Yes. "), Message("user", "q")]
    context = from_messages(chat, Cut())
    text, places = place_sources(template, context)
    assert [text[a:b].strip() for a, b in places] == [s.text.strip() for s in context.sources]
    assert places[0][0] == text.index("u<end>")
    assert all(a <= b <= c for (a, b), (c, _) in zip(places, places[1:], strict=False))


def test_a_source_that_the_template_hides_stands_nowhere() -> None:
    chat = [Message("user", "a"), Message("assistant", "Hm.</think> B. C."), Message("user", "q")]
    context = from_messages(chat, Cut())
    text, places = place_sources(forgetful, context)
    assert text[slice(*places[0])] == "a"
    assert all(a == b for a, b in places[1:])
