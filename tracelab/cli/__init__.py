"""The command line: `app` has the root command, every other module a group of commands."""

from tracelab.cli.app import main

__all__ = ["main"]
