"""Results in a notebook: inert, tinted by what was measured, with a legend."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.view.world import LONG, NASTY
from tracelab.view.api import (
    Anchor,
    AnchorsResult,
    AuditResult,
    AuditVerdict,
    CiteResult,
    Costs,
    Effect,
    Rejected,
    Result,
    Statement,
    StepScore,
)
from tracelab.view.results.html import MOST_TRACES
from tracelab.view.results.sentences import Asked

COSTS = Costs(1, 10, 0, 0, 0, 1, 100, 50, 10, 1.0)
REJECTS = (Rejected("f", 1, NASTY, NASTY),)
BASE = Anchor(
    "id", NASTY, "resample-pooled", "executed", 1, 0, "Up.", None, None, 0.4, 0.3, 0.5, 0.95, 20,
    "ok", 0.01, 0.9, 0.9,
)  # fmt: skip


class Seen(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def anchors() -> Result[Anchor]:
    rows = [
        BASE,
        replace(BASE, unit_index=1, text="Down.", value=-0.1, p_adjusted=0.5),
        replace(BASE, unit_index=2, text=NASTY, value=0.0),
        replace(BASE, unit_index=3, text=LONG, value=None, lo=None, hi=None, status="insufficient"),
    ]
    asked = (Asked("id", NASTY, NASTY, NASTY, NASTY),)
    return AnchorsResult(NASTY, Path("home"), tuple(rows), COSTS, REJECTS, traces=asked)


def cite() -> Result[Effect]:
    effect = Effect(
        "id", NASTY, NASTY, "t", NASTY, 1, 0, NASTY, NASTY, 3.0, 1.0, 5.0, 0.95, 16, "ok"
    )
    said = Statement(
        "id", NASTY, NASTY, "t", 0, NASTY, "grounded", 1, 0, NASTY, 3.0, 1.0, 5.0, -1.0, -9.0,
        None, 16,
    )  # fmt: skip
    return CiteResult(NASTY, Path("home"), (effect,), COSTS, REJECTS, statements=(said,))


def audit() -> Result[AuditVerdict]:
    verdict = AuditVerdict(
        "id", NASTY, NASTY, "executed", "localized", 1, NASTY, NASTY, "agent", 0.97, (1,), 0, 1,
        NASTY, NASTY, 32, 1000,
    )  # fmt: skip
    steps = tuple(
        StepScore("id", i, NASTY, NASTY, "llm", NASTY, NASTY, "executed", p, -p, -1.0, 0.0)
        for i, p in ((0, 0.03), (1, 0.97))
    )
    return AuditResult(NASTY, Path("home"), (verdict,), COSTS, REJECTS, steps=steps)


@pytest.mark.parametrize("make", [anchors, cite, audit])
def test_hostile_text_is_inert_and_readable(make: Callable[[], Result[object]]) -> None:
    html = make()._repr_html_()  # type: ignore[attr-defined]
    seen = Seen(html)
    assert set(seen.tags) <= {"div", "style", "section", "b", "span", "p", "ol", "li", "code"}
    assert {name for name, _ in seen.attributes} <= {"class", "style", "title"}
    assert html.count("<style>") == 1
    assert "\x00" not in html and "\x1b" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(1)" in html and ">RLO<" in html and ">ESC<" in html
    assert len(html) < 60_000, "long texts are cut"
    for value in (v for name, v in seen.attributes if name == "style"):
        assert re.fullmatch(r"background: rgba?\([\d.,]+\)", (value or "").replace(" ", "", 0))


def test_tints_and_marks_are_the_numbers() -> None:
    html = anchors()._repr_html_()  # type: ignore[attr-defined]
    units = re.findall(r'<span class="unit ([a-z ]*)" title="([^"]*)"( style="[^"]*")?>', html)
    up, down, nothing, missing = units
    assert "fdr" in up[0] and "+0.40, +0.30 to +0.50, n = 20, ok" in up[1]
    assert "156,196,238,1.00" in up[2]
    assert "fdr" not in down[0] and "245,176,122,0.25" in down[2]
    assert nothing[2] == ""
    assert "none" in missing[0] and "not measured" in missing[1] and missing[2] == ""
    assert "from −1 to 1" in html and "95 % interval" in html


def test_the_audit_names_the_step_its_probability_and_its_evidence() -> None:
    html = audit()._repr_html_()  # type: ignore[attr-defined]
    assert "localized: step 1 by" in html and "probability 0.97" in html
    assert "evidence: executed" in html
    assert html.count("unit fdr") == 1


def test_a_result_of_many_traces_says_what_it_leaves_out() -> None:
    rows = tuple(replace(BASE, trace_id=f"t{i}") for i in range(MOST_TRACES + 2))
    html = AnchorsResult("run", Path("home"), rows, COSTS, ())._repr_html_()
    assert html.count("<section>") == MOST_TRACES
    assert "2 more are not shown" in html
    assert "nothing was measured" in AnchorsResult("r", Path("h"), (), COSTS, ())._repr_html_()
