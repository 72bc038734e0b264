"""Looking inside a transformers model: attention between ranges of tokens, and its suppression.

For the models that `probe` can probe. Memory is bounded: attention weights exist
for one block of queries of one layer at a time, logits for one block of rows, key-value caches for
one group of variants. Positions count from the first prompt token; ranges are half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import DynamicCache

from tracelab.core.errors import EngineError
from tracelab.core.look import (
    ATTENTION,
    SPANS,
    SUPPRESSION,
    AttentionMaps,
    SpanAttention,
    Suppressed,
)
from tracelab.engines.transformers.probe import Suppression, causal, probing, shape_of

BLOCK_BYTES = 256 * 2**20
"""Most memory of one block of attention weights, or of one block of logits."""
CACHE_BYTES = 4 * 2**30
"""Most memory of the key-value caches of variants that are computed together."""

Range = tuple[int, int]


def tokens_of(content: Mapping[str, Any]) -> int:
    """How many tokens the model reads to answer a call of `tracelab.core.look`."""
    return sum(len(content.get(k, ())) for k in ("ids", "prompt_ids", "response_ids"))


def look(model: Any, content: Mapping[str, Any], variants: int) -> dict[str, Any]:
    """The answer to a call of `tracelab.core.look`.

    Args:
        model: A causal language model.
        content: The call's.
        variants: Most units that are hidden in one batch.

    Raises:
        EngineError: It cannot be seen in this model.
    """
    if content["what"] == ATTENTION:
        return _attention(model, content).value()
    if content["what"] == SUPPRESSION:
        return _suppressed(model, content, variants).value()
    if content["what"] == SPANS:
        spans, targets = (_ranges(content[k]) for k in ("spans", "targets"))
        return SpanAttention(span_attention(model, content["ids"], spans, targets)).value()
    raise EngineError(f"there is no {content['what']!r} to look at")


def _attention(model: Any, content: Mapping[str, Any]) -> AttentionMaps:
    layers, per_layer = shape_of(model)
    size = len(content["units"])
    vertical = np.empty((layers, per_layer, size))
    mean = np.zeros((size, size))

    def on_layer(layer: int, matrix: np.ndarray) -> None:
        vertical[layer] = vertical_scores(matrix, min_distance=content["min_distance"])
        mean[...] += matrix.mean(0, dtype=np.float64) / layers

    ids, ranges = _placed(content)
    sentence_attention(model, ids, ranges, on_layer)
    return AttentionMaps(vertical, mean)


def _suppressed(model: Any, content: Mapping[str, Any], variants: int) -> Suppressed:
    ids, ranges = _placed(content)
    sources = tuple(i for i, (start, end) in enumerate(ranges) if end > start)
    hidden = [ranges[i] for i in sources]
    kl, drop = suppressed_rows(model, ids, hidden, variants=variants)
    response = slice(len(content["prompt_ids"]), None)
    return Suppressed(sources, kl[:, response], drop[:, response])


def _placed(content: Mapping[str, Any]) -> tuple[list[int], list[Range]]:
    """All tokens of a trace, and the position range of each unit."""
    at = len(content["prompt_ids"])
    units = [(at + start, at + end) for start, end in _ranges(content["units"])]
    return [*content["prompt_ids"], *content["response_ids"]], units


def _ranges(pairs: Sequence[Sequence[int]]) -> list[Range]:
    return [(start, end) for start, end in pairs]


def vertical_scores(matrix: ArrayLike, *, min_distance: int) -> NDArray[np.float64]:
    """Mean attention that each unit gets from the units well after it.

    score[j] = nan-mean over rows i >= j + min_distance of matrix[i, j] (Thought Anchors,
    arXiv:2506.19143, section 5).

    Args:
        matrix: Mean attention between units, [..., units, units]; entries above the diagonal are
            ignored.
        min_distance: Least distance of a row that counts; at least 1.

    Returns:
        [..., units]; NaN where no row counts.

    Raises:
        ValueError: `min_distance` is less than 1.
    """
    if min_distance < 1:
        raise ValueError("min_distance is at least 1: a unit's attention to itself says nothing")
    a = np.array(matrix, dtype=np.float64)
    i, j = np.indices(a.shape[-2:])
    a[..., i < j + min_distance] = np.nan
    counted = np.isfinite(a).sum(-2)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(a, axis=-2) / np.where(counted, counted, np.nan))


def sentence_attention(
    model: Any,
    ids: Sequence[int],
    ranges: Sequence[Range],
    on_layer: Callable[[int, np.ndarray], None],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Average every head's attention over pairs of token ranges, one layer at a time.

    Args:
        model: A causal language model.
        ids: The whole text.
        ranges: Half-open positions, in order and disjoint; empty ones give NaN.
        on_layer: Called with the layer and float32 [heads, ranges, ranges]: entry [h, i, j] is the
            mean weight from positions of range i to positions of range j, NaN for j > i.
        block_bytes: Most memory of a block of weights.
    """
    sizes = torch.tensor([end - start for start, end in ranges])
    device = model.device
    cells = torch.zeros(len(ids), len(ranges), device=device)
    for j, (start, end) in enumerate(ranges):
        cells[start:end, j] = 1 / max(end - start, 1)
    unseen = torch.ones(len(ranges), len(ranges), dtype=torch.bool).triu(1)
    unseen |= (sizes == 0)[:, None] | (sizes == 0)[None]

    def on_sums(layer: int, sums: torch.Tensor) -> None:
        on_layer(layer, sums.masked_fill_(unseen, float("nan")).numpy())

    _weigh(model, ids, cells, cells, on_sums, block_bytes)


