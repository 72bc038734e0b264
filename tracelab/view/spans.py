"""`tracelab.cite`: which spans of its context is each statement of a response made of?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.view import frames
from tracelab.view.data import Data, Overrides, configured, place
from tracelab.view.result import Result, common, measure


@dataclass(frozen=True, slots=True)
class Effect:
    """What one span does to one statement; a row of the view `context_effects`.

    `value` is in nats of log-probability: positive when the span makes the statement likelier.
    None, with its interval, when it could not be measured.
    """

    trace_id: str
    trace_name: str | None
    method: str
    target: str
    statement: str
    rank: int | None
    unit_index: int
    span: str
    role: str | None
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Is a statement supported, and by what? A row of the view `grounding`.

    `label` is grounded, diffuse, parametric, ungrounded or insufficient; `lds` says how well the
    scores predict fresh ablations (Spearman correlation, None when not measured).
    """

    trace_id: str
    trace_name: str | None
    method: str | None
    target: str
    position: int
    statement: str
    label: str
    supporting: int | None
    top_index: int | None
    top_span: str | None
    top_value: float | None
    top_lo: float | None
    top_hi: float | None
    logprob_full: float | None
    logprob_empty: float | None
    lds: float | None
    ablations: int


@dataclass(frozen=True, slots=True, repr=False)
class CiteResult(Result[Effect]):
    """Effects, strongest first within a statement; one row a span, statement and method."""

    row: ClassVar[type[Effect]] = Effect

    statements: tuple[Statement, ...] = ()

    def _repr_html_(self) -> str:
        from tracelab.view.html import of_cite

        return of_cite(self)


def cite(
    data: Data,
    model: str | Path,
    *,
    name: str | None = None,
    ablations: int = 64,
    unit: str = "sentence",
    mode: str = "delete",
    target: Any = None,
    methods: Sequence[str] = (),
    engine: str = "transformers",
    endpoint: str | None = None,
    served: str | None = None,
    api_key_env: str | None = None,
    dtype: str = "float32",
    seed: int = 0,
    max_tokens: int = 512,
    overrides: Overrides = (),
    fresh: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
) -> CiteResult:
    """Attribute responses to their contexts; `tracelab cite`, kept in the warehouse.

    Args:
        data: `{"context", "query", "response"?}` or `{"messages": […]}`, a list of such records,
            JSON text of them, the path of a JSONL file, or `testbed`. Without a response the model
            writes it first.
        model: `testbed`, a directory or a hub id.
        name: The run's name; by default from the data and all that determines the numbers, so that
            the same call continues the same run.
        ablations: Masks a context.
        unit: `word`, `sentence`, `paragraph`, `document` or `message`.
        mode: What stands in the place of an ablated span: `delete`, `placeholder`, `resample`.
        target: A text of the response, or what else a record's `target` can be; needs data in
            memory.
        methods: `shapley`, `sufficient`, `pairs`, `attention`, `at2`, `llm-cites`, besides
            the effects.
        engine: `transformers`, `vllm` or `openai`.
        endpoint: For `openai`: the server, up to and without `/completions`.
        served: Its name for the model; default: `model`.
        api_key_env: Environment variable that holds its key.
        dtype: Precision of weights and arithmetic.
        seed: Of the masks, and of a response that the model writes.
        max_tokens: Longest response that the model writes.
        overrides: Any other config keys.
        fresh: Forget what this run has done and start over.
        quiet: No progress on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.

    Raises:
        TracelabError: An option, the model or all of the data cannot be used, or the engine cannot
            go on; one sentence.
    """
    from tracelab.cli.cite_work import CiteOptions, config_of

    at = Home.at(home)
    options = CiteOptions(
        model=str(model), engine=engine, ablations=ablations, unit=unit, mode=mode, seed=seed,
        dtype=dtype, max_tokens=max_tokens, methods=tuple(methods),
        endpoint=endpoint, served=served, api_key_env=api_key_env,
    )  # fmt: skip
    config = config_of(options).model_dump(mode="json")
    del config["name"]
    source, in_memory = place(data, at)
    if target is not None:
        if not in_memory:
            raise ConfigError("target needs data in memory; in a file, each record has its own")
        source, _ = place([r | {"target": target} for r in _records(source)], at)
    config |= {"source": source} | ({} if name is None else {"name": name})
    parsed = configured(config, overrides, "tracelab.cite", stem="cite")
    measure(parsed, at, fresh=fresh, quiet=quiet)
    with open_reader(at.database) as con:
        return opened(con, parsed.name, at.path)


def _records(source: str) -> list[dict[str, Any]]:
    text = Path(source).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def opened(con: DuckDBPyConnection, run_id: str, home: Path) -> CiteResult:
    """The result of a run that is in the warehouse."""
    rows = frames.read(
        con, Effect,
        "FROM context_effects WHERE run_id = $run ORDER BY trace_name, trace_id, method, "
        "position, rank NULLS LAST, unit_index", run=run_id,
    )  # fmt: skip
    statements = frames.read(
        con, Statement,
        "FROM grounding WHERE run_id = $run ORDER BY trace_name, trace_id, position, method",
        run=run_id,
    )  # fmt: skip
    return CiteResult(run_id, home, rows, *common(con, run_id), statements)
