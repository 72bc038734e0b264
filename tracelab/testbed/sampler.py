"""Many rollouts of one prefix, fast, in plain torch: what the reference values are made with.

The prefix is computed once and its keys and values are shared by all rows; a row keeps only its
own continuation and leaves the batch when it ends. Sampling is at temperature 1 from the whole
distribution in float32, as the engines do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tracelab.testbed.net import HEADS, LAYERS, SIZE, WIDTH, Net

END = 2


@torch.inference_mode()
def rollouts(
    net: Net, prefix: Sequence[int], n: int, generator: torch.Generator, longest: int = 160
) -> list[list[int]]:
    """Sample `n` continuations of a prefix; each ends with the end mark or at `longest` tokens."""
    past = len(prefix)
    cache = net.new_cache(1, past)
    hidden = net(torch.tensor([prefix]), cache)[:, -1]
    shared = [(k[0].transpose(1, 2).contiguous(), v[0]) for k, v in cache]
    keys = [torch.empty(HEADS, n, longest, SIZE) for _ in range(LAYERS)]
    values = [torch.empty(HEADS, n, longest, SIZE) for _ in range(LAYERS)]
    out = torch.zeros(n, longest, dtype=torch.long)
    rows = torch.arange(n)
    token = _draw(net.logits(hidden).expand(n, -1), generator)
    for t in range(longest):
        out[rows, t] = token
        alive = token != END
        if not alive.all():
            if not alive.any():
                break
            rows, token = rows[alive], token[alive]
            for held in (keys, values):
                for i in range(LAYERS):
                    held[i][:, : len(rows), :t] = held[i][:, : len(alive), :t][:, alive]
        if t + 1 < longest:
            hidden = _step(net, token, past + t, t, shared, keys, values)
            token = _draw(net.logits(hidden), generator)
    lengths = torch.where((out == END).any(1), (out == END).int().argmax(1) + 1, longest)
    return [row[:length] for row, length in zip(out.tolist(), lengths.tolist(), strict=True)]


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Sample one token a row by the Gumbel-max trick's exponential form."""
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / noise).argmax(-1)


def _step(
    net: Net,
    token: Tensor,
    position: int,
    t: int,
    shared: list[tuple[Tensor, Tensor]],
    keys: list[Tensor],
    values: list[Tensor],
) -> Tensor:
    """Final hidden states [row, width] after one more token a row."""
    n = len(token)
    turn = net.cos[position : position + 1], net.sin[position : position + 1]
    x = F.embedding(token, net.model["embed_tokens"].weight)[:, None]
    for i, layer in enumerate(net.model["layers"]):
        h = F.rms_norm(x, (WIDTH,), layer.input_layernorm.weight, 1e-6)
        q, k, v = layer.self_attn(h, turn)  # [row, head, 1, size]
        keys[i][:, :n, t] = k[:, :, 0].transpose(0, 1)
        values[i][:, :n, t] = v[:, :, 0].transpose(0, 1)
        q = q[:, :, 0].transpose(0, 1) * SIZE**-0.5  # [head, row, size]
        own = torch.einsum("hns,hnts->hnt", q, keys[i][:, :n, : t + 1])
        weight = torch.cat([q @ shared[i][0], own], -1).softmax(-1)
        past = shared[i][1].shape[1]
        mixed = weight[..., :past] @ shared[i][1]
        mixed += torch.einsum("hnt,hnts->hns", weight[..., past:], values[i][:, :n, : t + 1])
        x = layer.feed(
            x + F.linear(mixed.transpose(0, 1).reshape(n, 1, WIDTH), layer.self_attn.o_proj.weight)
        )
    return F.rms_norm(x[:, 0], (WIDTH,), net.model["norm"].weight, 1e-6)
