"""Log-probabilities of targets with transformers: batched, prefixes shared, memory bounded.

Three things cost when many prompts with one target are scored, and each is avoided: rows of the
output layer that nobody asked for (`logits_to_keep`), padding (prompts of like length together),
and prefixes that a batch has in common (computed once, their cache repeated). A sequence too long
for a batch goes through the model in pieces, so that neither its activations nor its rows of the
vocabulary are ever held at once. On a processor, batches are computed side by side, each by one
thread: threads that share one small matrix product wait for each other longer than they work.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tracelab.core.item import Item, Observation, common_prefix

BATCH_TOKENS = {"cuda": 16_384, "cpu": 512}
"""Most tokens of a batch, padding included; on a processor, about what stays in its cache and
below the sizes for which the C library asks the system for fresh pages every time."""
LONGEST = 16_384
"""A longer sequence goes through in pieces."""
SIDE_TOKENS = 2_048
"""A longer sequence has matrices that threads can share, and too much memory to have several."""
ROW_VALUES = 64 << 20
"""Most output values (rows x vocabulary) held at once: 256 MiB in float32."""
PIECE = 1_024
"""Tokens of a long sequence that go through the model together."""
SHARED = 32
"""A common prefix shorter than this is not worth a pass of its own."""


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A prefix, and the target tokens whose log-probability after it is asked."""

    prefix: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that go through the model; the last target token is only looked up."""
        return len(self.prefix) + len(self.target) - 1


def batches(
    probes: Sequence[ScoredPrompt], vocab: int, most: int, tokens: int = LONGEST
) -> Iterator[list[int]]:
    """Indices of probes that go through the model together.

    In order of tokens where that makes neighbours share much of their prefixes, in order of length
    otherwise. A probe that alone exceeds the bounds is a batch of its own.
    """
    by_tokens = sorted(range(len(probes)), key=lambda i: probes[i].prefix)
    shared = sum(
        common_prefix(probes[a].prefix, probes[b].prefix)
        for a, b in zip(by_tokens, by_tokens[1:], strict=False)
    )
    total = sum(p.size for p in probes)
    pays = 4 * shared > total
    order = by_tokens if pays else sorted(range(len(probes)), key=lambda i: probes[i].size)
    held: list[int] = []
    widest = longest = 0
    for i in order:
        wide = max(widest, len(probes[i].target))
        long = max(longest, probes[i].size)
        n = len(held) + 1
        if held and (n > most or n * long > tokens or n * wide * vocab > ROW_VALUES):
            yield held
            held, wide, long = [], len(probes[i].target), probes[i].size
        held.append(i)
        widest, longest = wide, long
    if held:
        yield held


@dataclass(frozen=True, slots=True)
class Scored:
    """One batch: observations by key, the tokens of its prompts, those of them computed once."""

    observations: dict[str, Observation]
    prompt_tokens: int
    cached_tokens: int


def observe(
    model: Any, items: Sequence[Item], device: str, most: int, threads: int = 1
) -> Generator[Scored, None, None]:
    """Score work items whose targets may be empty; see `score`."""
    distinct = list({i.key: i for i in items}.values())
    asked = [i for i in distinct if i.target_ids]
    if empty := [i for i in distinct if not i.target_ids]:
        yield Scored({i.key: _observation(i, []) for i in empty}, 0, 0)
    probes = [ScoredPrompt(i.prefix_ids, i.target_ids or ()) for i in asked]
    for held, rows, prompt, cached in score(model, probes, device, most, threads):
        found = zip(held, rows, strict=True)
        yield Scored({asked[i].key: _observation(asked[i], r) for i, r in found}, prompt, cached)


def _observation(item: Item, row: Sequence[float]) -> Observation:
    return Observation(
        key=item.key,
        replicate=item.first_replicate,
        token_logprobs=tuple(row),
        prefix_tokens=len(item.prefix_ids),
    )


Batch = tuple[list[int], list[list[float]], int, int]
"""Indices of probes, a row of log-probabilities each, tokens of the prompts, tokens shared."""


def score(
    model: Any, probes: Sequence[ScoredPrompt], device: str, most: int, threads: int = 1
) -> Iterator[Batch]:
    """Log-probability of every target token of every probe, in nats.

    Args:
        model: A causal language model of transformers.
        probes: What is asked; prefixes and targets have at least one token.
        device: Where the model is.
        most: Most probes of a batch.
        threads: Batches computed side by side, on a processor; changes no number.

    Yields:
        For each batch: the probes' indices, one list of float log-probabilities a probe, the
        tokens that its prompts have, and how many of those came from a shared prefix.
    """
    import torch

    vocab = int(model.config.get_text_config().vocab_size)
    kind = device.partition(":")[0]
    found = list(batches(probes, vocab, most, BATCH_TOKENS.get(kind, LONGEST)))

    def one(held: list[int]) -> Batch:
        with torch.inference_mode():
            return _batch(model, probes, held, device, vocab)

    small = kind == "cpu" and max((p.size for p in probes), default=0) <= SIDE_TOKENS
    side = min(threads, len(found)) if small else 1
    if side < 2:
        yield from map(one, found)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(side) as workers:
            yield from workers.map(one, found)
    finally:
        torch.set_num_threads(before)


def _batch(
    model: Any, probes: Sequence[ScoredPrompt], held: list[int], device: str, vocab: int
) -> Batch:
    some = [probes[i] for i in held]
    one = some[0]
    if len(some) == 1 and (one.size > LONGEST or len(one.target) * vocab > ROW_VALUES):
        rows, shared = [_long(model, one, device, vocab)], 0
    else:
        rows, shared = _together(model, some, device)
    return held, rows, sum(p.size + 1 for p in some), shared * (len(some) - 1)


def _together(
    model: Any, probes: Sequence[ScoredPrompt], device: str
) -> tuple[list[list[float]], int]:
    """Score a batch, left-padded; the prefix that all share goes through the model once."""
    import torch

    shared = min(common_prefix(probes[0].prefix, p.prefix) for p in probes)
    # The last prefix token must be computed with each probe: its row is about the first target.
    shared = min(shared, *(len(p.prefix) - 1 for p in probes)) if len(probes) > 1 else 0
    shared = shared if shared >= SHARED else 0
    cache = None
    if shared:
        head = torch.tensor([probes[0].prefix[:shared]], device=device)
        cache = model(input_ids=head, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(probes))
    bodies = [[*p.prefix[shared:], *p.target[:-1]] for p in probes]
    width = max(map(len, bodies))
    pads = [width - len(b) for b in bodies]
    keep = max(len(p.target) for p in probes)
    ids = torch.tensor([[0] * pad + b for pad, b in zip(pads, bodies, strict=True)], device=device)
    given: dict[str, Any] = {"input_ids": ids, "logits_to_keep": keep}
    if cache is not None:
        given["past_key_values"] = cache
    if any(pads):
        mask = [[1] * shared + [0] * pad + [1] * (width - pad) for pad in pads]
        given["attention_mask"] = torch.tensor(mask, device=device)
        at = torch.arange(width, device=device)[None] + shared
        given["position_ids"] = (at - torch.tensor(pads, device=device)[:, None]).clamp(min=0)
    logits = model(**given, use_cache=cache is not None).logits
    out = []
    for row, p in zip(logits, probes, strict=True):
        out.append(_picked(row[keep - len(p.target) :], p.target, device))
    return out, shared


def _long(model: Any, probe: ScoredPrompt, device: str, vocab: int) -> list[float]:
    """Score one long sequence piece by piece."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = [*probe.prefix, *probe.target[:-1]]
    first = len(probe.prefix) - 1
    step = max(1, min(PIECE, ROW_VALUES // vocab))
    cuts = [*range(0, first, PIECE), *range(first, len(ids), step), len(ids)]
    out: list[float] = []
    for a, b in zip(cuts, cuts[1:], strict=False):
        asked = b - a if a >= first else 1
        logits = model(
            input_ids=torch.tensor([ids[a:b]], device=device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=asked,
        ).logits[0]
        if a >= first:
            out += _picked(logits, probe.target[a - first : b - first], device)
    return out


def _picked(logits: Any, target: Sequence[int], device: str) -> list[float]:
    """Log-probability of each target token from its row of logits, in float32."""
    import torch

    logp = logits.float().log_softmax(-1)
    at = torch.tensor(list(target), device=device)[:, None]
    row: list[float] = logp.gather(1, at)[:, 0].tolist()
    return row
