"""Warehouses for reports: rows put straight into the tables, so that every number is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.episode import Arguments, Episode, Label, Step, ToolCall
from tracelab.core.episode_rows import episode_rows
from tracelab.core.trace import Trace
from tracelab.store.connect import open_writer

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC).replace(tzinfo=None)
NASTY = (
    "\u202egnorw\u202c <script>alert(1)</script></textarea><img src=x onerror=alert(2)>"
    "\x00\x1b[31mred\x1b[0m &amp; <!--"
)
LONG = "x" * 100_000

_PLAIN: dict[str, dict[str, Any]] = {
    "runs": {
        "name": "study", "study": "anchors", "engine": "scripted", "model": "m",
        "model_revision": "abc", "dtype": "float32", "config": '{"name": "study"}',
        "config_digest": "d1", "tracelab_version": "0", "seed": 0, "status": "complete",
        "started_at": WHEN, "finished_at": WHEN, "versions": '{"python": "3.11"}',
    },
    "traces": {
        "source": "t.jsonl", "model": None, "rendering": "chat", "answer": "7", "reference": "7",
        "success": True, "n_prompt_tokens": 3, "n_response_tokens": 40,
        "extra": '{"reward_kind": "reference"}',
    },
    "turns": {"name": None},
    "units": {"segmenter": "reasoning-v1", "role": None},
    "rollouts": {
        "first_sentence": None, "similarity": None, "grade_status": "graded",
        "grade_detail": None, "finish_reason": "stop", "error": None, "n_tokens": 10,
        "logprob": None, "cached_tokens": None, "left_unit": None, "own_sentence": None,
        "intervention": "",
    },
    "scores": {
        "target": "", "value": None, "lo": None, "hi": None, "level": 0.95, "n": 20,
        "status": "ok", "evidence": "executed", "estimator_version": "1", "extra": "{}",
    },
    "links": {
        "unit_kind": "sentence", "method": "resample", "metric": "link", "level": 0.95, "n": 20,
        "status": "ok", "evidence": "executed", "estimator_version": "1", "extra": "{}",
    },
    "verdicts": {
        "method": "step", "tool": None, "who": "agent", "reason": None, "rollouts": 32,
        "runner_up": None, "correctable_step": None, "counterfactual": None,
        "tokens": 100, "extra": "{}",
    },
    "steps": {"agent": None, "tool": None, "parent": None, "flags": "[]"},
    "episodes": {"format": "test", "task_id": None, "version": None, "label_agent": None},
    "spans": {"document": 0, "paragraph": 0, "whole": False},
    "targets": {"kind": "sentence", "rather_than": None, "n_tokens": 4, "ablations": 32},
    "faithfulness": {"n": 8, "status": "ok", "estimator_version": "1"},
    "rejects": {},
    "tool_calls": {},
}  # fmt: skip


Buffer = dict[str, list[dict[str, Any]]]


def insert(con: DuckDBPyConnection | Buffer, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, or keep them for later; what a row does not say is as in `_PLAIN`."""
    if isinstance(con, dict):
        con.setdefault(table, []).extend(rows)
        return
    if not rows:
        return
    whole = [{"run_id": "study", **_PLAIN[table], **row} for row in rows]
    con.register("incoming", pa.Table.from_pylist(whole))
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    con.unregister("incoming")


def units(trace: str, kind: str, texts: Sequence[str], **more: Any) -> list[dict[str, Any]]:
    at, rows = 0, []
    for i, text in enumerate(texts):
        rows.append(
            {
                "trace_id": trace, "unit_kind": kind, "unit_index": i, "start_char": at,
                "end_char": at + len(text), "start_token": 2 * i, "end_token": 2 * i + 2,
                "text": text, **more,
            }
        )  # fmt: skip
        at += len(text)
    return rows


