"""`tracelab.anchors`: which sentences decided the answers?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from duckdb import DuckDBPyConnection

from tracelab.store.connect import open_reader
from tracelab.view.data import Data
from tracelab.view.keys import Overrides, replicating, speaks
from tracelab.view.results import frames
from tracelab.view.results.result import Result, common, measure


@dataclass(frozen=True, slots=True)
class Anchor:
    """One sentence and what it did to the answer; a row of the view `anchors`.

    `value` is the expected reward after the sentence minus before it, in [-1, 1]: positive when
    writing it raised the reward. None, with its interval, when it could not be measured.
    """

    trace_id: str
    trace_name: str | None
    method: str
    evidence: str
    rank: int | None
    unit_index: int
    text: str
    category: str | None
    role: str | None
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: str
    p_adjusted: float | None
    prob_matters: float | None
    prob_decisive: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A trace: what was asked, what was answered, and what is right (None if unknown)."""

    trace_id: str
    trace_name: str | None
    text: str
    answer: str | None
    reference: str | None


@dataclass(frozen=True, slots=True, repr=False)
class AnchorsResult(Result[Anchor]):
    """Sentences in the order of their traces; one row a sentence and method."""

    row: ClassVar[type[Anchor]] = Anchor

    traces: tuple[Asked, ...] = ()

    @property
    def method(self) -> str | None:
        """The method to look at first: the pooled one, if the run has it."""
        from tracelab.view.report.runs import preferred

        return preferred(sorted({r.method for r in self.rows}))

    def top(self, n: int = 5, *, method: str | None = None) -> list[Anchor]:
        """The sentences with the largest effects, whatever their sign, over all traces."""
        chosen = method or self.method
        ranked = [r for r in self.rows if r.method == chosen and r.value is not None]
        return sorted(ranked, key=lambda r: -abs(r.value or 0.0))[:n]


@speaks("anchors")
def anchors(
    data: Data,
    model: str | Path,
    *,
    name: str | None = None,
    compat: Literal["thought-anchors"] | None = None,
    overrides: Overrides = (),
    fresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
    **options: Any,
) -> AnchorsResult:
    """Measure which sentences decided the answers of reasoning traces; `tracelab anchors`.

    Args:
        data: `{"prompt" or "messages", "response", "reference"?, …}`, a list of such records, JSON
            text of them, the path of a file or folder of traces, or `testbed`.
        model: `testbed`, a directory or a hub id: the model that wrote the traces.
        name: The run's name; by default from the file's, or from the data and all that
            determines the numbers, so that the same call continues the same run.
        compat: Also the published numbers, from the published sampling.
        overrides: Any other config keys.
        fresh: Forget what this run has done and start over.
        retry_errors: Ask again for what failed.
        quiet: No progress on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.
        options: The study's own options, and what every run can be asked:
            {options}

    Raises:
        TracelabError: An option, the model or all of the data cannot be used, or the engine cannot
            go on; one sentence.
    """
    config, at, _ = measure(
        "anchors", data, model, name=name, overrides=overrides, fresh=fresh,
        retry_errors=retry_errors, quiet=quiet, home=home,
        prepare=dict if compat is None else replicating, **options,
    )  # fmt: skip
    with open_reader(at.database) as con:
        return opened(con, config.name, at.path)


def opened(con: DuckDBPyConnection, run_id: str, home: Path) -> AnchorsResult:
    """The result of a run that is in the warehouse."""
    rows = frames.read(
        con, Anchor,
        "FROM anchors WHERE run_id = $run ORDER BY trace_name, trace_id, method, evidence, "
        "unit_index", run=run_id,
    )  # fmt: skip
    traces = frames.read(
        con, Asked,
        "FROM trace_messages WHERE run_id = $run AND role = 'user' QUALIFY row_number() OVER "
        "(PARTITION BY trace_id ORDER BY turn_index DESC) = 1 ORDER BY trace_name, trace_id",
        run=run_id,
    )  # fmt: skip
    return AnchorsResult(run_id, home, rows, *common(con, run_id), traces)