def span_attention(
    model: Any,
    ids: Sequence[int],
    spans: Sequence[Range],
    targets: Sequence[Range],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> np.ndarray:
    """Attention from targets to spans: mean over the target's tokens, sum over the span's.

    A token is predicted at the position before it, so that is the row which is looked at (AT2,
    arXiv:2504.13752).

    Args:
        model: A causal language model.
        ids: The whole text.
        spans: Half-open positions that are attended to.
        targets: Half-open positions of what is predicted; none at position 0.
        block_bytes: Most memory of a block of weights.

    Returns:
        float32 [targets, heads of all layers in turn, spans]; NaN where a range is empty.
    """
    layers, per_layer = shape_of(model)
    rows = torch.zeros(len(ids), len(targets), device=model.device)
    for j, (start, end) in enumerate(targets):
        rows[start - 1 : end - 1, j] = 1 / max(end - start, 1)
    columns = torch.zeros(len(ids), len(spans), device=model.device)
    for j, (start, end) in enumerate(spans):
        columns[start:end, j] = 1
    out = np.empty((len(targets), layers, per_layer, len(spans)), dtype=np.float32)

    def on_sums(layer: int, sums: torch.Tensor) -> None:
        out[:, layer] = sums.transpose(0, 1).numpy()

    _weigh(model, ids, rows, columns, on_sums, block_bytes)
    out[[end <= start for start, end in targets]] = np.nan
    out[..., [end <= start for start, end in spans]] = np.nan
    return out.reshape(len(targets), layers * per_layer, len(spans))


def _weigh(
    model: Any,
    ids: Sequence[int],
    rows: torch.Tensor,
    columns: torch.Tensor,
    on_layer: Callable[[int, torch.Tensor], None],
    block_bytes: int,
) -> None:
    """Sum every head's attention weights, one layer at a time: rowsᵀ · weights · columns.

    Args:
        model: A causal language model.
        ids: The whole text, T tokens.
        rows: Weight of each attending position [T, R].
        columns: Weight of each attended position [T, C].
        on_layer: Called with the layer and float32 [heads, R, C], on the processor.
        block_bytes: Most memory of a block of weights.
    """
    device = model.device
    used = rows.any(1).nonzero()
    first, last = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 0)

    def capture(layer: int, query: Any, key: Any, mask: Any, scaling: float) -> Any:
        heads, groups, dim = query.shape[1], key.shape[1], query.shape[3]
        out = torch.zeros(heads, rows.shape[1], columns.shape[1], device=device)
        k = key[0].float()
        step = max(1, block_bytes // (12 * heads * max(last, 1)))
        for a in range(first, last, step):
            b = min(a + step, last)
            q = query[0, :, a:b].float().reshape(groups, -1, dim)
            logits = (q @ k[:, :b].transpose(1, 2) * scaling).view(heads, b - a, b)
            seen = causal(b - a, b, device) if mask is None else mask[0, 0, a:b, :b]
            weights = logits.masked_fill_(~seen, float("-inf")).softmax(-1)
            out += rows[a:b].T @ (weights @ columns[:b])
        on_layer(layer, out.cpu())
        return mask

    with torch.inference_mode(), probing(model, capture):
        model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False, logits_to_keep=1)


