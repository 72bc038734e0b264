"""What every command shares: errors into sentences and exit codes, `--home`, output formats."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click

from tracelab.core.errors import ConfigError, TracelabError
from tracelab.store.home import FULL

EXIT_ERRORS = 3
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


def guarded(command: F) -> F:
    """Turn what goes wrong on purpose into one sentence and an exit code."""

    @wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8
                    stream.reconfigure(errors="backslashreplace")
            try:
                return command(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except TracelabError as e:
            complain(str(e))
            _leave(e.exit_code)
        except KeyboardInterrupt:
            complain("interrupted")
            _leave(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output left (`| head`): nothing failed. What is still buffered
            # goes nowhere, so that Python's last flush does not fail either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as e:
            # A disk, a permission, a file that vanished: the machine's fault, not ours.
            where = f"{e.filename}: " if e.filename else ""
            if e.errno in FULL:
                complain(f"{where}the disk is full; free some space and run the same command again")
            else:
                complain(f"{where}{e.strerror or e}")
            sys.exit(1)

    return call  # type: ignore[return-value]


def _leave(code: int) -> NoReturn:
    """Exit, also where one call of a slow SQL function cannot be stopped."""
    reading = sys.modules.get("tracelab.store.reading")
    if reading is not None and reading.left_behind():
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def complain(text: str) -> None:
    """One sentence to stderr; cleaned of control characters, for it may quote a trace."""
    from tracelab.core.secrets import redacted
    from tracelab.text.clean import clean

    click.echo(f"tracelab: {clean(redacted(text))}", err=True)


def tell(text: str) -> None:
    """What a reader of the output must know besides, to stderr, cleaned like `complain`."""
    from tracelab.text.clean import clean

    click.echo(clean(text), err=True)


class Names(click.Choice[str]):
    """One of some names that are looked up when they are needed, not when a command is defined."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        """Take what lists them."""
        self._names = names
        self.case_sensitive = True

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        """The names."""
        return [*self._names()]


def engine_names() -> Iterable[str]:
    """Every engine there is."""
    from tracelab.engines.registry import ENGINES

    return ENGINES


def home_option(command: F) -> F:
    """`--home`."""
    return click.option(
        "--home",
        metavar="DIR",
        help="Where results live [default: $TRACELAB_HOME or ./tracelab-home].",
    )(command)


def format_options(command: F) -> F:
    """`--json`, `--nl`, `--csv`, `--table`."""
    for name, text in (
        ("table", "Table for reading (default on a terminal)."),
        ("csv", "CSV (default when piped)."),
        ("nl", "One JSON object a line."),
        ("json", "One JSON array."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
    return command


def parse_params(params: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` options as a map.

    Raises:
        ConfigError: One has no `=`.
    """
    pairs = [p.partition("=") for p in params]
    for name, eq, _ in pairs:
        if not eq or not name:
            raise ConfigError(f"--param {name + eq!r}: write NAME=VALUE")
    return {name: value for name, _, value in pairs}
