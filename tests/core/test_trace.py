"""Traces: lossless JSON, stable identity, and units that fall on token boundaries."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.trace import TokenizedTrace, Trace, Turn, tokenized_units

texts = st.text(st.characters(codec=None), max_size=30)
turns = st.builds(
    Turn,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    text=texts,
    name=st.none() | texts,
    token_ids=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
)
traces = st.builds(
    Trace,
    turns=st.lists(turns, min_size=1, max_size=4).map(tuple),
    name=texts,
    model=st.none() | texts,
    answer=st.none() | texts,
    reference=st.none() | texts,
    success=st.none() | st.booleans(),
    rendering=st.sampled_from(["chat", "raw"]),
    extra=st.dictionaries(texts, st.none() | st.integers() | texts, max_size=3),
)


@given(traces)
def test_json_round_trip(trace: Trace) -> None:
    back = Trace.from_json(json.loads(json.dumps(trace.to_json())))
    assert back == trace
    assert back.trace_id == trace.trace_id


def test_identity_is_content_not_name() -> None:
    def make(text: str = "r", name: str = "n", rendering: str = "chat") -> str:
        return Trace(
            (Turn("user", "q"), Turn("assistant", text)), name, rendering=rendering
        ).trace_id

    assert make() == make(name="another")
    assert len({make(), make("other"), make(rendering="raw")}) == 3
    # Traces of one content must stay one trace in the warehouses of later releases.
    assert make() == "da2f97f9a9db81c6"


@st.composite
def tokenized(draw: st.DrawFn) -> tuple[TokenizedTrace, list[tuple[int, int]]]:
    text = draw(st.text("ab ", min_size=1, max_size=40))
    cuts = sorted(draw(st.sets(st.integers(1, len(text)), max_size=10)) | {0})
    starts = tuple(c for c in cuts if c < len(text))
    trace = Trace((Turn("user", "q"), Turn("assistant", text)), "t")
    edges = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=6)))
    spans = list(zip(edges, edges[1:], strict=False))
    return TokenizedTrace(trace, (0,), tuple(range(len(starts))), starts), spans


@given(tokenized())
def test_units_tile_tokens_and_a_straddling_token_goes_to_the_earlier_unit(case) -> None:
    tokens, spans = case
    units = tokenized_units(tokens, spans)
    for u, v in zip(units, units[1:], strict=False):
        assert u.token_end == v.token_start
    ends = [*tokens.starts[1:], len(tokens.trace.response)]
    for u in units:
        assert u.text == tokens.trace.response[u.start : u.end]
        for k in range(u.token_start, u.token_end):
            assert tokens.starts[k] >= u.start
        if u.token_start > 0:
            # The token before starts before the unit, even where it reaches into it.
            assert tokens.starts[u.token_start - 1] < u.start
        assert all(tokens.starts[k] < ends[k] for k in range(len(ends)))
