"""Targets: read from records, placed on tokens, refused in one sentence."""

from __future__ import annotations

import pytest

from tracelab.core.errors import PlanError
from tracelab.core.trace import TokenizedTrace, Trace, Turn
from tracelab.studies.cite.targets import Continuation, parse_targets, resolve

TEXT = "One is one. Two is <tool_call>look 2</tool_call>"


def tokens(text: str = TEXT) -> TokenizedTrace:
    """Every character is a token, and the response ended."""
    trace = Trace((Turn("user", "q"), Turn("assistant", text)), "t")
    size = len(text)
    return TokenizedTrace(trace, (1,), (*map(ord, text), 0), tuple(range(size + 1)))


def encode(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def placed(value: object, text: str = TEXT) -> list[tuple[str, str]]:
    targets, parts = resolve(parse_targets(value), tokens(text), encode)
    for t in targets:
        ids = parts[t.continuation].ids[t.start : t.end]
        assert "".join(map(chr, ids)) == t.text
    return [(t.name, t.text) for t in targets]


def test_ranges_of_the_response() -> None:
    assert placed(None) == [("sentence:0", "One is one."), ("sentence:1", TEXT[11:])]
    assert placed("sentences") == placed(None)
    assert placed("response") == [("response", TEXT)]
    assert placed("is one") == [("range:4-10", "is one")]
    assert placed({"text": "is one"}) == placed({"start": 4, "end": 10})
    assert placed("action") == [("action", "<tool_call>look 2</tool_call>")]
    assert placed("action", "<think>a</think>\n\nDone.") == [("action", "Done.")]


def test_several_targets_are_unique_by_name() -> None:
    assert [n for n, _ in placed(["is one", "response", {"start": 4, "end": 10}])] == [
        "range:4-10", "response",
    ]  # fmt: skip


def test_given_texts_stand_after_a_part_of_the_response() -> None:
    spec = parse_targets([{"given": "two.", "after": "One is "}, "response"])
    targets, parts = resolve(spec, tokens(), encode)
    assert parts[0] == Continuation(0, tokens().response_ids)
    assert parts[1] == Continuation(7, encode("two."))
    assert [(t.name, t.continuation, t.start, t.end) for t in targets] == [
        ("given:0", 1, 0, 4), ("response", 0, 0, len(TEXT)),
    ]  # fmt: skip


def test_a_contrast_has_two_continuations() -> None:
    spec = parse_targets({"given": "one.", "rather_than": "three.", "after": "One is "})
    (t,), parts = resolve(spec, tokens(), encode)
    assert (t.kind, t.text, t.other) == ("contrast", "one.", "three.")
    assert parts[t.continuation] == Continuation(7, encode("one."))
    assert parts[t.rather_than] == Continuation(7, encode("three."))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("Plum", "the target 'Plum' is not in the response; to score a text"),
        ({"start": 40, "end": 400}, "characters 40 to 400, is not in the response, which has"),
        ({"start": 4, "end": 4}, "is not in the response"),
        ({"given": "x", "after": "never said"}, "'never said' is not in the response"),
        ([], "`target` is an empty list"),
        ("  ", "`target` is empty"),
        (3, "`target` must be a string"),
        ({"text": 3}, "`target.text` must be a string"),
        ({"star": 3}, "`target` has the keys star; it needs"),
        ({"given": "x", "rather_than": ""}, "a given text of `target` is empty"),
    ],
)
def test_bad_targets_are_one_sentence(value: object, says: str) -> None:
    with pytest.raises(PlanError) as e:
        resolve(parse_targets(value), tokens(), encode)
    assert says in str(e.value)


def test_a_target_inside_one_token_is_refused() -> None:
    t = TokenizedTrace(tokens().trace, (1,), (5, 6), (0, 20))
    with pytest.raises(PlanError, match="inside one token"):
        resolve(parse_targets({"start": 4, "end": 6}), t, encode)
