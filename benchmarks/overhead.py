"""What tracelab adds to vLLM: the same rollouts through `LLM.generate` and through a whole run.

Direct: the run's own requests, same sampling, handed to `vllm.LLM.generate` in one process, base
traces first. tracelab: everything `tracelab run` does after its engine has started (Ray, journal
with fsync, segmenting, grading, loading, estimating). The two alternate on one machine, so that
its noise falls on both; the ratio of the medians is the figure.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracelab.core.item import Item, Observation
from tracelab.engines.base import Counters
from tracelab.engines.vllm.engine import cpu_environment
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.execute import execute
from tracelab.run.pool import Pool
from tracelab.run.progress import RunProgress
from tracelab.run.session import Session
from tracelab.run.wiring import Wired, versions, wire
from tracelab.store.home import Home
from tracelab.studies.respond import BASE


def config_of(problems: int, rollouts: int, seed: int) -> RunConfig:
    return parse_config(
        {
            "name": f"overhead-{seed}",
            "source": "testbed",
            "model": "testbed",
            "seed": seed,
            "source_options": {"problems": problems},
            "engine": {"dtype": "float32", "max_model_len": 512},
            "sampling": {"max_tokens": 160},
            "anchors": {"rollouts": rollouts},
        },
        "benchmark",
    )


class Recorder:
    """A pool that remembers what was asked, so that the direct arm can be given the same."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.asked: list[Item] = []

    @property
    def owed(self) -> int:
        return self.pool.owed

    @property
    def restarts(self) -> int:
        return self.pool.restarts

    def submit(self, items: Iterable[Item]) -> None:
        kept = list(items)
        self.asked += kept
        self.pool.submit(kept)

    def ready(self, timeout: float) -> list[Observation]:
        return self.pool.ready(timeout)

    def cancel(self) -> None:
        self.pool.cancel()

    def counters(self) -> Counters:
        return self.pool.counters()

    def close(self, *, at_once: bool = False) -> None:
        """The benchmark closes the pool itself."""


def whole_run(config: RunConfig, wired: Wired, pool: Recorder, home: Home) -> float:
    """Seconds of a run whose engine is up."""
    began = time.perf_counter()
    lent = replace(wired, make_pool=lambda: pool)
    with (
        RunProgress(quiet=True) as progress,
        Session(config, home, lent, progress, versions=versions()) as session,
    ):
        execute(session, wait_s=30)
    return time.perf_counter() - began


def direct(llm: Any, asked: list[Item]) -> tuple[float, int]:
    """Seconds and generated tokens of `LLM.generate` on the same requests, base traces first."""
    from vllm import SamplingParams

    began, tokens = time.perf_counter(), 0
    for base in (True, False):
        items = [i for i in asked if i.sampling and (i.intervention == BASE) == base]
        params = [
            SamplingParams(
                n=i.replicates,
                temperature=i.sampling.temperature,
                max_tokens=i.sampling.max_tokens,
                seed=i.seed_of(i.first_replicate),
            )
            for i in items
            if i.sampling is not None
        ]
        prompts = [{"prompt_token_ids": list(i.prefix_ids)} for i in items]
        out = llm.generate(prompts, params, use_tqdm=False)
        tokens += sum(len(c.token_ids) for o in out for c in o.outputs)
    return time.perf_counter() - began, tokens


def measure(
    repeats: int, problems: int, rollouts: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Alternate both sides; one more round than `repeats`, the first to warm up."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    first = config_of(problems, rollouts, 0)
    wired = wire(first)
    options = dict(wired.spec.options)
    if options.pop("cpu", False):
        options |= cpu_environment(options.pop("kv_cache_gib"), options.pop("cpu_threads"))
    from vllm import LLM

    llm = LLM(
        model=wired.spec.path,
        dtype=wired.spec.model.dtype,
        max_model_len=wired.spec.context_length,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        **options,
    )
    pool = Recorder(wired.make_pool())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for k in range(repeats + 1):
            pool.asked = []
            ours = whole_run(config_of(problems, rollouts, k), wired, pool, home)
            theirs, tokens = direct(llm, pool.asked)
            if k:
                rows.append((theirs, ours, tokens))
                tell(f"round {k}: direct {theirs:.1f} s, tracelab {ours:.1f} s, {tokens:,} tokens")
    pool.pool.close()
    a, b = (statistics.median(r[i] for r in rows) for i in (0, 1))
    return {
        "direct_seconds": round(a, 2), "tracelab_seconds": round(b, 2), "ratio": round(b / a, 3),
        "generated_tokens": rows[0][2], "cores": os.cpu_count(), "engine": "vllm cpu",
    }  # fmt: skip
