"""Thousands of rollouts of one prefix, fast: what the reference values rest on.

`tally` returns exact, independent samples at temperature 1 from the whole distribution in float32,
as the engines draw them; only the work is shared. The prefix is computed once, and rollouts that
agree so far are one row of a tree until they part, so that a row costs the same for one rollout
as for a thousand. Knows tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

END = 2
LONGEST = 200


def tally(
    net: Qwen3ForCausalLM,
    prefix: Sequence[int],
    n: int,
    rng: np.random.Generator,
    longest: int = LONGEST,
) -> list[tuple[list[int], int]]:
    """Sample `n` continuations of a prefix; return the distinct ones and how often each came.

    A continuation ends with the end mark, or unfinished after `longest` tokens.
    """
    rows = _Rows(net, prefix)
    logits = rows.logits
    words = logits.shape[1]
    owner = np.zeros(n, dtype=np.int64)  # the row that each unfinished rollout is in
    path = np.zeros((1, 0), dtype=np.int32)  # [row, token]
    found: list[tuple[list[int], int]] = []
    for t in range(longest):
        cells, where, counts = np.unique(
            _draw(logits, owner, rng), return_inverse=True, return_counts=True
        )
        parent, token = np.divmod(cells, words)
        path = np.concatenate([path[parent], token[:, None].astype(np.int32)], axis=1)
        over = (token == END) | (t + 1 == longest)
        found += zip(path[over].tolist(), counts[over].tolist(), strict=True)
        if over.all():
            break
        source, target = places(parent[~over])
        place = np.full(len(cells), -1)
        place[~over] = target
        owner = place[where][~over[where]]
        order = np.flatnonzero(~over)[np.argsort(target)]
        path = path[order]
        rows.move(source, target, t)
        logits = rows.step(torch.from_numpy(token[order]), t)
    return found


@torch.inference_mode()
def tally_guess(
    net: Qwen3ForCausalLM,
    prefix: Sequence[int],
    guess: Sequence[int],
    n: int,
    rng: np.random.Generator,
    longest: int = LONGEST,
) -> list[tuple[list[int], int]]:
    """The same samples as `tally`, sooner where most of them are a known continuation.

    One pass scores the guess; the rollouts that leave it are continued from where they leave.
    """
    if not guess or guess[-1] != END or len(guess) > longest:
        raise ValueError("a guess is a whole continuation, end mark included")
    ids = torch.tensor([[*prefix, *guess[:-1]]])
    logits = net(ids, use_cache=False).logits[0, len(prefix) - 1 :]
    found: list[tuple[list[int], int]] = []
    for i, expected in enumerate(guess):
        drawn = _draw(logits[i : i + 1], np.zeros(n, dtype=np.int64), rng)
        tokens, counts = np.unique(drawn, return_counts=True)
        for token, count in zip(tokens.tolist(), counts.tolist(), strict=True):
            head = [*guess[:i], token]
            if token == expected:
                n = count
            elif token == END or len(head) == longest:
                found.append((head, count))
            else:
                rest = tally(net, [*prefix, *head], count, rng, longest - len(head))
                found += [(head + tail, times) for tail, times in rest]
        if expected not in drawn:
            return found
    return [*found, (list(guess), n)]


def places(parent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give every child a place 0..m-1; first children stay at their parent's where they can.

    Args:
        parent: Each child's parent's place, ascending.

    Returns:
        Each child's parent's place (as given) and its own.
    """
    m = len(parent)
    stays = np.r_[True, parent[1:] != parent[:-1]] & (parent < m)
    own = parent.copy()
    own[~stays] = np.setdiff1d(np.arange(m), parent[stays], assume_unique=True)
    return parent, own