def reasoning(
    con: DuckDBPyConnection | Buffer,
    trace: str,
    texts: Sequence[str],
    deltas: Sequence[float | None],
    *,
    name: str = "",
    question: str = "How much is it?",
    alternatives: int = 3,
    words: str = " Something else is written here.",
) -> None:
    """A trace of sentences: `deltas` are its effects, None is insufficient."""
    response = "".join(texts)
    insert(con, "traces", [{"trace_id": trace, "name": name or trace, "n_units": len(texts)}])
    insert(
        con, "turns",
        [
            {"trace_id": trace, "turn_index": 0, "role": "user", "text": question},
            {"trace_id": trace, "turn_index": 1, "role": "assistant", "text": response},
        ],
    )  # fmt: skip
    insert(con, "units", units(trace, "sentence", texts))
    scores: list[dict[str, Any]] = []
    value = 0.5
    for b in range(len(texts) + 1):
        for method in ("resample", "resample-pooled"):
            scores.append(
                {
                    "trace_id": trace, "unit_kind": "boundary", "unit_index": b, "method": method,
                    "metric": "value", "value": value, "lo": max(0, value - 0.1),
                    "hi": min(1, value + 0.1),
                }
            )  # fmt: skip
        value += (deltas[b] or 0) if b < len(texts) else 0
        value = min(1.0, max(0.0, value))
    for i, delta in enumerate(deltas):
        big = delta is not None and abs(delta) >= 0.3
        ends = {} if delta is None else {"value": delta, "lo": delta - 0.1, "hi": delta + 0.1}
        common = {
            "trace_id": trace, "unit_kind": "sentence", "unit_index": i, "metric": "delta_value",
            "status": "insufficient" if delta is None else "ok", "n": 3 if delta is None else 40,
            **ends,
        }  # fmt: skip
        p = {"p": 0.001, "p_adjusted": 0.01} if big else {"p": 0.6, "p_adjusted": 0.7}
        sure = {"prob_matters": 0.99 if big else 0.1, "prob_decisive": 0.97 if big else 0.01}
        scores.append(
            {**common, "method": "resample", "extra": json.dumps({} if delta is None else p)}
        )
        scores.append({**common, "method": "resample-pooled", "extra": json.dumps(sure)})
    insert(con, "scores", scores)
    insert(
        con, "rollouts",
        [
            {
                "trace_id": trace, "item_key": f"k{i}", "replicate": j, "start_boundary": i,
                "start_token": 2 * i, "diverge_token": 2 * i, "left_unit": i, "similarity": 0.5,
                "own_sentence": words if j % 3 else f" Way {j % 7} of {i}.",
                "answer": "7" if j % 2 else "3", "reward": float(j % 2),
                "text": (words if j % 3 else f" Way {j % 7} of {i}.") + " Then it ends.",
            }
            for i in range(len(texts))
            for j in range(alternatives)
        ],
    )  # fmt: skip
    insert(
        con, "links",
        [
            {
                "trace_id": trace, "from_index": i, "to_index": i + 2, "value": 0.3 - 0.1 * (i % 7),
                "lo": 0.2 - 0.1 * (i % 7), "hi": 0.4 - 0.1 * (i % 7),
                "extra": json.dumps({"p": p, "p_adjusted": 10 * p}),
            }
            for i in range(len(texts) - 2)
            for p in [0.001 if i % 3 == 0 else 0.05]
        ],
    )  # fmt: skip


def context(con: DuckDBPyConnection, trace: str = "ctx") -> None:
    """A context of three spans and a response of three statements, one of them not measured."""
    spans = [" Kale costs 4.", " Oak adds 1.", " It rains."]
    said = ["Kale costs 4.", " So it is 5.", " Nobody knows."]
    prompt = "Notes." + "".join(spans) + " How much?"
    insert(con, "traces", [{"trace_id": trace, "name": "the shop", "n_units": 0, "success": None,
                            "reference": None, "answer": None, "extra": "{}"}])  # fmt: skip
    insert(
        con, "turns",
        [
            {"trace_id": trace, "turn_index": 0, "role": "user", "text": prompt},
            {"trace_id": trace, "turn_index": 1, "role": "assistant", "text": "".join(said)},
        ],
    )  # fmt: skip
    insert(con, "units", units(trace, "span", spans))
    insert(
        con, "spans",
        [
            {
                "trace_id": trace, "unit_index": i, "turn_index": 0,
                "start_char": prompt.index(s), "end_char": prompt.index(s) + len(s),
            }
            for i, s in enumerate(spans)
        ],
    )  # fmt: skip
    labels = ["grounded", "ungrounded", "insufficient"]
    insert(
        con, "targets",
        [
            {
                "trace_id": trace, "target": f"sentence:{i}", "position": i, "text": s,
                "logprob_full": None if i == 2 else -1.0, "logprob_empty": None if i == 2 else -5.0,
                "logprob_alone": None,
                "label": labels[i],
            }
            for i, s in enumerate(said)
        ],
    )  # fmt: skip
    effects = [[4.0, -0.1, 0.0], [0.1, 0.2, None], [None, None, None]]
    insert(
        con, "scores",
        [
            {
                "trace_id": trace, "unit_kind": "span", "unit_index": k, "method": "ablate",
                "metric": "effect", "target": f"sentence:{i}", "value": v,
                "lo": None if v is None else v - 0.3, "hi": None if v is None else v + 0.3,
                "status": "ok" if v is not None else "insufficient",
            }
            for i, row in enumerate(effects)
            for k, v in enumerate(row)
        ],
    )  # fmt: skip
    insert(
        con, "faithfulness",
        [{"trace_id": trace, "method": "ablate", "target": "sentence:0", "metric": m, "value": v}
         for m, v in (("lds", 0.9), ("oof_lds", 0.8), ("top_1_drop", 3.5))],
    )  # fmt: skip


ARGUMENTS = '{"item": "kale: the green one", "shop": "<b>Oak</b>"}'
RESULT = "Price list: kale: 4\n" + "line: of a long result\n" * 60 + "the end: of it"


