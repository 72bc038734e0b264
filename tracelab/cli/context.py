"""Commands about contexts: `cite` and `grounding`. Thin, like `tracelab.cli`."""

from __future__ import annotations

import sys

import click

from tracelab.cli.support import format_options, guarded, home_option
from tracelab.core.errors import ImportFormatError
from tracelab.store.home import Home

_UNITS = ["word", "sentence", "paragraph", "document", "message"]


@click.command()
@click.argument("file")
@click.option("--model", required=True, metavar="DIR", help="testbed, a directory or a hub id.")
@click.option("--engine", type=click.Choice(["transformers", "vllm", "openai"]),
              default="transformers", show_default=True)  # fmt: skip
@click.option("--endpoint", metavar="URL", help="For openai: the server, up to /completions.")
@click.option("--served", metavar="NAME", help="Its name for the model [default: --model].")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds its key.")
@click.option("--ablations", type=click.IntRange(min=8), default=64, show_default=True)
@click.option("--unit", type=click.Choice(_UNITS), default="sentence", show_default=True,
              help="How finely the context is cut.")  # fmt: skip
@click.option("--mode", type=click.Choice(["delete", "placeholder", "resample"]),
              default="delete", show_default=True, help="What an ablated span is.")  # fmt: skip
@click.option("--target", help="A text of the response, or: sentences, response, action.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(["shapley", "sufficient", "pairs", "attention", "at2", "llm-cites"]),
    help="Also: Shapley values; the smallest set found that is enough; which spans need "
    "or replace each other; attention to each span, and with learned heads; which "
    "spans the model says it used. Repeatable.",
)
@click.option("--prune", type=click.IntRange(min=0), default=0, metavar="K",
              help="Answer again with the K top spans, and say what changed.")  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
              show_default=True)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@guarded
def cite(
    file: str, model: str, engine: str, endpoint: str | None, served: str | None,
    api_key_env: str | None, ablations: int, unit: str, mode: str, target: str | None,
    methods: tuple[str, ...], prune: int, dtype: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Show which spans of a context each statement of a response rests on.

    FILE holds one JSON record (of several lines, the first is taken), - reads stdin:
    {"context": TEXT or [DOCUMENTS], "query": TEXT, "response": TEXT} or {"messages": [...]}.
    Without a response the model writes it first.

    \b
    Example:
      echo '{"context": "Here are the notes. Tea costs 4.", "query": "How much is Tea?"}' |
        tracelab cite - --model testbed
    """
    from tracelab.cli.cite_work import CiteOptions, read_input, show
    from tracelab.cli.cite_work import cite as attribute

    options = CiteOptions(
        model=model, engine=engine, ablations=ablations, unit=unit, mode=mode, target=target,
        seed=seed, dtype=dtype, methods=methods, prune=prune,
        endpoint=endpoint, served=served, api_key_env=api_key_env,
    )  # fmt: skip
    text = read_input(file, sys.stdin)
    try:
        found = attribute(text, options)
    except ImportFormatError as e:
        raise ImportFormatError(f"{'stdin' if file == '-' else file}: {e}") from None
    show(found, as_json=as_json)


@click.command()
@click.option("--run", help="Id or name of the run [default: the latest one with contexts].")
@click.option("--trace", help="Id or name of the trace [default: all].")
@click.option("--label", type=click.Choice(["grounded", "diffuse", "parametric", "ungrounded",
                                            "insufficient"]), help="Only these.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@format_options
@home_option
@guarded
def grounding(
    run: str | None, trace: str | None, label: str | None, limit: int, form: str | None,
    home: str | None,
) -> None:  # fmt: skip
    """List statements: supported by the context, by which span, or the model's own.

    \b
    Example:
      tracelab grounding --label ungrounded
    """
    from tracelab.cli.sql import run_query

    given = {"run": run, "trace": trace, "label": label, "limit": str(limit)}
    params = tuple(f"{k}={v}" for k, v in given.items() if v is not None)
    run_query("grounding", params, form, Home.at(home))