def _draw(logits: Tensor, owner: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One token a rollout, as `row * words + token`: all rows' distributions laid end to end."""
    cdf = logits.double().softmax(-1).cumsum(-1).numpy()
    n, words = cdf.shape
    cdf /= cdf[:, -1:]
    cdf += np.arange(n)[:, None]
    pick = np.searchsorted(cdf.ravel(), owner + rng.random(len(owner)), side="right")
    return np.clip(pick, owner * words, owner * words + words - 1)


class _Rows:
    """The network's state for the rows of a tree: a shared prefix, and each row's own tokens.

    The prefix's pass is transformers'. Its caches would hold the prefix once a row and make a
    token cost 1.6 to 2 times as much, so a token's pass is written out here.
    """

    def __init__(self, net: Qwen3ForCausalLM, prefix: Sequence[int]) -> None:
        self.net, self.past = net, len(prefix)
        self.heads, self.size = net.config.num_attention_heads, net.config.head_dim
        # Keys and values by row and token.
        self.own = torch.empty(2, net.config.num_hidden_layers, 16, self.heads, 32, self.size)
        with torch.inference_mode():
            out = net(torch.tensor([list(prefix)]), use_cache=True, logits_to_keep=1)
            self.logits = out.logits[:, -1]
            held = [(x.keys[0], x.values[0]) for x in out.past_key_values.layers]
            self.keys = [k.transpose(1, 2).contiguous() for k, _ in held]
            self.values = [v for _, v in held]
            positions = torch.arange(net.config.max_position_embeddings)[None]
            self.cos, self.sin = (t[0] for t in net.model.rotary_emb(self.logits, positions))
            self.packed = [
                (
                    torch.cat([getattr(a, f"{p}_proj").weight for p in "qkv"]),
                    torch.cat([m.gate_proj.weight, m.up_proj.weight]),
                )
                for a, m in ((layer.self_attn, layer.mlp) for layer in net.model.layers)
            ]

    def move(self, source: NDArray[np.int64], target: NDArray[np.int64], length: int) -> None:
        """Copy the first `length` own tokens of row source[i] to row target[i], all at once."""
        rows, longest = self.own.shape[2], self.own.shape[4]
        if len(target) > rows or length >= longest:
            rows = max(rows, int(len(target) * 1.5))
            longest += 32 * (length >= longest)
            grown = torch.empty(2, self.own.shape[1], rows, self.heads, longest, self.size)
            held = self.own.shape[2]
            grown[:, :, :held, :, :length] = self.own[:, :, :, :, :length]
            self.own = grown
        moved = source != target
        if length and moved.any():
            into, out_of = torch.from_numpy(target[moved]), torch.from_numpy(source[moved])
            self.own[:, :, into, :, :length] = self.own[:, :, out_of, :, :length]

    @torch.inference_mode()
    def step(self, token: Tensor, t: int) -> Tensor:
        """Logits [row, word] after each row's token number t."""
        n, heads, size, position = len(token), self.heads, self.size, self.past + t
        turn = self.cos[position : position + 1], self.sin[position : position + 1]
        model, eps = self.net.model, self.net.config.rms_norm_eps

        def norm(x: Tensor, weight: Tensor) -> Tensor:
            return F.rms_norm(x, weight.shape, weight, eps)

        x = F.embedding(token, model.embed_tokens.weight)
        for i, layer in enumerate(model.layers):
            project, widen = self.packed[i]
            attention = layer.self_attn
            h = F.linear(norm(x, layer.input_layernorm.weight), project)
            q, k, v = h.view(n, 3, heads, size).unbind(1)
            q, k = norm(q, attention.q_norm.weight), norm(k, attention.k_norm.weight)
            q, k = apply_rotary_pos_emb(q, k, *turn)
            keys, values = self.own[0, i], self.own[1, i]
            keys[:n, :, t], values[:n, :, t] = k, v
            keys, values = (c.flatten(0, 1)[: n * heads, : t + 1] for c in (keys, values))
            q = q * attention.scaling
            common = (q.transpose(0, 1) @ self.keys[i]).transpose(0, 1)
            own = torch.bmm(q.reshape(n * heads, 1, size), keys.mT).view(n, heads, t + 1)
            weight = torch.cat([common, own], -1).softmax(-1)
            mixed = (weight[..., : self.past].transpose(0, 1) @ self.values[i]).transpose(0, 1)
            own = torch.bmm(weight[..., self.past :].reshape(n * heads, 1, t + 1), values)
            mixed = (mixed + own.view(n, heads, size)).reshape(n, heads * size)
            x = x + F.linear(mixed, attention.o_proj.weight)
            h = norm(x, layer.post_attention_layernorm.weight)
            gate, up = F.linear(h, widen).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.mlp.down_proj.weight)
        return F.linear(norm(x, model.norm.weight), self.net.lm_head.weight)
