"""vLLM's `AsyncLLM` as an engine: continuous batching, prefix cache, seeded replicates.

One request a replicate, so that each is had when it is finished: vLLM would take a request with
n = k apart into the same k requests, and give it back when the longest of them ends. Seeds are
those of the replicates, so chunking never changes a sample. Imports vllm only when an engine is
built.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tracelab.core.errors import EngineDeadError, ModelLoadError, one_line
from tracelab.core.item import FinishReason, Item, Observation
from tracelab.engines.aio import SideBySide
from tracelab.engines.base import Counters, EngineSpec, failed, overlong
from tracelab.engines.models import refuse_code
from tracelab.engines.vllm import scoring


class VllmEngine:
    """Serves one model through vLLM. Build it inside a running event loop."""

    capabilities = frozenset({"generate", "score", "prefix"})

    def __init__(self, spec: EngineSpec) -> None:
        """Start the engine process and load the model.

        Args:
            spec: `options` as of `tracelab.engines.vllm.Vllm.options_of`.

        Raises:
            ModelLoadError: vLLM refuses the model.
        """
        self.spec = spec
        self.counters = Counters()
        self._flying, self._running = SideBySide(), [0]
        started = time.monotonic()
        options = dict(spec.options)
        if options.pop("cpu", False):
            options |= cpu_environment(options.pop("kv_cache_gib"), options.pop("cpu_threads"))
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        logging.getLogger("vllm").setLevel(logging.ERROR)
        args = AsyncEngineArgs(
            model=spec.path,
            dtype=spec.model.dtype,
            max_model_len=spec.context_length,
            enable_prefix_caching=True,
            # Log-probabilities of what is sampled from, after temperature and top-p.
            logprobs_mode="processed_logprobs",
            seed=0,
            enable_log_requests=False,
            trust_remote_code=spec.trust_remote_code,
            **options,
        )
        try:
            self._llm: Any = AsyncLLM.from_engine_args(
                args, stat_loggers=[_counter(self.counters, self._running)]
            )
        except Exception as e:  # config validation, weight loading, memory: all end the start
            refuse_code(e, spec.model.name)
            raise ModelLoadError(
                f"vLLM cannot serve model {spec.model.name!r}: {type(e).__name__}: "
                f"{one_line(e, 400)}"
            ) from e
        self._requests = 0
        self._tail_rows = scoring.has_tail_rows(self._llm)
        self.counters.start_seconds = time.monotonic() - started

    def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.generate`."""
        return self._flying.run(
            partial(self._generate_some, some) for item in items for some in _requests(item)
        )

    def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.score`.

        One sequence is sent once, however it is divided into prefix and target: two requests for
        it would share cached positions, whose rows do not exist.
        """
        alike: dict[tuple[int, ...], list[Item]] = {}
        for item in items:
            alike.setdefault(item.prefix_ids + (item.target_ids or ()), []).append(item)
        return self._flying.run(partial(self._score_alike, group) for group in alike.values())

    async def _score_alike(self, group: Sequence[Item]) -> list[Observation]:
        (answer,) = await self._score_one(min(group, key=lambda i: len(i.prefix_ids)))
        return [_tail_of(answer, item) for item in group]

    def halt(self) -> None:
        """See `Engine.halt`. vLLM begins requests in the order in which they were sent."""
        self._flying.keep(self._running[0])

    def close(self) -> None:
        """Stop the engine process."""
        self._llm.shutdown()

    async def _request(self, prompt_ids: Sequence[int], params: Any) -> Any:
        """Run one request to its end.

        Raises:
            EngineDeadError: The engine process is gone.
        """
        from vllm.v1.engine.exceptions import EngineDeadError as VllmDead

        self._requests += 1
        final = None
        try:
            async for output in self._llm.generate(
                {"prompt_token_ids": list(prompt_ids)}, params, request_id=str(self._requests)
            ):
                final = output
        except VllmDead as e:
            raise EngineDeadError("the vLLM engine process died") from e
        return final

    async def _generate_some(self, item: Item) -> list[Observation]:
        """One request: a replicate, or all of them where they are the same."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        if too_long := overlong(item, self.spec.context_length):
            return too_long
        s = item.sampling
        assert s is not None
        greedy = s.temperature == 0
        try:
            params = SamplingParams(
                temperature=s.temperature,
                top_p=s.top_p,
                top_k=s.top_k or -1,
                max_tokens=min(s.max_tokens, self.spec.context_length - len(item.prefix_ids)),
                stop=list(s.stop) or None,
                # vLLM refuses a seed with greedy decoding, where all replicates are one.
                seed=None if greedy else item.seed_of(item.first_replicate),
                logprobs=0 if s.logprobs else None,
                structured_outputs=(
                    StructuredOutputsParams(json=s.json_schema) if s.json_schema else None
                ),
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            out = await self._request(item.prefix_ids, params)
        except EngineDeadError:
            raise
        except Exception as e:
            # One request that vLLM refuses is data; a dead engine was re-raised above.
            return failed(item, "engine", f"{type(e).__name__}: {e}")
        (c,) = out.outputs
        self.counters.generated_tokens += len(c.token_ids)
        return [
            Observation(
                key=item.key,
                replicate=r,
                token_ids=tuple(c.token_ids),
                text=c.text,
                finish_reason=_finish(c.finish_reason),
                token_logprobs=_sampled_logprobs(c) if s.logprobs else None,
                prefix_tokens=len(item.prefix_ids),
                cached_tokens=out.num_cached_tokens,
            )
            for r in item.replicate_range
        ]

    async def _score_one(self, item: Item) -> list[Observation]:
        if too_long := overlong(item, self.spec.context_length, probe_extra=1):
            return too_long
        try:
            row, cached = await self._target_logprobs(item, use_cache=True)
            if row is None:
                row, cached = await self._target_logprobs(item, use_cache=False)
        except EngineDeadError:
            raise
        except Exception as e:
            return failed(item, "engine", f"{type(e).__name__}: {e}")
        if row is None:
            return failed(item, "engine", "vLLM returned no log-probability for a target token")
        return [
            Observation(
                key=item.key,
                replicate=item.first_replicate,
                token_logprobs=tuple(row),
                prefix_tokens=len(item.prefix_ids),
                cached_tokens=cached,
            )
        ]

    async def _target_logprobs(self, item: Item, use_cache: bool) -> tuple[list[float] | None, int]:
        """Log-probability of each target token, or None if it cannot be trusted; cached tokens."""
        target, start = item.target_ids, len(item.prefix_ids)
        assert target is not None
        asked = scoring.params(target, start, use_cache=use_cache, tail=self._tail_rows)
        out = await self._request(item.prefix_ids + target, asked)
        row = scoring.read(out, target, start, tail=self._tail_rows)
        return row, int(out.num_cached_tokens or 0)


def cpu_environment(kv_cache_gib: int, threads: int) -> dict[str, Any]:
    """Set what vLLM's CPU build takes from the environment; return what it needs as arguments.

    Args:
        kv_cache_gib: GiB for the key-value cache.
        threads: Compute threads.
    """
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    # Binding to fixed cores makes several replicas, or several runs, fight over the same ones.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return {
        # vLLM 0.32 rewinds a seeded request's generator when its prefill is split over two
        # steps, which CPU generators cannot do: the engine dies. Whole prefills avoid the split.
        "enable_chunked_prefill": False,
        "enforce_eager": True,
        "block_size": 32,
    }


def _requests(item: Item) -> Iterator[Item]:
    """What is sent for an item: its replicates one by one, unless they are all the same."""
    if item.sampling is not None and item.sampling.temperature == 0:
        yield item
        return
    for r in item.replicate_range:
        yield item.at(r, 1)


def _tail_of(answer: Observation, item: Item) -> Observation:
    """The observation of an item whose target is the end of another one's."""
    row = answer.token_logprobs
    return replace(
        answer,
        key=item.key,
        replicate=item.first_replicate,
        token_logprobs=None if row is None else row[len(row) - len(item.target_ids or ()) :],
        prefix_tokens=len(item.prefix_ids),
    )


def _finish(reason: str | None) -> FinishReason:
    return "length" if reason == "length" else "stop" if reason == "stop" else "error"


def _sampled_logprobs(completion: Any) -> tuple[float, ...]:
    return tuple(
        float(entry[token].logprob)
        for token, entry in zip(completion.token_ids, completion.logprobs, strict=True)
    )


def _counter(counters: Counters, running: list[int]) -> Any:
    """A vLLM stat logger that adds up tokens; `running` holds how many requests have begun."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class TokenCounter(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            if scheduler_stats is not None:
                running[0] = scheduler_stats.num_running_reqs
                if scheduler_stats.prefix_cache_stats is not None:
                    counters.prompt_tokens += scheduler_stats.prefix_cache_stats.queries
                    counters.cached_tokens += scheduler_stats.prefix_cache_stats.hits
            if iteration_stats is not None:  # tokens as they are written, not when an answer ends
                counters.written_tokens += iteration_stats.num_generation_tokens

        def log_engine_initialized(self) -> None:
            pass

    return TokenCounter
