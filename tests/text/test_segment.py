"""Segmenters are lossless on anything, right on hard cases, and linear on hostile text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import ConfigError
from tracelab.text.segment import (
    SEGMENTERS,
    Span,
    reasoning_range,
    segment,
    thought_anchors_chunks,
)

# Text that looks like reasoning, so that the rules are reached and not only passed by.
PIECES = st.sampled_from(
    list(" \n\t.?!…。$`\\{}[]()*#-'\"1aAé")
    + ["\n\n", "\r\n", "$$", "\\[", "\\]", "\\(", "\\)", "\\boxed{", "```\n", "e.g. ", "1. "]
    + ["So ", "Dr. ", "x = 5", ". ", "\n- ", "\n## ", "\\begin{align}", "\\end{align}", "3.14"]
    + ["\n| ", "\n    y = ", "added.Then ", "（", "）", "「", "。」", "．", "\nSo "]
    + ["No", "**", "https://a.b/c?d=e. ", "你好", "\x00", "\x85", "\u2028", "5!", "..."]
)
TEXTS = st.text() | st.lists(PIECES, max_size=60).map("".join)


def texts(text: str, segmenter: str = "reasoning-v1") -> list[str]:
    return [span.text for span in segment(text, segmenter)]


@pytest.mark.parametrize("name", SEGMENTERS)
@given(text=TEXTS)
def test_spans_tile_any_text(name: str, text: str) -> None:
    spans = segment(text, name)
    assert "".join(span.text for span in spans) == text
    assert [s.start for s in spans] == [0, *(s.end for s in spans)][: len(spans)]
    assert all(span.text == text[span.start : span.end] for span in spans)
    if text.strip():
        assert all(span.text.strip() for span in spans)
    else:
        assert len(spans) == (1 if text else 0)


@pytest.mark.parametrize("name", SEGMENTERS)
@given(text=TEXTS)
def test_boundaries_fall_right_after_the_last_character(name: str, text: str) -> None:
    assert all(not span.text[-1].isspace() for span in segment(text, name)[:-1])


@given(st.lists(st.sampled_from(["So we add 4.", "Is it 5?", "Wait, no!", "Tea takes 4."])))
def test_a_sentence_alone_is_one_span(sentences: list[str]) -> None:
    assert texts(" ".join(sentences)) == [
        sentence if i == 0 else " " + sentence for i, sentence in enumerate(sentences)
    ]


def test_unknown_segmenter_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'reasoning-v1'"):
        segment("x", "reasoning-v2")


def test_span_is_a_value() -> None:
    assert segment("Hi. You.") == [Span(0, 3, "Hi."), Span(3, 8, " You.")]


# In each case `|` marks where the cuts must be.
HARD = [
    "Tea takes 4.| Plum takes 4.| So 4 plus 4 is 8.",
    "Wait, let me recheck.| No, 8 minus 1 is 7.",
    # abbreviations, references, titles, initials
    "Numbers, e.g. 4, i.e. four, vs. Five, cf. Sec. 2, are fine.| Next.",
    "Dr. Smith and Mrs. Jones met Prof. Lee.| They spoke.",
    "See Fig. 3 and Eq. (2) and pp. 4.| Then go on.",
    "It is approx. 5 things, etc. and more, etc.| The rest is easy.",
    "By J. R. R. Tolkien.| George W. Bush read it.",
    "The answer is B.| So we stop.",
    "The line meets point P.| Triangle ABC is next.",
    "We solve for x.| Then for y.",
    "So do I.| We agree.",
    "At 5 p.m. he left.| He came at 6 a.m.| The end.",
    "Roe v. Wade is No. 5 on it.| No.| That is wrong.",
    "The U.S. Government did, w.r.t. Canada.| Fine.",
    "Choose one: A. go, B. stay.| Open a.yaml.| Then e.com.| Done.",
    # numbers
    "Pi is 3.14159, or .5 of that.| The total is 12.| The rest is 3.",
    "5! = 120 and n! is big.| So 3! * 2! = 12.| Wow!| It works.",
    # list numbers and items
    "1. First do this.| Then that.|\n2. Second.|\n3) Third",
    "Items:|\n- one|\n- two goes\n  on here|\n* three|\nAnd done.",
    "Step 1. Compute it.| Step 2: check.",
    "# A heading|\nText here.|\n\n**Final Answer**|\nIt is 4.",
    # LaTeX
    r"So \[ x = 3. Then y = 4. \] holds.| And \( a. B \) too.",
    r"Here $a = 1. B$ is it.| And $$x = 2. Y$$ here.| Done.",
    r"It costs $5.| Then $10.| The rest is free.",
    r"A \$5 bill.| An unclosed $x here.| Next sentence.| Last one.",
    r"So \boxed{\text{No. It is not}}.| Done.",
    "We get\n\\begin{align}\nx &= 1. \\\\\n\nY &= 2.\n\\end{align}\nas said.| Done.",
    "Then \\[\nx = 1\n\\]|\nSo we stop.",
    r"It is \(x = 3.\)| Then we go.",
    # quotes, brackets, ellipses, several stops
    'He said "Stop."| Then he left.| "Why?" she asked.',
    "(See above.)| Next.| It is (right?) and fine.",
    "Really?!| Yes... maybe so.| Hmm...| Wait.| 1, 2, ... 9 are digits.",
    "It is **done.**| Next…| And on.",
    # code, links
    "Run:|\n```python\nx = 1. \n\n# Y. Z\n```|\nThat was it.",
    "Use `a. B` here.| See https://a.org/b.c?d=e.| Then go.",
    "```\nunclosed. Code|\n\nNext.| Sentence.",
    # paragraphs, line ends, other scripts
    "So it goes|\n\nLike this:|\n\nx = 5|\r\n\r\ny = 6",
    "A sentence.|\nanother line\nof the same sentence.| End.",
    "你好。|再见！|好吗？|“好。”|完",
    "First.|  \n\n  Second.  \n",
    "---\nOne.|\n\n***\n\nTwo.",
]


@pytest.mark.parametrize("marked", HARD)
def test_hard_cases(marked: str) -> None:
    assert "|".join(texts(marked.replace("|", ""))) == marked


@pytest.mark.parametrize("marked", HARD)
def test_cutting_a_span_again_leaves_it_whole(marked: str) -> None:
    assert [texts(span) for span in texts(marked.replace("|", ""))] == [
        [span] for span in marked.split("|")
    ]


def test_an_unclosed_formula_does_not_swallow_the_rest() -> None:
    for opener in ("$", "$$", "\\(", "\\[", "\\boxed{", "\\begin{align}", "`"):
        text = f"So {opener}x = 1 is open. " + "This is a sentence. " * 40
        assert len(segment(text)) >= 40, opener


@pytest.mark.parametrize(
    "unit",
    ["x", ". ", "$", "$x ", "\\[", "\\( a. B ", "\\boxed{", "\\begin{a}", "`` a. B `", "\n", " "]
    + ["```\n", "* ", "(.)", "{", "\\", "https://", '.")', "1. ", "。", "A. ", "x  \n", "**a\n"]
    + ["（。", "「あ。", "aa.Then ", "|a\n", "    y = 1. \n", "x1\nSo ", "「", "。」あ", "） 。あ"],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    """A quadratic scan of this takes minutes; a linear one about a second."""
    for name in SEGMENTERS:
        text = (unit * (400_000 // len(unit))) + " End"
        began = time.process_time()
        segment(text, name)
        assert time.process_time() - began < 30, name


def test_paragraphs() -> None:
    assert texts("\nA b.\nC.\n \nD\r\n\r\nE\n\n", "paragraph") == [
        "\nA b.\nC.",
        "\n \nD",
        "\r\n\r\nE\n\n",
    ]


def test_thought_anchors_glues_short_chunks_and_keeps_the_tail() -> None:
    text = "<think>\nHmm. Is it so?\n\nIt is a chunk.\nwithout end\n</think>\n\nNot this."
    assert thought_anchors_chunks("Prompt. Here " + text) == [
        "Hmm. Is it so?",
        "It is a chunk.",
        "without end",
    ]
    assert thought_anchors_chunks("A long sentence. Yes.") == ["A long sentence. Yes."]
    assert thought_anchors_chunks("Yes.") == ["Yes."]
    assert thought_anchors_chunks("") == []


@pytest.mark.parametrize(
    "response",
    [
        "[So 4.\n]",
        "<think>\n[So 4. Yes.]\n</think>\n\nThe answer is 4.",
        "<think>\n[So 4.]</think>4",
        "<think>\n\n[ So 4.] \n</think>",
        "<think>[ So 4.]</think>",
        "[So 4.]\n</think>\n\n4",
        "\n[So 4.]\n</think>\n\n4",
        "<think>\n[So 4 and\n]",
        "[Use the <think> tag here.]",
        "[Use the <think> tag.]\n</think>\n4",
        "Sure!\n<think>\n[So 4.]\n</think>\n4",
        "<think>\n\n</think>\n\n[The answer is 4.]",
        "<think>\n[So]</think> a </think>",
        "[]",
        "<think>\n[]",
    ],
)
def test_reasoning_range(response: str) -> None:
    """Brackets mark the range."""
    text = response.replace("[", "").replace("]", "")
    start, end = reasoning_range(text)
    assert f"{text[:start]}[{text[start:end]}]{text[end:]}" == response


@given(TEXTS, TEXTS, TEXTS)
def test_reasoning_range_is_a_range(a: str, b: str, c: str) -> None:
    for text in (a, f"<think>{a}</think>{b}", f"{a}</think>{b}", f"{a}\n<think>{b}</think>{c}"):
        start, end = reasoning_range(text)
        assert 0 <= start <= end <= len(text)


# What models write that is no English prose: `|` marks where the cuts must be.
OTHER = [
    "因此（如上所述。）结束了",
    "彼は「はい。」と言った。|次へ進む。",
    "彼は「はい。そうです。」と言った。|次。",
    "他说（是的。不是。）然后走了。|完",
    "値は３．５です．|次へ進む．",
    "First we add.|Then we subtract.|Therefore,it is 7.",
    "Open a.yaml or obj.Method or https://a.org/b.Then go.",
    "    # next. part|\n    y = 1",
    "\tf(x).  g(y) # A. B",
    "We add 4|\nThen we get 8|\nSo it is 8",
    "A line of wrapped prose that goes on for longer than sixty characters in\nTokyo.| End.",
]


@pytest.mark.parametrize("marked", OTHER)
def test_other_scripts_code_and_lines_without_stops(marked: str) -> None:
    assert "|".join(texts(marked.replace("|", ""))) == marked


def test_rows_of_a_table_are_whole() -> None:
    assert texts("See:\n| A. B | c |\n|---|---|\n| D. E | f |\nAfter it. So.") == [
        "See:", "\n| A. B | c |", "\n|---|---|\n| D. E | f |", "\nAfter it.", " So.",
    ]  # fmt: skip
