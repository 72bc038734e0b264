"""`tracelab completion`: what a shell needs to complete commands, options and query names. Thin."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from tracelab.cli.support import guarded
from tracelab.core.resources import resource_dir

_VARIABLE = "_TRACELAB_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@guarded
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete tracelab's commands, options and queries.

    \b
    Examples:
      tracelab completion bash >> ~/.bashrc
      tracelab completion zsh >> ~/.zshrc
      tracelab completion fish > ~/.config/fish/completions/tracelab.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "the choices are click's"
    click.echo(kind(ctx.find_root().command, {}, "tracelab", _VARIABLE).source())


def query_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Named queries that begin so: names of files, so that nothing heavy is imported for a key."""
    names = sorted(p.stem for p in (resource_dir("warehouse") / "queries").glob("*.sql"))
    return [CompletionItem(n) for n in names if n.startswith(incomplete)]


def config_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Bundled configs that begin so, and whatever files do."""
    root = resource_dir("configs")
    names = sorted(f"{p.parent.name}/{p.stem}" for p in root.glob("*/*.toml"))
    found = [CompletionItem(n) for n in ["demo", *names] if n.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]
