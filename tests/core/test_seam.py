"""What a refused record says of itself."""

from __future__ import annotations

from dataclasses import replace

from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn


def test_a_refusal_says_once_where_it_is() -> None:
    turns = (Turn("user", "q"),)
    unnamed = Trace(turns, "n.jsonl:3", source="a/n.jsonl", line=3)
    assert str(Reject.of(unnamed, "it is too long")) == "a/n.jsonl:3: it is too long"
    named = replace(unnamed, name="kale")
    assert str(Reject.of(named, "it is too long")) == "a/n.jsonl:3: kale: it is too long"
