"""The pipeline from a file to SQL: loaded, resumed without an engine, rebuilt, checked; `cite`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tracelab.run.finish import Summary

from pipelines import context_attribution
from tests.helpers import everything, invoke, rows
from tracelab.cli import cite_work as citing
from tracelab.core.errors import ConfigError
from tracelab.core.item import Item, Observation
from tracelab.engines.base import failed
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.pool import LocalPool, Pool
from tracelab.run.progress import RunProgress
from tracelab.run.session import Run
from tracelab.run.wiring import Wired, wire
from tracelab.stats.surrogate import whole_logit
from tracelab.store.home import Home
from tracelab.studies.cite import looker as context_heads

NOTES = {
    "id": "kale",
    "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5.",
    "query": "How much is it for Kale and Fig at Oak?",
    "template": "Here are the notes.{context} {query}",
    "response": "Let me find the bill for Kale and Fig at Oak. Kale costs 4. \x1b[31mFig takes 7.",
    "roles": [[0, 14, "needed"], [14, 32, "needed"], [49, 63, "distractor"]],
    "target": ["Kale costs 4.", {"given": " 4.", "rather_than": " 7.", "after": "Kale costs"}],
}


def config(source: Path, **context: Any) -> RunConfig:
    return parse_config(
        {
            "name": "notes", "source": str(source), "model": "testbed", "seed": 1,
            "pipeline": "context_attribution",
            "engine": {"kind": "transformers", "dtype": "float32", "device": "cpu",
                       "max_model_len": 256},
            "context": {"ablations": 16, "held_out": 4, "top_k": [1],
                        "methods": ["ablate", "context-cite", "leave-one-out", "shapley",
                                    "sufficient", "pairs", "attention", "at2",
                                    "llm-cites"],
                        "curve_points": 2, **context},
        },
        "t",
    )  # fmt: skip


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Wired:
    return wire(config(tmp_path_factory.mktemp("none")))


@pytest.fixture(scope="module")
def pool(wired: Wired) -> LocalPool:
    return LocalPool(wired.spec)


class Kept(LocalPool):
    """A pool that outlives the run it is lent to."""

    def __init__(self, pool: LocalPool) -> None:
        self._engine, self._size = pool._engine, pool._size

    def close(self) -> None:
        pass


class Citing(Kept):
    """Answers, besides, which sources support a statement; to another one it says nothing clear."""

    def __init__(self, pool: LocalPool, wired: Wired, clear: str) -> None:
        super().__init__(pool)
        self._tokenizer, self._clear = wired.tokenizer, clear

    def run(self, items: Iterable[Item]) -> Iterator[list[Observation]]:
        for i in items:
            if i.sampling is None or not i.sampling.json_schema:
                yield from super().run([i])
                continue
            asked = f'Statement:\n"{self._clear}"' in self._tokenizer.decode(i.prefix_ids)
            yield [Observation(i.key, 0, (5,), '{"sources": [1]}' if asked else "answer 3")]


def go(config: RunConfig, wired: Wired, pool: Pool | None) -> Summary:
    """Run the pipeline; without a pool, nothing may be asked of an engine."""

    def start() -> Pool:
        assert pool is not None, "everything was in the journal"
        return pool if isinstance(pool, Kept) else Kept(pool)

    with Run(config, Home.at(None), wired.spec, start, RunProgress(quiet=True)) as run:
        return context_attribution.execute(run, wired.tokenizer, wait_s=5)


@pytest.mark.usefixtures("home")
def test_from_a_file_to_sql_and_back(
    tmp_path: Path, wired: Wired, pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "notes.jsonl"
    bad = {**NOTES, "id": "bad", "context": ""}
    absent = {**NOTES, "id": "absent", "target": "Plum costs 9."}
    source.write_text("".join(json.dumps(r) + "\n" for r in (NOTES, bad, absent)))
    summary = go(config(source), wired, Citing(pool, wired, "Kale costs 4."))
    assert (summary.traces, summary.rejected, summary.failed) == (1, 2, 0)

    (kale, contrast) = rows("SELECT * FROM grounding WHERE method = 'ablate' ORDER BY position")
    assert (kale["label"], kale["top_span"]) == ("grounded", " Kale costs 4.")
    assert kale["top_lo"] > 0
    assert kale["parametric"] < 0.01
    assert (contrast["label"], contrast["top_index"]) == ("grounded", 0)
    found = rows("SELECT DISTINCT method, metric FROM scores ORDER BY ALL")
    assert [(r["method"], r["metric"]) for r in found] == [
        ("ablate", "effect"), ("ablate", "weight"), ("at2", "weight"),
        ("attention", "attention"), ("context-cite", "weight"),
        ("leave-one-out", "effect"), ("llm-cites", "cited"),
        *(("pairs", f"interaction:{j}") for j in (1, 2, 3)),
        ("shapley", "effect"), ("sufficient", "member"),
    ]  # fmt: skip
    looked = rows(
        "SELECT method, count(lo) AS sure, arg_max(unit_index, value) AS top, "
        "any_value(evidence) AS evidence FROM scores WHERE method IN ('attention', 'at2') "
        "AND target = (SELECT target FROM targets WHERE position = 0) GROUP BY method ORDER BY 1"
    )
    assert [tuple(r.values()) for r in looked] == [
        ("at2", 0, 0, "scored"), ("attention", 0, 0, "scored")
    ]  # fmt: skip
    cited = rows(
        "SELECT position, unit_index, value, s.status, evidence, extra ->> 'reason' AS reason "
        "FROM scores AS s INNER JOIN targets USING (run_id, trace_id, target) "
        "WHERE method = 'llm-cites' ORDER BY ALL"
    )
    assert [tuple(r.values()) for r in cited] == [
        *((0, i, float(i == 0), "ok", "judged", None) for i in range(4)),
        *((1, i, None, "failed", "judged", "the reply is not one complete JSON object")
          for i in range(4)),
    ]  # fmt: skip
    members = rows(
        "SELECT unit_index, value FROM scores WHERE metric = 'member' AND value > 0 "
        "AND target = (SELECT target FROM targets WHERE position = 0)"
    )
    assert [r["unit_index"] for r in members] == [0]  # "Kale costs 4." alone is enough
    (shares,) = rows(
        "SELECT sum(value) AS total, count(lo) AS sure FROM scores WHERE method = 'shapley' "
        "AND target = (SELECT target FROM targets WHERE position = 0)"
    )
    (ends,) = rows("SELECT logprob_full, logprob_empty FROM targets WHERE position = 0")
    odds = [whole_logit(np.array([v]))[0] for v in ends.values()]
    assert shares["total"] == pytest.approx(odds[0] - odds[1], abs=1e-3)  # efficiency
    assert shares["sure"] == 4
    roles = rows("SELECT role FROM units WHERE unit_kind = 'span' ORDER BY unit_index")
    assert [r["role"] for r in roles] == ["needed", "needed", None, "distractor"]
    (why,) = rows("SELECT reason FROM rejects WHERE reason LIKE '%absent%'")
    assert "is not in the response" in why["reason"]
    tests = rows("SELECT DISTINCT metric FROM faithfulness ORDER BY 1")
    assert [r["metric"] for r in tests] == [
        "deletion", "hold", "insertion", "lds", "necessity", "oof_lds", "parametric", "set_size",
        "sufficiency", "top_1_drop",
    ]  # fmt: skip
    assert invoke("check").exit_code == 0

    before = everything()
    monkeypatch.setattr(context_heads, "build", None)  # what was seen inside is in the journal too
    go(config(source), wired, None)
    assert everything() == before
    Home.at(None).database.unlink()
    assert invoke("rebuild").exit_code == 0
    assert everything() == before

    shown = invoke("grounding", "--label", "grounded", "--json")
    assert [r["position"] for r in json.loads(shown.stdout)] == [0, 1]
    assert "Kale costs 4." in invoke("query", "context_effects", "--csv").stdout


class Forgetful(Kept):
    """Fails to answer from a pruned context."""

    def run(self, items: Iterable[Item]) -> Iterator[list[Observation]]:
        for i in items:
            if i.sampling is not None and i.intervention == "prune":
                yield failed(i, "engine", "gone")
            else:
                yield from super().run([i])


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("answers", [True, False])
def test_a_run_answers_again_from_the_top_spans(
    tmp_path: Path, wired: Wired, pool: LocalPool, answers: bool
) -> None:
    context = " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5. Oak adds 2."
    source = tmp_path / "notes.jsonl"
    asked = {"context": context, "query": NOTES["query"], "template": NOTES["template"]}
    source.write_text(json.dumps({**asked, "target": "response"}))
    base = config(source, methods=["ablate"], curve_points=0, top_k=[], prune=3)
    greedy = {"sampling": {"temperature": 0.0, "max_tokens": 150}}
    c = parse_config({**base.model_dump(mode="json"), **greedy}, "t")
    go(c, wired, pool if answers else Forgetful(pool))
    (found,) = rows("SELECT * FROM pruned")
    assert {0, 1} < set(json.loads(found["kept"])) and found["n_spans"] == 5
    assert found["tokens_left"] < found["tokens"]
    assert abs(found["logprob_change"]) < 1
    if answers:
        assert (found["same"], found["status"], found["reason"]) == (True, "ok", None)
    else:
        assert (found["same"], found["response"], found["status"]) == (None, None, "failed")
        assert "gone" in found["reason"]
        assert rows("SELECT status FROM runs") == [{"status": "complete_with_errors"}]
    (shown,) = json.loads(invoke("query", "pruned", "--json").stdout)
    assert shown["response_before"] and shown["same"] is found["same"]
    assert invoke("check").exit_code == 0
    go(c, wired, None)
    Home.at(None).database.unlink()
    assert invoke("rebuild").exit_code == 0
    assert rows("SELECT * FROM pruned") == [found]


@pytest.mark.usefixtures("home")
def test_an_engine_without_a_chat_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "notes.jsonl"
    source.write_text(json.dumps(NOTES))
    c = parse_config(
        {"name": "a", "source": str(source), "model": "scripted",
         "pipeline": "context_attribution", "engine": {"kind": "scripted"}},
        "t",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="cannot serve pipeline context_attribution"):
        go(c, wire(c), None)


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch, pool: LocalPool) -> None:
    monkeypatch.setattr(citing, "_pool", lambda config, wired: Kept(pool))


def write(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({**NOTES, **changes}, indent=1))
    return path


@pytest.mark.usefixtures("lent")
def test_cite_prints_what_each_statement_rests_on(tmp_path: Path) -> None:
    path = write(tmp_path, target=None)
    done = invoke("cite", path, "--model", "testbed", "--ablations", "16")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout  # neither ours (not a terminal) nor the response's
    line = next(x for x in done.stdout.splitlines() if x.startswith("grounded"))
    assert "Kale costs 4." in line
    after = done.stdout[done.stdout.index(line) :].splitlines()[1]
    assert after.strip().startswith("+") and after.endswith("0 Kale costs 4.")
    assert "16 ablations; LDS on fresh ablations" in done.stdout


@pytest.mark.usefixtures("lent")
def test_cite_shows_where_a_supported_statement_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_heads, "build", None)  # the engine that is there is looked into
    path = write(tmp_path, target=None)
    looks = ("--method", "attention", "--method", "at2")
    done = invoke("cite", path, "--model", "testbed", "--ablations", "16", *looks)
    assert done.exit_code == 0, done.output
    statements = done.stdout.partition("\nresponse\n")[2]
    lines = [x.split() for x in statements.splitlines()]
    said = [x[0] for x in lines if x and x[0] in ("grounded", "parametric", "attention", "at2")]
    assert "parametric" in said  # for which nothing is shown
    assert said.count("attention") == said.count("at2") == said.count("grounded") > 0
    at = next(i for i, x in enumerate(lines) if x[:2] == ["grounded", "Kale"])
    tops = {x[0]: x[2] for x in lines[at:][::-1] if x and x[0] in ("attention", "at2")}
    assert tops == {"attention": "0", "at2": "0"}


@pytest.mark.usefixtures("lent")
def test_cite_says_why_the_model_cites_nothing(tmp_path: Path) -> None:
    done = invoke("cite", write(tmp_path), "--model", "testbed", "--ablations", "8",
                  "--method", "llm-cites")  # fmt: skip
    assert done.exit_code == 0, done.output
    said = [x.strip() for x in done.stdout.splitlines() if "llm-cites: " in x]
    assert said and all(x.startswith("llm-cites: no answer, ") for x in said)


@pytest.mark.usefixtures("lent")
def test_cite_json_is_one_object(tmp_path: Path) -> None:
    path = write(tmp_path)
    done = invoke("cite", path, "--model", "testbed", "--ablations", "16", "--json")
    found = json.loads(done.stdout)
    assert [s["span"] for s in found["spans"]] == [0, 1, 2, 3]
    kale, contrast = found["targets"]
    assert kale["label"] == "grounded"
    assert max(kale["spans"], key=lambda s: s["value"])["span"] == 0
    assert contrast["rather_than"] == " 7."


@pytest.mark.usefixtures("lent")
def test_spans_are_tinted_on_a_terminal_and_plain_without_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = citing.CiteOptions(model="testbed", ablations=16)
    found = citing.cite(write(tmp_path).read_text(), options)
    shown = []
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        out = io.StringIO()
        console = Console(force_terminal=True, color_system="truecolor", file=out)
        citing.show(found, as_json=False, console=console)
        shown.append(out.getvalue())
    assert "\x1b[30;48;2;255;193;61mKale costs 4." in shown[0]
    assert "48;2;" not in shown[1]
    assert "\x1b[31m" + "Fig" not in shown[0]


@pytest.mark.usefixtures("home")
def test_an_injected_span_that_is_followed_ranks_first(
    tmp_path: Path, wired: Wired, pool: LocalPool
) -> None:
    said = "Let me find the bill for Kale and Fig at Oak. Kale costs 4. The clerk thinks it is 9."
    record = {
        **NOTES, "context": NOTES["context"] + " The clerk thinks it is 9.", "response": said,
        "target": "sentences", "roles": [[64, 89, "misleading"]],
    }  # fmt: skip
    source = tmp_path / "notes.jsonl"
    source.write_text(json.dumps(record))
    go(config(source, methods=["ablate"], curve_points=0, top_k=[]), wired, pool)
    (first,) = json.loads(invoke("query", "suspicious_spans", "--json").stdout)
    assert (first["role"], first["rank"]) == ("misleading", 1)
    assert (first["precision_at_k"], first["recall_at_k"]) == (1, 1)
    assert first["share"] > 0.5 and first["lo"] > 0


@pytest.mark.usefixtures("lent")
def test_what_is_enough_and_what_remains_of_the_answer_without_the_rest(tmp_path: Path) -> None:
    """Two notes say what the shop adds: either will do, and neither alone is missed."""
    context = " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5. Oak adds 2."
    text = json.dumps({"context": context, "query": NOTES["query"], "template": NOTES["template"]})
    options = citing.CiteOptions(
        model="testbed", ablations=16, target="response", methods=("sufficient", "pairs"), prune=3
    )
    cited = citing.cite(text, options)
    found = citing.to_json(cited)
    by = {(s["metric"], s["span"]): s for s in found["targets"][0]["methods"]}
    members = [i for i in range(5) if by["member", i]["value"] == 1]
    assert members in ([0, 1, 2], [0, 1, 4]) and by["member", 0]["reached"]
    assert by["interaction:4", 2]["kind"] == "redundant"
    assert found["pruned"]["same"] is True and {0, 1} < set(found["pruned"]["kept"])
    assert found["pruned"]["tokens_left"] < found["pruned"]["tokens"]
    assert abs(found["pruned"]["logprob_change"]) < 1
    out = io.StringIO()
    citing.show(cited, as_json=False, console=Console(file=out, width=200))
    assert "2 and 4 replace each other" in out.getvalue()
    assert "the same answer" in out.getvalue()


@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"context": ""}, (), "the context is empty"),
        ({}, ("--target", "Plum is 9"), "the target 'Plum is 9' is not in the response"),
        ({"sources": [[0, 9], [3, 12]]}, (), "sources 0 and 1 overlap"),
        (
            {"response": "So 4 plus 7 is 11. " * 400, "target": None},
            (),
            "the context and the resp",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    path = write(tmp_path, **changes)
    done = invoke("cite", path, "--model", "testbed", "--ablations", "8", *options)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("text", "says"), [("", "stdin: empty;"), ('{"a"', "stdin: Not valid")])
def test_cite_says_where_a_bad_record_came_from(text: str, says: str) -> None:
    done = invoke("cite", "-", "--model", "testbed", stdin=text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_cite_without_a_file() -> None:
    done = invoke("cite", "/nowhere/x.json", "--model", "testbed")
    assert (done.exit_code, "cannot be read" in done.stderr) == (2, True)
