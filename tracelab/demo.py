"""`tracelab demo`: a real run on the bundled model, then its result, told briefly.

Nothing here computes: the run is that of `configs/thought_anchors/demo.toml`, and every number
shown comes from the SQL printed above it.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tracelab.commands import run_config
from tracelab.config import load_config
from tracelab.home import Home
from tracelab.output import clean
from tracelab.resources import resource_dir
from tracelab.warehouse import open_reader

RUN = "demo"

PICK = """\
SELECT trace_id FROM anchors
WHERE run_id = $run AND status = 'ok'
ORDER BY (role = 'plan_wrong') DESC, abs(value) DESC LIMIT 1"""

TOP = """\
SELECT rank, unit_index AS sentence, text, role, value, lo, hi, n
FROM anchors WHERE run_id = 'demo' AND trace_id = '{trace}'
ORDER BY rank LIMIT 3"""

QUESTION = """\
SELECT turns.text, traces.answer, traces.reference FROM turns JOIN traces USING (run_id, trace_id)
WHERE run_id = $run AND trace_id = $trace AND turn_index = 0"""

COSTS = "SELECT * FROM run_costs WHERE run_id = $run"


def run_demo(home: Home, *, quiet: bool = False) -> None:
    """Run the demo study and show the three most important sentences of one trace."""
    began = time.monotonic()
    config = load_config(resource_dir("configs") / "thought_anchors" / "demo.toml")
    run_config(config, home, quiet=quiet)
    seconds = time.monotonic() - began
    with open_reader(home.database) as con:
        picked = con.execute(PICK, {"run": RUN}).fetchone()
        assert picked is not None, "the demo has anchors"
        at = {"run": RUN, "trace": picked[0]}
        question = con.execute(QUESTION, at).fetchone()
        sql = TOP.format(trace=picked[0])
        top = con.execute(sql).fetchall()
        cursor = con.execute(COSTS, {"run": RUN})
        names = [d[0] for d in cursor.description]
        costs = dict(zip(names, cursor.fetchone() or (), strict=False))
    show(Console(), question, sql, top, costs, seconds, home)


def show(console: Console, question, sql, top, costs, seconds: float, home: Home) -> None:  # type: ignore[no-untyped-def]
    """Print the result."""
    text, answer, reference = question
    console.print(Panel(Text(clean(text)), title="question", title_align="left"))
    verdict = "right" if answer == reference else f"wrong, it should be {reference}"
    console.print(
        f"The model answered {clean(str(answer))} ({verdict}). What decided it? "
        "Each sentence was rewritten many times, from there to the end:\n",
        markup=False,
    )
    console.print(Syntax(sql, "sql", background_color="default"))
    table = Table(show_edge=False, pad_edge=False)
    for name, side in (
        ("#", "right"), ("sentence", "left"), ("planted role", "left"),
        ("effect on P(right)", "right"), ("95 % interval", "right"), ("n", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for _, index, sentence, role, value, lo, hi, n in top:
        colour = "green" if lo > 0 else "red" if hi < 0 else "default"
        table.add_row(
            str(index), Text(clean(sentence.strip())), role or "",
            Text(f"{value:+.2f}", style=colour), f"{lo:+.2f} to {hi:+.2f}", str(n),
        )  # fmt: skip
    console.print(table)
    console.print(
        "\nPositive: writing the sentence raised the chance of a right answer; negative: it "
        "lowered it. An interval that holds 0 means no effect was shown.\n"
    )
    console.print(
        f"Cost: {costs['rollouts']:,} rollouts, {costs['generated_tokens']:,} generated and "
        f"{costs['prompt_tokens']:,} prompt tokens ({costs['cache_hit_rate']:.0%} from the prefix "
        f"cache); {seconds:.0f} s this time. All of it is in {home.database}",
        highlight=False,
    )
    console.print(
        "\nNext:\n"
        "  tracelab query top_anchors                  the sentences that mattered, all traces\n"
        "  tracelab query                              what else can be asked by name\n"
        "  tracelab schema                             tables, units, signs\n"
        "  tracelab check                              what the warehouse promises, verified\n"
        "  tracelab run CONFIG --dry-run               your own traces and model, costed first\n",
        markup=False, highlight=False,
    )  # fmt: skip
