"""`tracelab demo`: a real run on the bundled model, then its result, told briefly.

Nothing here computes: the run is that of `configs/anchors/demo.toml`, and every number
shown comes from the SQL printed above it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tracelab.core.errors import WarehouseError
from tracelab.core.resources import resource_dir
from tracelab.run.config import load_config
from tracelab.run.execute import run_config
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.text.clean import clean
from tracelab.view.output import signed

RUN = "demo"

PICK = """\
SELECT trace_id FROM anchors
WHERE run_id = $run AND method = 'resample-pooled' AND status = 'ok'
ORDER BY (role = 'plan_wrong') DESC, abs(value) DESC LIMIT 1"""

TOP = """\
SELECT rank, unit_index AS sentence, text, role, value, lo, hi, n
FROM anchors
WHERE run_id = 'demo' AND trace_id = '{trace}'
AND method = 'resample-pooled' AND rank <= 3 ORDER BY rank"""

QUESTION = """\
SELECT turns.text, traces.answer, traces.reference FROM turns JOIN traces USING (run_id, trace_id)
WHERE run_id = $run AND trace_id = $trace AND turn_index = 0"""

COSTS = "SELECT * FROM run_costs WHERE run_id = $run"


NEXT = (
    (". .venv/bin/activate", "puts tracelab on your PATH, after make demo"),
    ("tracelab query top_anchors", "the sentences that mattered, all traces"),
    ("tracelab query", "what else can be asked by name"),
    ("tracelab schema", "tables, units, signs"),
    ("tracelab check", "what the warehouse promises, verified"),
    ("tracelab run CONFIG --dry-run", "your own traces and model, costed first"),
)


@dataclass(frozen=True, slots=True)
class Story:
    """What the demo shows of one trace; all of it was read from the warehouse."""

    question: str
    answer: str | None
    reference: str | None
    sql: str
    top: list[tuple[Any, ...]]
    costs: dict[str, Any]


def run_demo(home: Home, *, fresh: bool = False, quiet: bool = False) -> None:
    """Run the demo study and show the three most important sentences of one trace."""
    began = time.monotonic()
    config = load_config(resource_dir("configs") / "anchors" / "demo.toml")
    run_config(config, home, fresh=fresh, quiet=quiet)
    seconds = time.monotonic() - began
    with open_reader(home.database) as con:
        story = tell(con)
    show(Console(markup=False, emoji=False, highlight=False), story, seconds, home)


def tell(con: DuckDBPyConnection) -> Story:
    """Read the story of the trace that a wrong plan decided most.

    Raises:
        WarehouseError: The run has no scores.
    """
    picked = con.execute(PICK, {"run": RUN}).fetchone()
    if picked is None:
        raise WarehouseError(f"run {RUN!r} has no scores; see `tracelab query failures`")
    asked = con.execute(QUESTION, {"run": RUN, "trace": picked[0]}).fetchone()
    assert asked is not None, "a scored trace has its question"
    sql = TOP.format(trace=picked[0])
    top = con.execute(sql).fetchall()
    cursor = con.execute(COSTS, {"run": RUN})
    names = [d[0] for d in cursor.description or ()]
    costs = dict(zip(names, cursor.fetchone() or (), strict=True))
    question, answer, reference = asked
    return Story(question, answer, reference, sql, top, costs)


def show(console: Console, story: Story, seconds: float, home: Home) -> None:
    """Print it."""
    console.print(Panel(Text(clean(story.question)), title="question", title_align="left"))
    right = story.answer == story.reference
    verdict = "right" if right else f"wrong: it should be {story.reference}"
    console.print(
        clean(f"The model answered {story.answer or 'nothing'} ({verdict}). What decided it?"),
        "Each sentence was written anew many times, from there to the end:\n",
        sep="\n",
    )
    console.print(Syntax(story.sql, "sql", background_color="default"))
    console.print()
    console.print(_table(story.top))
    console.print(
        "\neffect: what writing the sentence did to the chance of a right answer;\n"
        "an interval that holds 0 shows none. role: what it was planted to do.\n"
    )
    c = story.costs
    console.print(
        f"Cost: {c['rollouts']:,} rollouts, {c['generated_tokens']:,} tokens generated; "
        f"{c['prompt_tokens'] or 0:,} prompt tokens,\n"
        f"{c['cache_hit_rate'] or 0:.0%} of them from the prefix cache. "
        f"{c['seconds'] or 0:.0f} s of work so far, {seconds:.0f} s this time.\n"
        f"All of it is in {clean(str(home.database))}",
        soft_wrap=True,
    )
    console.print("\nNext:")
    for command, why in NEXT:
        console.print(f"  {command:<31}{why}", soft_wrap=True)


def _table(top: list[tuple[Any, ...]]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("sentence")
    table.add_column("role", no_wrap=True)
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for _, index, sentence, role, value, lo, hi, n in top:
        colour = "green" if lo > 0 else "red" if hi < 0 else "default"
        table.add_row(
            str(index),
            Text(clean(sentence.strip())),
            Text(clean(role or "")),
            Text(signed(value), style=colour),
            f"{signed(lo)} to {signed(hi)}",
            str(n),
        )
    return table
