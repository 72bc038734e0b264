"""Starting, finishing, forgetting and rebuilding runs: what the commands that write do."""

from __future__ import annotations

import importlib
import time
import uuid
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
import fsspec

from tracelab.cli.support import EXIT_ERRORS
from tracelab.core.errors import ConfigError
from tracelab.run.config import RunConfig
from tracelab.run.finish import Summary
from tracelab.run.progress import RunProgress
from tracelab.run.session import Run
from tracelab.run.wiring import local_pool, versions, wire
from tracelab.store.connect import open_writer, transaction
from tracelab.store.home import Home
from tracelab.store.journal import Journal
from tracelab.store.load import drop_run

PIPELINES = {
    "thought_anchors": "pipelines.thought_anchors",
    "context_attribution": "pipelines.context_attribution",
    "failure_audit": "pipelines.failure_audit",
}
"""Recipes by name: modules with `execute` and `rebuild`, imported when they are used."""


def run_study(
    config: RunConfig,
    home: Home,
    *,
    fresh: bool = False,
    retry_errors: bool = False,
    wait_s: float = 30.0,
    quiet: bool = False,
) -> int:
    """Run a study; returns the exit code."""
    summary = run_config(
        config, home, fresh=fresh, retry_errors=retry_errors, wait_s=wait_s, quiet=quiet
    )
    if not quiet:
        click.echo(
            f"{summary.run_id}: {summary.traces} traces, {summary.rollouts:,} rollouts "
            f"({summary.failed} failed), {summary.scores:,} scores ({summary.insufficient} "
            f"insufficient), {summary.rejected} inputs rejected; in {home.database}",
            err=True,
        )
    if summary.error_rate > config.runtime.max_error_rate:
        click.echo(
            f"tracelab: {summary.error_rate:.1%} errors, more than --max-error-rate "
            f"{config.runtime.max_error_rate:.1%}; why: "
            f"`tracelab query failures -p run={summary.run_id}`",
            err=True,
        )
        return EXIT_ERRORS
    return 0


def run_config(
    config: RunConfig,
    home: Home,
    *,
    fresh: bool = False,
    retry_errors: bool = False,
    wait_s: float = 30.0,
    quiet: bool = False,
    in_process: bool = False,
) -> Summary:
    """Run a parsed config; returns the pipeline's summary.

    With `in_process` one transformers engine on one machine runs here rather than in a Ray worker:
    small studies start in a second instead of ten.
    """
    wired = wire(config)
    if in_process and _alone(config):
        hush_transformers()
        wired = replace(
            wired, make_pool=lambda: local_pool(wired.spec, config.runtime.batch_rollouts)
        )
    home.require_writable()
    if fresh:
        forget(config, home, wait_s)
    with (
        RunProgress(quiet=quiet) as progress,
        Run(
            config, home, wired.spec, wired.make_pool, progress,
            versions=versions(), retry_errors=retry_errors,
        ) as run,
    ):  # fmt: skip
        return pipeline(config.pipeline).execute(run, wired.tokenizer, wait_s=wait_s)


def _alone(config: RunConfig) -> bool:
    engine = config.engine
    one = engine.replicas == 1 and config.runtime.ray_address is None
    return engine.kind == "transformers" and one


def hush_transformers() -> None:
    """No progress bars of weights that load in a moment, no warnings about what is checked here."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def pipeline(name: str) -> Any:
    """The module of a recipe."""
    return importlib.import_module(PIPELINES[name])


def forget(config: RunConfig, home: Home, wait_s: float) -> None:
    """Drop a run's rows and set its journal aside.

    Raises:
        TracelabError: Another process works on it, or holds the database; nothing was changed.
    """
    root = (config.runtime.journal or str(home.runs)).rstrip("/")
    fs, path = fsspec.core.url_to_fs(f"{root}/{config.name}")
    there = bool(fs.exists(path))
    if not there and not home.database.exists():
        return
    # The lock of the journal is held while it moves, so that nobody is working on it.
    with Journal(root, config.name) if there else nullcontext():
        if home.database.exists():
            with open_writer(home.database, wait_s=wait_s) as con, transaction(con):
                drop_run(con, config.name)
        if not there:
            return
        aside = f"{path}.old-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
        fs.mv(path, aside, recursive=True)
        click.echo(f"the old journal was moved to {aside}", err=True)


def rebuild_runs(runs: tuple[str, ...], home: Home) -> None:
    """Load runs from their journals."""
    here = [p.parent.name for p in sorted(home.runs.glob("*/run.json"))]
    if unknown := sorted(set(runs) - set(here)):
        raise ConfigError(
            f"{home.runs} has no run {unknown[0]!r}; it has {', '.join(here) or 'none'}"
        )
    home.require_writable()
    for name in runs or here:
        began = time.monotonic()
        with Journal(str(home.runs), name) as journal:
            record = journal.read_json("run.json")
            assert record is not None, "it was just listed"
            if record["run_id"] != name:
                if runs:
                    raise ConfigError(
                        f"{name!r} is a journal of run {record['run_id']!r} that was set aside"
                    )
                continue
            if record["finished_at"] is None:
                if runs:
                    raise ConfigError(f"run {name!r} is not finished; run it again instead")
                click.echo(f"{name}: is not finished; run it again instead", err=True)
                continue
            recipe = pipeline(record["config"]["pipeline"])
            summary = recipe.rebuild(record, journal, home.database, RunProgress())
        click.echo(
            f"{name}: {summary.rollouts:,} rollouts, {summary.scores:,} scores loaded in "
            f"{time.monotonic() - began:.1f} s",
            err=True,
        )
