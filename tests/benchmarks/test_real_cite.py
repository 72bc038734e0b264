"""The figures on real language: their passages, and the measurement, on the bundled model."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.real.cite import DRAWS, measure
from benchmarks.real.work import passages
from tracelab.testbed import MODEL_DIR


def test_every_passage_has_one_sentence_that_states_the_answer() -> None:
    found = passages()
    assert len(found) == len({p.query for p in found}) == 40
    for p in found:
        assert len(p.sentences) == len(set(p.sentences)) == 5
        new = set(re.findall(r"[\w,]+", p.response.lower())) - set(
            re.findall(r"[\w,]+", p.query.lower())
        )
        shared = [len(new & set(re.findall(r"[\w,]+", s.lower()))) for s in p.sentences]
        assert max(shared) == shared[p.support], p.query
    assert {p.support for p in found} == {0, 1, 2, 3, 4}


def test_methods_are_held_to_exact_effects() -> None:
    found = measure(str(MODEL_DIR), 2, 0, 1, print)
    assert (found["passages"], found["sentences"], found["speed"]) == (2, 10, None)
    methods = found["methods"]
    assert [*methods] == [
        "ablate", "context-cite", "leave-one-out", "attention", "at2", "exact effects"
    ]  # fmt: skip
    assert methods["exact effects"]["lds"] >= methods["ablate"]["lds"] - 0.2
    assert found["coverage"]["intervals"] == 10 * DRAWS
    assert found["coverage"]["share"] > 0.6
    assert -1 <= found["answers"]["rank_correlation"] <= 1


@pytest.mark.parametrize("name", ["real-cite", "real_cite"])
def test_names_may_be_typed_with_underscores(name: str) -> None:
    assert "sentences" in CliRunner().invoke(main, [name, "-h"]).stdout
