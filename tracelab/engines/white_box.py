"""Looking inside a transformers model: attention by sentence, attention suppressed, hidden states.

For the models that `tracelab.engines.probe` can probe. Memory is bounded: attention weights exist
for one block of queries of one layer at a time, logits for one block of rows, key-value caches for
one group of variants. Positions count from the first prompt token; ranges are half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from tracelab.core.errors import EngineError
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.engines.base import Hidden
from tracelab.engines.probe import Suppression, causal, probing, shape_of
from tracelab.studies.anchors.attend import AttentionMaps, Head, vertical_scores
from tracelab.studies.anchors.suppress import Suppressed

BLOCK_BYTES = 256 * 2**20
"""Most memory of one block of attention weights, or of one block of logits."""
CACHE_BYTES = 4 * 2**30
"""Most memory of the key-value caches of variants that are computed together."""

Range = tuple[int, int]


def attention_maps(
    model: Any,
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    min_distance: int,
    depth_control: bool,
    heads: Sequence[Head],
) -> AttentionMaps:
    """See `WhiteBox.attention`. Keeps [heads, units, units] of one layer and of `heads`."""
    layers, per_layer = shape_of(model)
    _check(model, heads)
    vertical = np.empty((layers, per_layer, len(units)))
    mean = np.zeros((len(units), len(units)))
    kept: dict[Head, np.ndarray] = {}

    def on_layer(layer: int, matrix: np.ndarray) -> None:
        vertical[layer] = vertical_scores(
            matrix, min_distance=min_distance, depth_control=depth_control
        )
        mean[...] += matrix.mean(0, dtype=np.float64) / layers
        kept.update({at: matrix[at[1]].copy() for at in heads if at[0] == layer})

    ids, ranges = _placed(tokens, units)
    sentence_attention(model, ids, ranges, on_layer)
    none = np.empty((0, len(units), len(units)), dtype=np.float32)
    return AttentionMaps(
        trace_id=tokens.trace.trace_id,
        vertical=vertical,
        mean=mean,
        heads=tuple(heads),
        matrices=np.stack([kept[h] for h in heads]) if heads else none,
        min_distance=min_distance,
        depth_control=depth_control,
    )


def suppressed(
    model: Any,
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    sources: Collection[int] | None,
    layers: Collection[int] | None,
    heads: Collection[Head] | None,
    variants: int,
) -> Suppressed:
    """See `WhiteBox.suppressed`."""
    _check(model, [*(heads or ()), *((layer, 0) for layer in layers or ())])
    hidden = [
        u for u in units
        if u.token_end > u.token_start and (sources is None or u.index in sources)
    ]  # fmt: skip
    ids, ranges = _placed(tokens, hidden)
    kl, drop = suppressed_rows(model, ids, ranges, layers=layers, heads=heads, variants=variants)
    response = slice(len(tokens.prompt_ids), None)
    return Suppressed(
        trace_id=tokens.trace.trace_id,
        sources=tuple(u.index for u in hidden),
        kl=kl[:, response],
        drop=drop[:, response],
    )


def hidden_states(
    model: Any, tokens: TokenizedTrace, units: Sequence[Unit], layers: Sequence[int]
) -> Hidden:
    """See `WhiteBox.hidden`."""
    ids, ranges = _placed(tokens, units)
    vectors = sentence_hidden(model, ids, ranges, layers)
    return Hidden(tokens.trace.trace_id, tuple(layers), vectors)


def _check(model: Any, heads: Collection[Head]) -> None:
    """Refuse heads that the model has not: leaving them out would look like no effect."""
    layers, per_layer = shape_of(model)
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < per_layer):
            raise EngineError(f"the model has no head {head} in a layer {layer}")


def _placed(tokens: TokenizedTrace, units: Sequence[Unit]) -> tuple[list[int], list[Range]]:
    """All tokens of a trace, and the position range of each unit."""
    at = len(tokens.prompt_ids)
    ranges = [(at + u.token_start, at + u.token_end) for u in units]
    return [*tokens.prompt_ids, *tokens.response_ids], ranges


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
    layers: Collection[int] | None = None,
    heads: Collection[Head] | None = None,
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
        layers: See `Suppression`.
        heads: See `Suppression`.
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
            probe = Suppression([None, *(ranges[k] for k in picked)], layers=layers, heads=heads)
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


def sentence_hidden(
    model: Any, ids: Sequence[int], ranges: Sequence[Range], layers: Sequence[int]
) -> np.ndarray:
    """Mean hidden state of each range after each of some layers.

    Args:
        model: A causal language model.
        ids: The whole text.
        ranges: Half-open positions; empty ones give NaN.
        layers: Which layers, from 0; negative ones count from the end.

    Returns:
        float32 [layers, ranges, width]: the residual stream after the layer, before the final
        normalisation.
    """
    count = shape_of(model)[0]
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not stacks:
        raise EngineError("the model has no list of decoder layers")
    means: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            states = (output[0] if isinstance(output, tuple) else output)[0].float()
            means[layer] = torch.stack([states[s:e].mean(0) for s, e in ranges]).cpu()

        return hook

    wanted = [layer % count for layer in layers]
    handles = [stacks[0][k].register_forward_hook(keep(k)) for k in set(wanted)]
    try:
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=model.device)
            model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    result: np.ndarray = torch.stack([means[k] for k in wanted]).numpy()
    return result
