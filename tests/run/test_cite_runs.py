"""Runs of context attribution from a file to SQL: resumed at no cost, rebuilt, checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import everything, invoke, rows
from tracelab.core.errors import TracelabError
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.execute import Summary, run_config
from tracelab.stats.surrogate import whole_logit
from tracelab.store.home import Home
from tracelab.store.journal import Peek

pytestmark = pytest.mark.usefixtures("home")
NOTES: dict[str, Any] = {
    "id": "kale",
    "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5.",
    "query": "How much is it for Kale and Fig at Oak?",
    "template": "Here are the notes.{context} {query}",
    "response": "Let me find the bill for Kale and Fig at Oak. Kale costs 4. Fig takes 7.",
    "roles": [[0, 14, "needed"], [14, 32, "needed"], [49, 63, "distractor"]],
    "target": ["Kale costs 4.", {"given": " 4.", "rather_than": " 7.", "after": "Kale costs"}],
}
TWICE = NOTES["context"] + " Oak adds 2."  # either note on Oak will do
METHODS = [
    "ablate", "context-cite", "leave-one-out", "shapley", "sufficient", "pairs", "attention", "at2",
]  # fmt: skip
FIRST = "target = (SELECT target FROM targets WHERE position = 0)"


def config(folder: Path, *records: dict[str, Any], **cite: Any) -> RunConfig:
    """A run over records, of small options unless `cite` says otherwise."""
    source = folder / "notes.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    small = {"ablations": 16, "held_out": 4, "top_k": []}
    return parse_config(
        {
            "name": "notes", "study": "cite", "source": str(source), "model": "testbed", "seed": 1,
            "engine": {"kind": "transformers", "dtype": "float32", "device": "cpu",
                       "max_model_len": 256},
            "sampling": {"temperature": 0.0, "max_tokens": 150},
            "cite": small | cite,
        },
        "t",
    )  # fmt: skip


def go(config: RunConfig) -> Summary:
    return run_config(config, Home.at(None), quiet=True, in_process=True)


def heard() -> int:
    """Observations that the journal has."""
    return sum(len(part) for part in Peek(str(Home.at(None).runs), "notes").observations())


def comes_back_the_same(config: RunConfig) -> None:
    """The run again, and the run rebuilt from its journal: the same rows, nothing asked."""
    assert invoke("check").exit_code == 0
    before, count = everything(), heard()
    assert count > 0
    go(config)
    assert (heard(), everything()) == (count, before)
    Home.at(None).database.unlink()
    assert invoke("rebuild").exit_code == 0
    assert everything() == before


def test_from_a_file_to_sql_and_back(tmp_path: Path) -> None:
    bad = {**NOTES, "id": "bad", "context": ""}
    absent = {**NOTES, "id": "absent", "query": "How much is Plum?", "target": "Plum costs 9."}
    c = config(tmp_path, NOTES, bad, absent, methods=METHODS, top_k=[1], curve_points=2)
    summary = go(c)
    assert (summary.traces, summary.rejected, summary.failed) == (1, 2, 0)

    (kale, contrast) = rows("SELECT * FROM grounding WHERE method = 'ablate' ORDER BY position")
    assert (kale["label"], kale["top_span"]) == ("grounded", " Kale costs 4.")
    assert kale["top_lo"] > 0
    assert kale["parametric"] < 0.01
    assert (contrast["label"], contrast["top_index"]) == ("grounded", 0)
    found = rows("SELECT DISTINCT method, metric FROM scores ORDER BY ALL")
    assert [(r["method"], r["metric"]) for r in found] == [
        ("ablate", "effect"), ("ablate", "weight"), ("at2", "weight"),
        ("attention", "attention"), ("context-cite", "weight"), ("leave-one-out", "effect"),
        *(("pairs", f"interaction:{j}") for j in (1, 2, 3)),
        ("shapley", "effect"), ("sufficient", "member"),
    ]  # fmt: skip
    looked = rows(
        "SELECT method, count(lo) AS sure, arg_max(unit_index, value) AS top, "
        "any_value(evidence) AS evidence FROM scores WHERE method IN ('attention', 'at2') "
        f"AND {FIRST} GROUP BY method ORDER BY 1"
    )
    assert [tuple(r.values()) for r in looked] == [
        ("at2", 0, 0, "scored"), ("attention", 0, 0, "scored")
    ]  # fmt: skip
    members = rows(
        f"SELECT unit_index FROM scores WHERE metric = 'member' AND value > 0 AND {FIRST}"
    )
    assert [r["unit_index"] for r in members] == [0]  # "Kale costs 4." alone is enough
    (shares,) = rows(
        "SELECT sum(value) AS total, count(lo) AS sure FROM scores WHERE method = 'shapley' "
        f"AND {FIRST}"
    )
    (ends,) = rows("SELECT logprob_full, logprob_empty FROM targets WHERE position = 0")
    odds = [whole_logit(np.array([v]))[0] for v in ends.values()]
    assert shares["total"] == pytest.approx(odds[0] - odds[1], abs=1e-3)  # efficiency
    assert shares["sure"] == 4
    roles = rows("SELECT role FROM units WHERE unit_kind = 'span' ORDER BY unit_index")
    assert [r["role"] for r in roles] == ["needed", "needed", None, "distractor"]
    whys = [r["reason"] for r in rows("SELECT reason FROM rejects ORDER BY line")]
    assert len(whys) == 2 and "the context is empty" in whys[0]
    assert "the target 'Plum costs 9.' is not in the response" in whys[1]
    tests = rows("SELECT DISTINCT metric FROM faithfulness ORDER BY 1")
    assert [r["metric"] for r in tests] == [
        "deletion", "hold", "insertion", "lds", "necessity", "oof_lds", "parametric", "set_size",
        "sufficiency", "top_1_drop",
    ]  # fmt: skip

    comes_back_the_same(c)
    shown = invoke("grounding", "--label", "grounded", "--json")
    assert [r["position"] for r in json.loads(shown.stdout)] == [0, 1]
    assert "Kale costs 4." in invoke("query", "context_effects", "--csv").stdout


def test_effects_on_sampled_answers_from_a_file_to_sql_and_back(tmp_path: Path) -> None:
    """The bundled model answers anew under each mask; the price of Kale decides what it says."""
    said = f"{NOTES['response']} So the bill is 13.\n</think>\n\nThe bill is \\boxed{{13}}."
    record = {**NOTES, "response": said, "target": None}
    mute = {**record, "id": "mute", "response": "Let me see."}
    c = config(tmp_path, record, mute, outcome="answer", samples=2, ablations=8)
    c = c.model_copy(update={"sampling": c.sampling.model_copy(update={"temperature": 1.0})})
    summary = go(c)
    assert (summary.traces, summary.rejected, summary.failed) == (1, 1, 0)
    (found,) = rows("SELECT * FROM grounding WHERE method = 'ablate'")
    assert (found["outcome"], found["target"], found["logprob_full"]) == (
        "answer", "response", None
    )  # fmt: skip
    assert found["value_full"] > found["value_empty"] + 0.3
    (best,) = rows("SELECT * FROM context_effects WHERE method = 'ablate' AND rank = 1")
    assert best["unit_index"] in (0, 1, 2) and -1 <= best["lo"] <= best["value"] <= best["hi"] <= 1
    (heard_of,) = rows(
        "SELECT count(*) AS n, count(worth) AS known, "
        "bool_and(json_extract(worth, '$[0]')::DOUBLE = (answer = '13')::INT) AS same "
        "FROM masked_answers WHERE worth IS NOT NULL"
    )
    assert heard_of["n"] == heard_of["known"] >= 8 * 2 and heard_of["same"] is True
    whys = [r["reason"] for r in rows("SELECT reason FROM rejects")]
    assert len(whys) == 1 and "no final answer that grading can find" in whys[0]
    comes_back_the_same(c)


def test_a_run_answers_again_from_the_top_spans(tmp_path: Path) -> None:
    asked = {"context": TWICE, "query": NOTES["query"], "template": NOTES["template"]}
    c = config(tmp_path, {**asked, "target": "response"}, prune=3)
    go(c)
    (found,) = rows("SELECT * FROM pruned")
    assert {0, 1} < set(json.loads(found["kept"])) and found["n_spans"] == 5
    assert found["tokens_left"] < found["tokens"]
    assert abs(found["logprob_change"]) < 1
    assert (found["same"], found["status"], found["reason"]) == (True, "ok", None)
    (shown,) = json.loads(invoke("query", "pruned", "--json").stdout)
    assert shown["response_before"] and shown["same"] is True
    comes_back_the_same(c)
    assert rows("SELECT * FROM pruned") == [found]


def test_an_injected_span_that_is_followed_ranks_first(tmp_path: Path) -> None:
    hint = " The clerk thinks it is 9."
    said = f"Let me find the bill for Kale and Fig at Oak. Kale costs 4.{hint}"
    record = {
        **NOTES, "context": NOTES["context"] + hint, "response": said, "target": "sentences",
        "roles": [[64, 89, "misleading"]],
    }  # fmt: skip
    go(config(tmp_path, record))
    (first,) = json.loads(invoke("query", "suspicious_spans", "--json").stdout)
    assert (first["role"], first["rank"]) == ("misleading", 1)
    assert (first["precision_at_k"], first["recall_at_k"]) == (1, 1)
    assert first["share"] > 0.5 and first["lo"] > 0


def cite(folder: Path, record: dict[str, Any], *options: str) -> str:
    """What `tracelab cite` prints of a record."""
    path = folder / "one.json"
    path.write_text(json.dumps(record))
    result = invoke("cite", path, "--model", "testbed", "--ablations", "16", *options)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_where_a_grounded_statement_looks_is_shown(tmp_path: Path) -> None:
    looks = ("--method", "ablate", "--method", "attention", "--method", "at2")
    lines = [x.split() for x in cite(tmp_path, {**NOTES, "target": None}, *looks).splitlines()]
    own = {"memory", "derived"}
    said = [x[0] for x in lines if x and x[0] in ("grounded", "attention", "at2", *own)]
    assert own & {*said}  # for which nothing is shown
    assert said.count("attention") == said.count("at2") == said.count("grounded") > 0
    at = next(i for i, x in enumerate(lines) if x[:2] == ["grounded", "Kale"])
    tops = {x[0]: x[2] for x in lines[at:][::-1] if x and x[0] in ("attention", "at2")}
    assert tops == {"attention": "0", "at2": "0"}


def test_what_is_enough_and_what_replaces_what_is_told(tmp_path: Path) -> None:
    """Two notes say what the shop adds: either will do, and neither alone is missed."""
    asked = {"context": TWICE, "query": NOTES["query"], "template": NOTES["template"]}
    options = (
        "--target", "response", "--prune", "3",
        "--method", "ablate", "--method", "sufficient", "--method", "pairs",
    )  # fmt: skip
    shown = cite(tmp_path, asked, *options)
    assert "2 and 4 replace each other" in shown
    assert "the same answer" in shown
    found = json.loads(cite(tmp_path, asked, *options, "--json"))
    by = {(s["metric"], s["span"]): s for s in found["targets"][0]["methods"]}
    members = [i for i in range(5) if by["member", i]["value"] == 1]
    assert members in ([0, 1, 2], [0, 1, 4]) and by["member", 0]["reached"]
    assert by["interaction:4", 2]["kind"] == "redundant"
    assert found["pruned"]["same"] is True and {0, 1} < set(found["pruned"]["kept"])


def test_an_engine_without_a_chat_is_refused(tmp_path: Path) -> None:
    c = config(tmp_path, NOTES)
    scripted = {"model": "scripted", "engine": {"kind": "scripted"}}
    with pytest.raises(TracelabError) as refused:
        go(parse_config(c.model_dump(mode="json", exclude={"engine"}) | scripted, "t"))
    assert "the scripted engine has no chat template" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_cite_without_a_file_is_one_sentence() -> None:
    result = invoke("cite", "--model", "testbed")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing argument 'SOURCE...'" in result.stderr.strip().splitlines()[-1]
