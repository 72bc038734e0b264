"""What is pinned: the studies, and the columns that are read from their warehouses.

Everything that a renaming may touch is on this page and nowhere else: the keys of configs
(`ANCHORS` ... `STUDIES`), and the tables and columns (`TABLES`). A column that is renamed is read
as `new AS old`, a table is renamed in `sql`; the recorded numbers then stay as they are.

`python -m tests.snapshot.record [STUDY ...]` records anew, for changes that are meant to change
numbers. The files in `inputs/` are fixed: traces were drawn from the scripted engine, agent logs
written by `tests.agent_files`. Everything was recorded on CPU, where samples, vLLM's too, repeat
from run to run; another kind of processor may round log-probabilities otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANCHORS, CITE, AUDIT = "anchors", "cite", "audit"
"""Values of `study`."""

PAGE = {"max_model_len": 1024, "device": "cpu", "dtype": "float32"}
TRANSFORMERS = {"kind": "transformers", **PAGE}
VLLM = {"kind": "vllm", **PAGE, "max_num_seqs": 32, "kv_cache_gib": 1}


@dataclass(frozen=True, slots=True)
class Study:
    """One run.

    Attributes:
        config: Its config; `source` is a name in `inputs/`, or `testbed`.
        exits: The exit code it ends with: 3 where more records are refused than the default allows.
        needs_vllm: It starts vLLM.
    """

    config: Mapping[str, Any]
    exits: int = 0
    needs_vllm: bool = False


STUDIES: dict[str, Study] = {
    # Every method that needs no model, every boundary alike. The source has one line without a
    # response and one that is there twice.
    "anchors_uniform": Study(
        {
            "study": ANCHORS, "source": "traces.jsonl", "model": "scripted", "seed": 11,
            "engine": {"kind": "scripted"},
            "anchors": {
                "methods": ["resample", "counterfactual", "links", "force", "thought-anchors"],
                "allocation": "uniform", "rollouts": 12, "similarity": "lexical",
                "force_suffix": " So the bill is \\boxed{",
            },
        },
        exits=3,
    ),
    # Rollouts where they teach most, until the tokens are spent.
    "anchors_adaptive": Study(
        {
            "study": ANCHORS, "source": "traces.jsonl", "model": "scripted", "seed": 12,
            "engine": {"kind": "scripted"},
            "anchors": {
                "methods": ["resample", "counterfactual", "links"], "allocation": "adaptive",
                "target_halfwidth": 0.02, "budget_tokens": 4000, "rollouts": 60,
                "similarity": "lexical",
            },
        },
        exits=3,
    ),
    # Nothing shared between boundaries, an answer by pattern, the published segmenter.
    "anchors_plain": Study(
        {
            "study": ANCHORS, "source": "traces.jsonl", "model": "scripted", "seed": 13,
            "engine": {"kind": "scripted"},
            "source_options": {"limit": 2},
            "grading": {"kind": "regex", "pattern": "bill is .boxed.(?P<answer>[0-9]+)"},
            "anchors": {
                "methods": ["resample", "counterfactual", "links"], "allocation": "uniform",
                "rollouts": 8, "similarity": "lexical", "certificates": False, "recycle": False,
                "pooled": False, "segmenter": "thought-anchors", "threshold": 0.5, "level": 0.8,
            },
        },
    ),
    # The model answers first; the first right and the first wrong answer are studied.
    "anchors_questions": Study(
        {
            "study": ANCHORS, "source": "questions.jsonl", "model": "scripted", "seed": 14,
            "engine": {"kind": "scripted"},
            "source_options": {"format": "questions", "attempts": 6, "keep": "both"},
            "anchors": {"methods": ["resample"], "rollouts": 12, "similarity": "lexical"},
        },
    ),
    # A real model, also from the inside.
    "anchors_testbed": Study(
        {
            "study": ANCHORS, "source": "testbed", "model": "testbed", "seed": 7,
            "engine": TRANSFORMERS,
            "source_options": {"problems": 2, "phrasing": 2},
            "sampling": {"max_tokens": 120},
            "anchors": {
                "methods": ["resample", "counterfactual", "links", "attend", "suppress"],
                "allocation": "uniform", "rollouts": 6, "similarity": "lexical",
            },
        },
    ),
    "cite_testbed": Study(
        {
            "study": CITE, "source": "testbed", "model": "testbed", "seed": 3,
            "engine": TRANSFORMERS,
            "source_options": {"problems": 2},
            "sampling": {"max_tokens": 40},
            "cite": {
                "methods": [
                    "ablate", "context-cite", "leave-one-out", "shapley", "sufficient", "pairs",
                    "attention", "at2", "llm-cites",
                ],
                "ablations": 16, "held_out": 8, "top_k": [1, 2], "prune": 2, "curve_points": 2,
            },
        },
    ),
    # Documents and a question whose response is given; one record has no context.
    "cite_documents": Study(
        {
            "study": CITE, "source": "notes.jsonl", "model": "testbed", "seed": 4,
            "engine": TRANSFORMERS,
            "sampling": {"temperature": 0.0, "max_tokens": 40},
            "cite": {
                "methods": ["ablate", "leave-one-out", "shapley", "pairs"], "mode": "placeholder",
                "ablations": 16, "held_out": 8, "top_k": [1], "prune": 3, "curve_points": 2,
            },
        },
        exits=3,
    ),
    "audit_testbed": Study(
        {
            "study": AUDIT, "source": "testbed", "model": "testbed", "seed": 3,
            "engine": TRANSFORMERS,
            "source_options": {"problems": 6},
            "sampling": {"max_tokens": 64},
            "audit": {
                "environment": "testbed", "rollouts": 4, "controls": 2, "correct": True,
                "corrections": 2, "confirm": 4, "evidence": True, "ablations": 8,
                "opinions": ["error-rule"],
            },
        },
    ),
    # Recorded tool results, of one run.
    "audit_replay": Study(
        {
            "study": AUDIT, "source": "agents/runs.jsonl", "model": "testbed", "seed": 5,
            "engine": TRANSFORMERS,
            "source_options": {"limit": 1},
            "sampling": {"max_tokens": 48},
            "audit": {
                "environment": "replay", "rollouts": 4, "controls": 1, "correct": False,
                "evidence": True, "ablations": 8,
            },
        },
    ),
    # Every format of agent logs, every rule that asks no model.
    "audit_opinions": Study(
        {
            "study": AUDIT, "source": "agents", "model": "testbed", "seed": 6,
            "engine": TRANSFORMERS,
            "audit": {
                "opinions": [
                    "uniform", "uniform-llm", "first-step", "last-llm-step", "busiest-agent",
                    "step-mode", "llm-step-mode", "error-rule",
                ],
            },
        },
    ),
    "anchors_vllm": Study(
        {
            "study": ANCHORS, "source": "testbed", "model": "testbed", "seed": 7,
            "engine": VLLM,
            "source_options": {"problems": 1, "phrasing": 2},
            "sampling": {"max_tokens": 120},
            "anchors": {
                "methods": ["resample", "counterfactual", "links"], "allocation": "uniform",
                "rollouts": 6, "similarity": "lexical",
            },
        },
        needs_vllm=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """What is read of one table, as SQL expressions.

    Attributes:
        sql: The table, joined to what names its rows.
        key: What names a row; unique.
        values: What is compared.
        grouped: Rows with one key are summed up: `values` are aggregates.
    """

    sql: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    grouped: bool = field(default=False)


TRACE = "trace"
"""Names a trace: not by its content hash, which may change while no number does."""

_TRACES = "SELECT *, name || ' (' || parse_filename(source) || ')' AS trace FROM traces"
_T = f"LEFT JOIN (SELECT run_id, trace_id, trace FROM ({_TRACES})) USING (run_id, trace_id)"
_NUMBER = ("value", "lo", "hi", "level", "n", "status", "evidence", "estimator_version", "extra")

TABLES: dict[str, Table] = {
    "runs": Table(
        "runs", ("run_id",), ("name", "study", "engine", "model", "dtype", "seed", "status")
    ),
    "rejects": Table(
        "rejects",
        ("parse_filename(file) AS file", "line"),
        ("count(*) AS n", "string_agg(reason, ' | ' ORDER BY reason) AS reason"),
        grouped=True,
    ),
    "traces": Table(
        f"({_TRACES})",
        (TRACE,),
        ("rendering", "answer", "reference", "success", "n_prompt_tokens", "n_response_tokens",
         "n_units"),
    ),
    "turns": Table(
        f"turns {_T}", (TRACE, "turn_index"), ("role", "name", "text")
    ),
    "units": Table(
        f"units {_T}",
        (TRACE, "unit_kind", "unit_index"),
        ("segmenter", "start_char", "end_char", "start_token", "end_token", "text", "role",
         "category", "labeller"),
    ),
    "spans": Table(
        f"spans {_T}",
        (TRACE, "unit_index"),
        ("turn_index", "start_char", "end_char", "document", "paragraph", "whole"),
    ),
    "items": Table(
        f"items {_T}",
        (TRACE, "intervention", "start_boundary"),
        ("count(*) AS items", "min(start_token) AS start_token",
         "sum(replicates)::BIGINT AS replicates"),
        grouped=True,
    ),
    # One row a boundary; `texts` changes when any sample does.
    "rollouts": Table(
        f"rollouts {_T}",
        (TRACE, "intervention", "start_boundary"),
        ("count(*) AS n", "count(error) AS errors", "sum(n_tokens)::BIGINT AS tokens",
         "sum(reward) AS reward", "sum(similarity) AS similarity", "sum(logprob) AS logprob",
         "count(first_sentence) AS first_sentences", "count(own_sentence) AS own_sentences",
         "sum(left_unit)::BIGINT AS left_units", "sum(diverge_token)::BIGINT AS diverge_tokens",
         "string_agg(DISTINCT finish_reason, ' ' ORDER BY finish_reason) AS finish_reasons",
         "string_agg(DISTINCT grade_status, ' ' ORDER BY grade_status) AS grades",
         "string_agg(DISTINCT answer, ' ' ORDER BY answer) AS answers",
         "md5(string_agg(text, chr(31) ORDER BY replicate, text)) AS texts"),
        grouped=True,
    ),
    # One row a target and kind of mask (`delete:design`, ...).
    "probes": Table(
        f"probes {_T}",
        (TRACE, "unit_kind", "target", "regexp_replace(intervention, ':[0-9a-f]*$', '') AS asked"),
        ("count(*) AS n", "count(error) AS errors", "sum(n_target_tokens)::BIGINT AS tokens",
         "sum(logprob) AS logprob", "min(logprob) AS least",
         "count(DISTINCT intervention) AS masks"),
        grouped=True,
    ),
    "masked_answers": Table(
        f"masked_answers {_T}",
        (TRACE, "regexp_replace(intervention, ':[0-9a-f]*$', '') AS asked"),
        ("count(*) AS n", "count(error) AS errors", "sum(n_tokens)::BIGINT AS tokens",
         "string_agg(DISTINCT grade_status, ' ' ORDER BY grade_status) AS grades",
         "md5(string_agg(text, chr(31) ORDER BY unit_index, replicate, text)) AS texts"),
        grouped=True,
    ),
    "targets": Table(
        f"targets {_T}",
        (TRACE, "target"),
        ("position", "kind", "text", "rather_than", "n_tokens", "logprob_full", "logprob_empty",
         "label", "ablations"),
    ),
    "scores": Table(
        f"scores {_T}",
        (TRACE, "unit_kind", "method", "metric", "target", "unit_index"),
        _NUMBER,
    ),
    "links": Table(
        f"links {_T}",
        (TRACE, "unit_kind", "method", "metric", "from_index", "to_index"),
        _NUMBER,
    ),
    "faithfulness": Table(
        f"faithfulness {_T}",
        (TRACE, "method", "target", "metric"),
        ("value", "n", "status", "estimator_version"),
    ),
    "pruned": Table(
        f"pruned {_T}",
        (TRACE, "k"),
        ("kept", "n_spans", "tokens", "tokens_left", "response", "same", "logprob_change",
         "status", "reason"),
    ),
    "episodes": Table(
        f"episodes {_T}",
        (TRACE,),
        ("format", "task_id", "version", "n_steps", "label_step", "label_agent", "label_reason"),
    ),
    "steps": Table(
        f"steps {_T}", (TRACE, "unit_index"), ("kind", "agent", "tool", "parent", "flags")
    ),
    "reruns": Table(
        f"reruns {_T}",
        (TRACE, "position"),
        ("start_step", "left_step", "reward", "censored", "forced", "error", "tokens",
         "md5(actions::VARCHAR) AS actions"),
    ),
    "verdicts": Table(
        f"verdicts {_T}",
        (TRACE, "method", "evidence"),
        ("status", "decisive_step", "agent", "tool", "who", "posterior", "credible_set",
         "runner_up", "correctable_step", "counterfactual", "reason", "rollouts", "tokens",
         "extra"),
    ),
}  # fmt: skip
"""Not read: times, sessions (costs), versions, content hashes, paths, and traces.extra, which
repeats the source."""

DATABASE = "tracelab.duckdb"
"""The warehouse in a home."""
