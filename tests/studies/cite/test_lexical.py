"""BM25: its formula, and that it finds what repeats a statement among 500 sources."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tracelab.studies.cite.lexical import bm25


def test_the_formula_by_hand() -> None:
    found = bm25(["Kale costs 4.", "Fig costs 7.", "Nothing here at all"], "kale costs KALE")
    size = (3 + 3 + 4) / 3
    damp = 1.2 * (0.25 + 0.75 * 3 / size)
    rare, common = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    assert found == pytest.approx(
        [(rare + common) * 2.2 / (1 + damp), common * 2.2 / (1 + damp), 0.0]
    )


def test_a_repeated_source_comes_first() -> None:
    sources = [f"Item number {k} costs {k % 7} coins in town {k % 11}." for k in range(500)]
    assert int(np.argmax(bm25(sources, "So number 321 is what we need, it costs 6."))) == 321


@pytest.mark.parametrize("sources", [[], ["", ""], ["..."]])
def test_nothing_shared_is_no_preference(sources: list[str]) -> None:
    assert not bm25(sources, "Kale").any() and len(bm25(sources, "Kale")) == len(sources)
