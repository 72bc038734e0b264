"""`tracelab label`: categories of sentences by a language model. Thin."""

from __future__ import annotations

import sys

import click

from tracelab.cli.support import EXIT_ERRORS, Names, engine_names, guarded, home_option
from tracelab.store.home import Home


@click.command()
@click.argument("run")
@click.option("--model", required=True, help="A directory, a hub id, or its name at the endpoint.")
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible, up to /chat/completions.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds its key.")
@click.option("--engine", type=Names(engine_names), default="vllm",
              show_default=True, help="Without --endpoint; only vllm constrains it.")  # fmt: skip
@click.option("--context", type=click.IntRange(min=256), help="Context length in tokens.")
@click.option("--reply-tokens", type=click.IntRange(min=16), default=4096, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@home_option
@guarded
def label(
    run: str, model: str, endpoint: str | None, api_key_env: str | None, engine: str,
    context: int | None, reply_tokens: int, seed: int, home: str | None,
) -> None:  # fmt: skip
    """Let a language model say what each sentence of RUN does, instead of the rules.

    RUN is an id, the beginning of one, or a name. Categories are those of the Thought Anchors
    paper. A sentence without a valid label keeps the
    rules'; the exit code is 3 when that happened to more than one in twenty.

    \b
    Example:
      tracelab label demo --model my-model --endpoint http://localhost:8000/v1
    """
    from tracelab.run.judges import JudgeSetup
    from tracelab.run.labelling import label_run

    setup = JudgeSetup(
        model=model, endpoint=endpoint, api_key_env=api_key_env, engine=engine,
        **({} if context is None else {"context": context}),
    )  # fmt: skip
    found, labeller = label_run(Home.at(home), run, setup, seed=seed, reply_tokens=reply_tokens)
    total = sum(len(f.labels) for f in found)
    given = sum(label is not None for f in found for label in f.labels)
    failed = [f for f in found if f.error is not None]
    click.echo(
        f"{labeller}: {given} of {total} sentences labelled in {len(found)} traces", err=True
    )
    if failed:
        click.echo(f"{len(failed)} traces failed; the first: {failed[0].error}", err=True)
    sys.exit(EXIT_ERRORS if given < 0.95 * total else 0)