def suppressed_rows(
    model: Any,
    ids: Sequence[int],
    ranges: Sequence[Range],
    *,
    variants: int = 8,
    block_bytes: int = BLOCK_BYTES,
    cache_bytes: int = CACHE_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """What hiding each range does to the distribution of every later token.

    A variant equals the base up to the end of its range, so it is computed from there on, from a
    copy of the base's key-value cache; the untouched model runs as row 0 of each batch, so that
    both sides of a comparison go through the same kernels. The distributions are log-softmaxes in
    float64 over the full vocabulary.

    Args:
        model: A causal language model.
        ids: The whole text, T tokens.
        ranges: Half-open non-empty positions to hide, one variant each.
        variants: Most variants in one batch.
        block_bytes: Most memory of a block of logits; their float64 copies stay within it too.
        cache_bytes: Most memory of the batch's key-value caches (one variant always runs).

    Returns:
        KL(base ‖ variant) of the distribution of token t given those before it, and
        log p(token t | base) − log p(token t | variant): each float32 [ranges, T], nats; NaN for
        t <= end of the range, whose prediction cannot change.
    """
    size, device = len(ids), model.device
    kl = np.full((len(ranges), size), np.nan, dtype=np.float32)
    drop = kl.copy()
    # Row `end` is the first that cannot see the range; the last row predicts nothing we have.
    order = sorted((k for k in range(len(ranges)) if ranges[k][1] < size - 1),
                   key=lambda k: ranges[k][1])  # fmt: skip
    if not order:
        return kl, drop
    tokens = torch.tensor([list(ids)], device=device)
    with torch.inference_mode():
        base = DynamicCache()
        model(input_ids=tokens[:, :-1], past_key_values=base, use_cache=True, logits_to_keep=1)
        used = sum(x.numel() * x.element_size() for c in base.layers for x in (c.keys, c.values))
        group = max(1, min(variants, cache_bytes // used - 1))
        for at in range(0, len(order), group):
            picked = order[at : at + group]
            batch = len(picked) + 1
            begin = ranges[picked[0]][1]
            cache = DynamicCache(
                [
                    (c.keys[:, :, :begin].expand(batch, -1, -1, -1),
                     c.values[:, :, :begin].expand(batch, -1, -1, -1))
                    for c in base.layers
                ]
            )  # fmt: skip
            probe = Suppression([None, *(ranges[k] for k in picked)])
            with probing(model, probe):
                vocabulary = model.config.get_text_config().vocab_size
                width = model.dtype.itemsize
                step = max(1, block_bytes // (batch * vocabulary * width))
                for a in range(begin, size - 1, step):
                    b = min(a + step, size - 1)
                    logits = model(
                        input_ids=tokens[:, a:b].expand(batch, -1),
                        past_key_values=cache,
                        use_cache=True,
                    ).logits
                    found = _compare(logits, tokens[0, a + 1 : b + 1], block_bytes)
                    for row, k in enumerate(picked):
                        skip = max(ranges[k][1] - a, 0)
                        kl[k, a + 1 + skip : b + 1] = found[0, row, skip:]
                        drop[k, a + 1 + skip : b + 1] = found[1, row, skip:]
    return kl, drop


def _compare(logits: torch.Tensor, said: torch.Tensor, block_bytes: int) -> np.ndarray:
    """KL and log-probability drop of rows 1.. against row 0: float64 [2, variants, tokens].

    Args:
        logits: [1 + variants, tokens, vocabulary].
        said: The token that each position predicts, [tokens].
        block_bytes: Most memory of the float64 blocks.
    """
    batch, rows, vocabulary = logits.shape
    step = max(1, block_bytes // (batch * vocabulary * 8 * 3))
    parts = []
    for a in range(0, rows, step):
        logp = logits[:, a : a + step].double().log_softmax(-1)
        p, change = logp[:1].exp(), logp[:1] - logp[1:]
        # A token of probability 0 adds nothing, also where the difference is inf - inf.
        terms = torch.where(p > 0, p * change, 0.0)
        at = said[a : a + step, None].expand(batch - 1, -1, 1)
        parts.append(torch.stack([terms.sum(-1), change.gather(-1, at)[..., 0]]))
    result: np.ndarray = torch.cat(parts, -1).cpu().numpy()
    return result
