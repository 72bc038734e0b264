"""The transformers library as an engine: the reference that others are checked against.

One prefill a prefix; its key-value cache is shared by all replicates, which are then decoded as
one batch with a generator each, so a replicate's sample does not depend on its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from tracelab.core.errors import EngineError, ModelLoadError, one_line
from tracelab.core.item import Call, FinishReason, Item, Observation, Sampling
from tracelab.engines.base import Counters, EngineSpec, failed, overlong
from tracelab.engines.models import refuse_code
from tracelab.engines.tokenizer import HFTokenizer

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch


class TransformersEngine:
    """Serves one model through transformers, in this process."""

    capabilities = frozenset({"generate", "score", "prefix", "look"})

    def __init__(self, spec: EngineSpec) -> None:
        """Load the model.

        Args:
            spec: `options` as of `Transformers.options_of` and `alone`.

        Raises:
            ModelLoadError: The library refuses the model.
        """
        import torch
        from transformers import AutoModelForCausalLM

        self.spec = spec
        self.counters = Counters()
        started = time.monotonic()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads := spec.options.get("cpu_threads"):
            torch.set_num_threads(int(threads))
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                spec.path,
                dtype=getattr(torch, spec.model.dtype),
                # Said, because the library asks on the terminal when it is not.
                trust_remote_code=spec.trust_remote_code,
                weights_only=True,
            )
        except Exception as e:
            refuse_code(e, spec.model.name)
            raise ModelLoadError(
                f"transformers cannot load model {spec.model.name!r}: {type(e).__name__}: "
                f"{one_line(e, 400)}"
            ) from e
        self._model: Any = model.to(self._device).eval()
        self._tokenizer = HFTokenizer(
            spec.path, trust_code=spec.trust_remote_code, template_options=spec.template_options
        )
        self._eos = _eos_ids(self._model)
        self._max_batch = int(spec.options.get("max_batch", 64))
        self._side_by_side = int(spec.options.get("side_by_side", 1))
        self._turn = asyncio.Lock()  # the model computes for one call at a time
        self._asked = 0
        self.counters.start_seconds = time.monotonic() - started

    async def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.generate`."""
        asked = self._asked
        async with self._turn:
            for item in items:
                first, count = item.first_replicate, item.replicates
                for at in range(first, first + count, self._max_batch):
                    if asked != self._asked:
                        return
                    some = item.at(at, min(self._max_batch, first + count - at))
                    yield self._guard(some, self._decode)

    async def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.score`."""
        from tracelab.engines.transformers import scoring

        asked, context = self._asked, self.spec.context_length
        left = {i.key: i for i in items}
        fit = [i for i in left.values() if i.prefix_ids and not overlong(i, context)]
        async with self._turn:
            batches = scoring.observe(
                self._model, fit, self._device, self._max_batch, self._side_by_side
            )
            with contextlib.closing(batches):
                while asked == self._asked:
                    try:
                        batch = next(batches, None)
                    except Exception as e:  # the rest one by one, so that what fails fails alone
                        log.debug("a batch could not be scored: %s", one_line(e))
                        break
                    if batch is None:
                        break
                    self.counters.prompt_tokens += batch.prompt_tokens
                    self.counters.cached_tokens += batch.cached_tokens
                    for key in batch.observations:
                        del left[key]
                    yield [*batch.observations.values()]
            for item in left.values():
                if asked != self._asked:
                    return
                yield self._guard(item, self._score_one)

    def halt(self) -> None:
        """See `Engine.halt`."""
        self._asked += 1

    async def look(self, calls: Sequence[Call]) -> list[Observation]:
        """See `WhiteBox.look`."""
        return [o for call in calls for o in self._look(call)]

    def close(self) -> None:
        """Drop the model."""
        self._model = None

    def _guard(self, item: Item, one: Any) -> list[Observation]:
        if too_long := overlong(item, self.spec.context_length):
            return too_long
        try:
            result: list[Observation] = one(item)
            return result
        except Exception as e:  # one bad item is data
            return failed(item, "engine", f"{type(e).__name__}: {e}")

    def _look(self, call: Call) -> list[Observation]:
        """Look inside the model; what cannot be done is data."""
        from tracelab.engines.transformers import white_box

        need, holds = white_box.tokens_of(call.content), self.spec.context_length
        if need > holds:
            return _unseen(
                call, f"overlong: the trace has {need} tokens but the model's context holds {holds}"
            )
        try:
            value = white_box.look(self._model, call.content, self._max_batch)
        except EngineError as e:
            return _unseen(call, f"unsupported: {one_line(e, 500)}")
        except Exception as e:
            return _unseen(call, f"engine: {type(e).__name__}: {one_line(e, 500)}")
        self.counters.prompt_tokens += need
        return [Observation.of(call.key, r, value) for r in call.replicate_range]

    def _decode(self, item: Item) -> list[Observation]:
        """Decode the replicates of one prefix as one batch."""
        import torch

        with torch.inference_mode():
            return self._decode_batch(item)

    def _decode_batch(self, item: Item) -> list[Observation]:
        import torch

        s, replicates = item.sampling, list(item.replicate_range)
        assert s is not None
        size, prefix = len(replicates), list(item.prefix_ids)
        limit = min(s.max_tokens, self.spec.context_length - len(prefix))
        ids = torch.tensor([prefix], device=self._device)
        step = self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
        cache = step.past_key_values
        cache.batch_repeat_interleave(size)
        logits = step.logits[:, -1].float().expand(size, -1)
        generators = [
            torch.Generator(device="cpu").manual_seed(item.seed_of(r)) for r in replicates
        ]
        tokens: list[list[int]] = [[] for _ in replicates]
        logprobs: list[list[float]] = [[] for _ in replicates]
        finish: list[FinishReason | None] = [None] * size
        self.counters.prompt_tokens += len(prefix)
        for _ in range(limit):
            logp = _processed(logits, s).cpu()
            picked = [
                int(logp[i].argmax())
                if s.temperature == 0
                else int(torch.multinomial(logp[i].exp(), 1, generator=generators[i]))
                for i in range(size)
            ]
            self.counters.written_tokens += finish.count(None)
            for i, token in enumerate(picked):
                if finish[i] is None:
                    tokens[i].append(token)
                    logprobs[i].append(float(logp[i, token]))
                    if token in self._eos or self._stopped(tokens[i], s.stop) is not None:
                        finish[i] = "stop"
            if all(finish):
                break
            step = self._model(
                input_ids=torch.tensor(picked, device=self._device)[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            logits = step.logits[:, -1].float()
        self.counters.generated_tokens += sum(map(len, tokens))
        return [
            Observation(
                key=item.key,
                replicate=r,
                token_ids=tuple(tokens[i]),
                text=self._text(tokens[i], s.stop),
                finish_reason=finish[i] or "length",
                token_logprobs=tuple(logprobs[i]) if s.logprobs else None,
                prefix_tokens=len(prefix),
            )
            for i, r in enumerate(replicates)
        ]

    def _score_one(self, item: Item) -> list[Observation]:
        import torch

        target = item.target_ids
        assert target is not None
        ids = torch.tensor([[*item.prefix_ids, *target]], device=self._device)
        with torch.inference_mode():
            # The row at position t is about token t + 1; the last row is about nothing asked.
            logits = self._model(input_ids=ids, logits_to_keep=len(target) + 1).logits[0, :-1]
            logp = logits.float().log_softmax(-1)
            row = logp.gather(1, torch.tensor(target, device=self._device)[:, None])[:, 0]
        self.counters.prompt_tokens += ids.shape[1]
        return [
            Observation(
                key=item.key,
                replicate=item.first_replicate,
                token_logprobs=tuple(row.tolist()),
                prefix_tokens=len(item.prefix_ids),
            )
        ]

    def _stopped(self, tokens: list[int], stop: tuple[str, ...]) -> int | None:
        """Where in the text the earliest stop string begins, or None."""
        if not stop:
            return None
        text = self._tokenizer.decode(tokens)
        found = [at for word in stop if (at := text.find(word)) >= 0]
        return min(found) if found else None

    def _text(self, tokens: list[int], stop: tuple[str, ...]) -> str:
        return self._tokenizer.decode(tokens)[: self._stopped(tokens, stop)]


def _processed(logits: torch.Tensor, s: Sampling) -> torch.Tensor:
    """Log-probabilities of the distribution that is sampled from; shape as `logits`, [n, vocab].

    Temperature first, then top-k, then top-p, as vLLM and transformers apply them.
    """
    if s.temperature > 0:
        logits = logits / s.temperature
    if s.top_k:
        kth = logits.topk(min(s.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if s.top_p < 1:
        ordered, index = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        drop = (before >= s.top_p).scatter(1, index, before >= s.top_p)
        logits = logits.masked_fill(drop, float("-inf"))
    return logits.log_softmax(-1)


def _unseen(call: Call, error: str) -> list[Observation]:
    return [
        Observation(call.key, r, finish_reason="error", error=error) for r in call.replicate_range
    ]


def _eos_ids(model: Any) -> frozenset[int]:
    eos = model.generation_config.eos_token_id
    if eos is None:
        eos = model.config.eos_token_id
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)