def agents(con: DuckDBPyConnection, trace: str = "run1") -> None:
    """Four steps of two agents, as `Episode` spells them: the third decided the failure."""
    call = ToolCall("price", Arguments.of(ARGUMENTS), "c1")
    steps = (
        Step(0, "llm", "planner", "Look: it up.", calls=(call,)),
        Step(1, "tool", "planner", RESULT, tool="price", tool_call_id="c1", parent=0,
             arguments=call.arguments, result=RESULT),
        Step(2, "llm", "coder", "Now halve it."),
        Step(3, "llm", "coder", "2"),
    )  # fmt: skip
    label = Label(2, None, "halved for no reason")
    episode = Episode("the errand", steps, "test", task="Price of kale?", label=label)
    known = Trace.of_episode(episode)
    insert(con, "traces", [{"trace_id": trace, "name": "the errand", "n_units": 4, "success": False,
                            "answer": None, "reference": None, "n_response_tokens": 0,
                            "extra": "{}"}])  # fmt: skip
    insert(
        con, "turns",
        [
            {"trace_id": trace, "turn_index": i, "role": t.role, "text": t.text}
            for i, t in enumerate(known.turns)
        ],
    )  # fmt: skip
    texts = [u.text for u in episode.step_units()]
    insert(con, "units", units(trace, "step", texts, segmenter="steps-v1"))
    for row in episode_rows(known):
        values = asdict(row) | {"trace_id": trace}
        if row.table == "steps":
            values["flags"] = json.dumps(values["flags"])
        insert(con, row.table, [values])
    insert(
        con,
        "scores",
        [
            {
                "trace_id": trace,
                "unit_kind": "step",
                "unit_index": i,
                "method": "step",
                "metric": "p_decisive",
                "value": p,
            }
            for i, p in enumerate([0.01, 0.01, 0.92, 0.06])
        ],
    )
    curve = [0.8, 0.8, 0.8, 0.1, 0.0]
    insert(
        con, "scores",
        [
            {
                "trace_id": trace, "unit_kind": "boundary", "unit_index": b, "method": "step",
                "metric": "value", "value": v, "lo": max(0, v - 0.1), "hi": min(1, v + 0.1),
            }
            for b, v in enumerate(curve)
            if b not in (1, 4)  # no point before a tool's step, nor at the end
        ]
        + [
            {
                "trace_id": trace, "unit_kind": "step", "unit_index": i, "method": "step",
                "metric": "delta_value", "value": curve[i + 1] - curve[i],
                "lo": curve[i + 1] - curve[i] - 0.1, "hi": curve[i + 1] - curve[i] + 0.1,
            }
            for i in (0, 2)
        ]
        + [
            {
                "trace_id": trace, "unit_kind": "step", "unit_index": 3, "method": "step",
                "metric": "delta_value", "status": "insufficient",
            }
        ],
    )  # fmt: skip
    insert(
        con, "verdicts",
        [
            {
                "trace_id": trace, "evidence": "executed", "status": "localized",
                "decisive_step": 2, "agent": "coder", "posterior": 0.92, "credible_set": "[2, 3]",
                "runner_up": 3, "correctable_step": 2, "counterfactual": "Keep it at 4.",
            },
            {
                "trace_id": trace, "evidence": "judged", "method": "judge", "status": "ambiguous",
                "decisive_step": None, "agent": None, "posterior": None, "credible_set": "[]",
            },
            {
                "trace_id": trace, "evidence": "judged", "method": "rule:error-rule",
                "status": "ambiguous", "decisive_step": 1, "agent": "coder", "posterior": None,
                "credible_set": "[]",
            },
        ],
    )  # fmt: skip


def small(path: Path) -> Path:
    """One of everything, hostile text included."""
    with open_writer(path) as con:
        insert(con, "runs", [{}])
        insert(con, "rejects", [{"file": "in.jsonl", "line": 3, "reason": NASTY, "excerpt": NASTY}])
        reasoning(
            con, "aaaa000000000000",
            ["First we look.", " I will halve it.", " Nothing here.", " Fine.", " So it is 7."],
            [0.0, -0.4, 0.05, None, 0.1], name="kale",
        )  # fmt: skip
        reasoning(
            con, "bbbb000000000000", [NASTY, " " + LONG, "\n\nEnd " + NASTY], [0.1, None, 0.3],
            name=NASTY, question=NASTY, words=" " + NASTY,
        )  # fmt: skip
        context(con)
        agents(con)
    return path


def large(path: Path, traces: int = 100, sentences: int = 30, rollouts: int = 20) -> Path:
    """Many traces of ordinary length."""
    rng = np.random.default_rng(0)
    words = np.array("the price of kale is four so we add two and then check it again".split())
    later: Buffer = {}
    with open_writer(path) as con:
        insert(con, "runs", [{}])
        for t in range(traces):
            texts = [" " + " ".join(rng.choice(words, 14)) + "." for _ in range(sentences)]
            deltas = [float(x) for x in np.round(rng.normal(0, 0.08, sentences), 3)]
            reasoning(later, f"{t:016x}", texts, deltas, name=f"trace {t}", alternatives=rollouts,
                      words=" " + " ".join(rng.choice(words, 40)) + ".")  # fmt: skip
        for table, kept in later.items():
            insert(con, table, kept)
    return path
