"""`tracelab score-judges PATH`: floors and judges on annotated failures. Thin."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tracelab.cli.support import EXIT_ERRORS, Names, engine_names, format_options, guarded

JUDGES = ("all-at-once", "step-by-step", "binary-search", "a2p")


@click.command("score-judges")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--method", "methods", multiple=True, metavar="NAME",
              help=f"A floor, `floors` for all, or a judge: {', '.join(JUDGES)} "
              "[default: floors].")  # fmt: skip
@click.option("--predictions", type=click.Path(path_type=Path),
              help="JSONL of {name, step, agent}: score these too, exactly as given.")  # fmt: skip
@click.option("--model", help="For judges: a directory, a hub id, or the endpoint's name for it.")
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible, up to /chat/completions.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds its key.")
@click.option("--engine", type=Names(engine_names), default="vllm",
              show_default=True, help="For judges without --endpoint.")  # fmt: skip
@click.option("--context", type=click.IntRange(min=256), help="Context length in tokens.")
@click.option("--reply-tokens", type=click.IntRange(min=16), default=1024, show_default=True)
@click.option("--concurrency", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--max-requests", type=click.IntRange(min=0), help="Cap, over all judges.")
@click.option("--max-tokens", type=click.IntRange(min=0), help="Cap on prompt and reply tokens.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Cap, in the unit of --price.")
@click.option("--price", nargs=2, type=float, default=(0.0, 0.0), metavar="IN OUT",
              help="Price of a million prompt and reply tokens.")  # fmt: skip
@click.option("--with-ground-truth", is_flag=True, help="Show judges the correct answer.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True,
              help="Coverage of the intervals.")  # fmt: skip
@click.option("--max-error-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="Share of failed judge calls above which the exit code is 3.")  # fmt: skip
@format_options
@guarded
def score_judges(
    path: Path,
    methods: tuple[str, ...],
    predictions: Path | None,
    model: str | None,
    endpoint: str | None,
    api_key_env: str | None,
    engine: str,
    context: int | None,
    reply_tokens: int,
    concurrency: int,
    max_requests: int | None,
    max_tokens: int | None,
    max_cost: float | None,
    price: tuple[float, float],
    with_ground_truth: bool,
    seed: int,
    level: float,
    max_error_rate: float,
    form: str | None,
) -> None:
    """Score guesses about the decisive step against annotated ones, by exact integers.

    PATH is a folder of Who&When files, or any agent logs that carry such labels. Every floor and
    judge gets its accuracy with a Wilson interval, accuracy within ±k steps, and the paired
    difference to the best floor. Read Who&When as a smoke test: its labels are opinions.

    \b
    Examples:
      tracelab score-judges who_and_when/
      tracelab score-judges who_and_when/ --method a2p --method floors \\
        --endpoint http://localhost:8000/v1 --model my-judge --json
    """
    from tracelab.run.judges import JudgeSetup
    from tracelab.run.score_judges import score
    from tracelab.text.clean import clean
    from tracelab.view.judge_scores import print_scores

    setup = JudgeSetup(
        model=model, endpoint=endpoint, api_key_env=api_key_env, engine=engine,
        **({} if context is None else {"context": context}), concurrency=concurrency,
        max_requests=max_requests, max_tokens=max_tokens, max_cost=max_cost,
        input_price=price[0], output_price=price[1],
    )  # fmt: skip
    rows, failed = score(
        path, methods, predictions, setup, level=level,
        tell=lambda line: click.echo(clean(line), err=True), reply_tokens=reply_tokens,
        show_reference=with_ground_truth, seed=seed,
    )  # fmt: skip
    print_scores(rows, form)
    sys.exit(EXIT_ERRORS if failed > max_error_rate else 0)
