"""The peer is the package itself, one model gives both the same, counts are right."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cite import cover, peer, quality, run, speed, truth
from benchmarks.cite.peer import Case, Peer, sentences
from benchmarks.cite.work import Worker, trace
from tests.golden.peer_masks import published
from tracelab.core.errors import ConfigError
from tracelab.stats.lasso import context_cite
from tracelab.stats.masks import bernoulli
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import SpanScores
from tracelab.studies.cite.methods.context_cite import published as weighed
from tracelab.testbed import problems
from tracelab.testbed.chain import write


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker("transformers", "testbed", ablations=16, methods=run.METHODS)
    yield made
    made.close()


def two_sentences(case: Case) -> list[tuple[int, int]]:
    end = case.response.index(".") + 1
    return [(0, end), (0, len(case.response))]


def test_the_package_and_tracelab_give_one_model_the_same_weights(worker: Worker) -> None:
    """End to end: their prompts, tokens, passes and solver against ours, on their masks."""
    (problem,) = problems(1, 71, missing=False, hinted=False)
    case = speed.case(problem, None)
    ranges = two_sentences(case)
    theirs = Peer(worker.path).attribute(case, 24, ranges)
    targets = [{"start": a, "end": b} for a, b in ranges]
    (studied,), _ = worker.cases([trace(case, targets)])
    work = Ablations(studied, worker.ctx)
    design = published(work.n, 24)
    for target, weights in zip(studied.targets, theirs, strict=True):
        y = worker.drive(work.values(target, design.masks))
        make = SpanScores("t", studied.units, "context-cite", target.name, 0.95)
        ours = weighed(make, design, y, tokens=target.end - target.start).weights
        assert ours == pytest.approx(weights, abs=1e-4)
    assert np.abs(theirs[1]).max() > 5


def test_loading_the_package_leaves_no_stub_behind() -> None:
    made = peer.load()
    for name in ("nltk", "spacy", "spacy.lang.en", "datasets", "tqdm.auto", "context_cite"):
        module = sys.modules.get(name)
        assert module is None or module.__file__, f"{name} is a stub"
    x, rng = published(20, 64).masks, np.random.default_rng(0)
    y = x @ rng.normal(size=20) + rng.normal(size=64)
    assert made.LassoRegression().fit(x, y, 10)[0] == pytest.approx(
        context_cite(x, y, 10)[0], abs=1e-6
    )


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed: pip install --no-deps context-cite"):
        peer.load()
    done = CliRunner().invoke(main, ["cite", "--quick"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.output


def test_both_sides_cut_alike(worker: Worker) -> None:
    (problem,) = problems(1, 72, missing=False, hinted=False)
    for notes in (None, 30):
        case = speed.case(problem, notes)
        (studied,), _ = worker.cases([trace(case, "response")])
        sources = studied.context.sources
        assert [s.text.strip() for s in sources] == sentences(case.context)
        if notes:
            assert len(sources) == notes
    assert case.context.startswith(" ".join(f.text for f in problem.facts))


def test_rounds_share_no_context() -> None:
    found = speed.group(None, rounds=3, each=2)
    assert [len(r) for r in found.cases] == [2] * 4
    assert len({c.context for r in found.cases for c in r}) == 8


def test_a_ratio_is_the_median_of_ratios() -> None:
    t = speed.Timing("m", None, 1, {"context-cite": [2.0, 9.0, 4.0], "vllm": [1.0, 1.0, 1.0]})
    found = t.to_json()
    assert found["speedup"] == {"vllm": 4.0}
    assert found["speedup_range"] == {"vllm": [2.0, 9.0]}
    assert found["cpu_speedup"] == {}


def test_planted_truth_is_found(worker: Worker) -> None:
    lines: list[str] = []
    counted = truth.measure(worker, 2, 3, 1, lines.append)
    found = truth.to_json(counted)
    assert found["contexts"] == 2 and found["ablations_mean"] == 16
    assert found["needed_auc"]["alone"] == 1  # as the model's card says
    assert found["needed_auc"]["weight"] > 0.9
    assert found["exact"]["contexts"] == 1
    assert found["exact"]["coverage"]["0.95 at 16"]["share"] > 0.8
    assert found["exact"]["placebo"]["0.95 at 16"]["intervals"] == 2 * cover.PLACEBOS
    assert 0 <= found["hints"]["followed"] <= 3
    statements = sum(sum(c.values()) for c in found["labels"].values())
    assert found["memory"]["statements"] + found["stated"]["statements"] <= statements
    assert found["stated"]["grounded"] == 1 and found["stated"]["statements"] >= 5
    assert found["irrelevant_cover_0"]["statements"]["intervals"] > len(counted.whole.role)
    json.dumps(found, allow_nan=False)


def test_every_sentence_has_the_role_that_was_planted() -> None:
    import random

    for problem in problems(20, 73):
        said = write(problem, random.Random(problem.problem_id))
        names = truth.roles_of(problem, said.text)
        assert [*names.values()][-1] == "answer"
        assert set(names.values()) <= {s.role for s in said.sentences}
        assert len(names) >= len(said.sentences)


def test_what_holds_the_exact_effect_and_what_does_not_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    masks = bernoulli(7, 128, rng).masks
    y = 3.0 * masks[:, 0] * masks[:, 1] + rng.normal(0, 0.3, 128)
    counted = cover.Cover()
    for k in range(6):
        counted.add_exact(masks, y, ["needed"] * 2 + ["distractor"] * 5, (16, 32, 999), [k])
        counted.add_placebos(masks[k::4], y[k::4], [k])
    found = counted.to_json()
    assert set(found["coverage"]) == {
        f"{level} at {m}{only}"
        for level in ("0.9", "0.95") for m in (16, 32) for only in ("", ", distractors")
    }  # fmt: skip
    assert found["coverage"]["0.95 at 32"]["intervals"] == 6 * cover.DRAWS * 7
    assert 0.9 < found["coverage"]["0.95 at 32"]["share"] <= 1
    assert found["distractor_effect"]["median_size"] < 0.2
    lo, _ = cover.intervals(masks[:64], y[:64] + 5.0 * masks[:64, 3], rng)[0.95]
    assert lo[3] > 3


def scores(weight: list[float], role: list[str]) -> truth.Scores:
    return truth.Scores(
        weight, weight, weight, [-w for w in weight], [w - 1 for w in weight],
        [w + 1 for w in weight], role,
    )  # fmt: skip


def test_separation_and_cover_are_counted_from_roles() -> None:
    s = scores([5.0, 0.5, 3.0, 2.0], ["needed", "distractor", "redundant", "distractor"])
    assert s.separation("needed")["weight"] == 1
    assert s.separation("needed")["alone"] == 0
    assert s.separation("needed", "redundant")["distractors"] == 2
    zero = truth._zero(s)
    assert (zero["intervals"], zero["share"], zero["median_half_width"]) == (2, 0.5, 1.0)


def solver(masks: Any, y: Any, tokens: int) -> Any:
    return context_cite(masks, y, tokens)[0]


def test_simulated_methods_see_the_same_contexts() -> None:
    cells = quality.measure({20: 2}, solver, lambda line: None, (16, 64))
    assert [(c["ablations"], c["method"]) for c in cells] == [
        (m, k) for m in (16, 64) for k in ("context-cite", "tracelab", "tracelab, prior")
    ]
    few, many = cells[1], cells[4]
    assert many["lds"] > few["lds"]
    assert many["lds_gain"] == pytest.approx(many["lds"] - cells[3]["lds"])
    assert many["intervals"] == 40 and 0.75 < many["coverage_90"] <= 1
    assert "coverage_90" not in cells[0]
    json.dumps(cells, allow_nan=False)


def test_a_method_that_is_behind_is_named() -> None:
    cells = quality.measure({20: 2}, solver, lambda line: None, (32,))
    worse = [{**c, "lds_gain": -0.2, "lds_gain_se": 0.05} if "lds_gain" in c else c for c in cells]
    assert run._summary(worse)["cells_behind_context_cite"] == ["20 sources, 32"]
    same = [{**c, "lds_gain": 0.0, "precision_gain": 0.0} if "lds_gain" in c else c for c in cells]
    assert run._summary(same)["cells_behind_context_cite"] == []


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = run.Sizes(1, 1, 0, 0, 1, 1, 0, {20: 1})
    monkeypatch.setattr(run, "QUICK", tiny)
    done = CliRunner().invoke(main, ["cite", "--quick", "--json", "--part", "quality"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["planted_auc_32"] is None and found["speedup_vs_context_cite"] is None
    assert {c["sources"] for c in found["quality"]} == {20}
    shown = CliRunner().invoke(main, ["cite", "--quick", "--quiet", "--part", "quality"])
    assert shown.exit_code == 0 and "context-cite" in shown.stdout and shown.stderr == ""
