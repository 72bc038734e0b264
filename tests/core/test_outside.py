"""The one door for JSON from outside: what comes through can be written out again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.episode import Arguments
from tracelab.core.outside import DEPTH, OutsideError, TwiceError, decode, finite, whole

HUGE = "9" * 400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xff", "Not valid UTF-8 (byte 1 of the text)."),
        ("", "Not valid JSON"),
        ('{"a": 1} x', "Not valid JSON: Extra data (column 10)."),
        ('{\n"a" 1}', "(line 2, column 5)"),
        ("NaN", "NaN is not JSON."),
        ("[-Infinity]", "-Infinity is not JSON."),
        ("1e400", "The number 1e400 is too large."),
        ("-1e400", "too large"),
        (HUGE, "too many digits"),
        ("-" + "9" * 9000, "too many digits"),
        ('"\\ud800"', "lone surrogate"),
        ('{"\\udfff": 1}', "lone surrogate"),
        ('{"k": [{"x": "\\ud83d"}]}', "`k` holds a lone surrogate"),
        ('"\ud800"', "lone surrogate"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), f"Nested more than {DEPTH} levels"),
        ("[" * 10**5, f"Nested more than {DEPTH} levels"),
        ('{"a":' * 10**5, f"Nested more than {DEPTH} levels"),
        ("[" + ",".join(["[]"] * 10**6) + "]", "lists and objects, the bound for"),
        ("[" + ",".join(["1"] * 2 * 10**6) + "]", "values, the bound for"),
    ],
)
def test_what_is_refused_says_why(text: Any, why: str) -> None:
    with pytest.raises(OutsideError) as e:
        decode(text)
    assert why in str(e.value)
    str(e.value).encode()


def test_a_log_with_a_blemish_is_kept() -> None:
    text = b'{"a": NaN, "b": 1e400, "c": "\\ud800\xff", "\\udc00": [-Infinity, %s]}' % HUGE.encode()
    assert decode(text, repair=True) == {
        "a": None, "b": None, "c": "\ufffd\ufffd", "\ufffd": [None, None],
    }  # fmt: skip


def test_what_is_no_object_is_not_counted_as_one() -> None:
    """Brackets and commas of a text: code, formulas, another JSON."""
    text = json.dumps({"code": "[{," * 10**6})
    assert len(decode(text)["code"]) == 3 * 10**6


def test_whole_pairs_are_characters() -> None:
    assert decode('"\\ud83d\\ude00"') == "\U0001f600"


def test_keys() -> None:
    assert decode('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(TwiceError):
        decode('{"x": {"a": 1, "a": 2}}', unique=True)


def test_the_first_value_of_a_text() -> None:
    assert decode('{"a": [1]} and more', first=True) == {"a": [1]}


def test_numbers() -> None:
    assert [finite(v) for v in (1, 2.5, True, "1", None, math.nan, math.inf, 10**400)] == [
        1.0, 2.5, None, None, None, None, None, None,
    ]  # fmt: skip
    assert [whole(v) for v in (7, "7", "-7", "²", "٣", "1" * 17, 1.0, True, None)] == [
        7, 7, -7, None, None, None, None, None, None,
    ]  # fmt: skip


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_what_comes_through_can_be_written_out_again(value: Any, repair: bool) -> None:
    try:
        found = decode(json.dumps(value), repair=repair)
    except OutsideError:
        assert not repair
        return
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert decode(text.encode()) == found


@given(st.binary(), st.booleans())
def test_bytes_are_decoded_or_refused(data: bytes, repair: bool) -> None:
    try:
        found = decode(data, repair=repair)
    except OutsideError:
        return
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("inner", ["NaN", '"\\ud800"', "[" * 900, HUGE, '{"a": 1e999}'])
def test_arguments_of_a_tool_come_through_the_same_door(inner: str) -> None:
    """JSON inside JSON: the outer layer was fine."""
    got = Arguments.of(inner)
    assert got.parsed is None and got.error is not None and got.raw == inner
