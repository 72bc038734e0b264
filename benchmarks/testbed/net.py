"""The testbed's network in plain torch: the same function as `Qwen3ForCausalLM`, for our own loops.

Knows tensors only. Training wants few kernels and sampling wants thousands of rows with a shared
cache; both are simpler here than through a general library. Parameter names are the checkpoint's,
and a test holds the logits to transformers'.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 512,
    "hidden_act": "silu",
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_cache": True,
    "dtype": "float32",
}
HEADS, SIZE, WIDTH, LAYERS = 4, 32, 128, 4
# Squared amplitudes of the hand-built heads over the five fastest rotary frequencies, chosen so
# that of all lags up to 600 the wanted one gets most of the attention.
LAG_POWERS = (0.29, 0.19, 0.20, 0.16, 0.16)
LAG_NORM = 2.0

Cache = list[tuple[Tensor, Tensor]]


class Weight(nn.Module):
    """One tensor called `weight`, as checkpoints name them."""

    def __init__(self, *shape: int, std: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape) if std is None else torch.randn(shape) * std)


class Attention(nn.Module):
    """Multi-head attention with per-head query and key norms and rotary positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = Weight(WIDTH, WIDTH, std=0.06), Weight(WIDTH, WIDTH, std=0.06)
        self.v_proj, self.o_proj = Weight(WIDTH, WIDTH, std=0.06), Weight(WIDTH, WIDTH, std=0.03)
        self.q_norm, self.k_norm = Weight(SIZE), Weight(SIZE)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [batch, head, token, size] of hidden states x."""
        packed = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        q, k, v = F.linear(x, packed).view(*x.shape[:2], 3, HEADS, SIZE).unbind(2)
        q = F.rms_norm(q, (SIZE,), self.q_norm.weight, 1e-6)
        k = F.rms_norm(k, (SIZE,), self.k_norm.weight, 1e-6)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return rotate(q, turn), rotate(k, turn), v


class Layer(nn.Module):
    """Attention and a gated feed-forward network, both normed before and added after."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": Weight(4 * WIDTH, WIDTH, std=0.06),
                "up_proj": Weight(4 * WIDTH, WIDTH, std=0.06),
                "down_proj": Weight(WIDTH, 4 * WIDTH, std=0.015),
            }
        )
        self.input_layernorm, self.post_attention_layernorm = Weight(WIDTH), Weight(WIDTH)

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward half."""
        h = F.rms_norm(x, (WIDTH,), self.post_attention_layernorm.weight, 1e-6)
        packed = torch.cat([self.mlp["gate_proj"].weight, self.mlp["up_proj"].weight])
        gate, up = F.linear(h, packed).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.mlp["down_proj"].weight)


class Net(nn.Module):
    """The model; `forward` returns final hidden states, `logits` turns some of them into logits."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "embed_tokens": Weight(vocab_size, WIDTH, std=0.3),
                "layers": nn.ModuleList(Layer() for _ in range(LAYERS)),
                "norm": Weight(WIDTH),
            }
        )
        frequency = 10000.0 ** (-torch.arange(0, SIZE, 2) / SIZE)
        angle = torch.outer(torch.arange(1024.0), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids: Tensor, cache: Cache | None = None, past: int = 0) -> Tensor:
        """Final hidden states [batch, token, width] of ids [batch, token].

        With a `cache` (one key and one value buffer [batch, head, longest, size] a layer), the ids
        stand at positions `past`, `past + 1`, ... and their keys and values are written into it.
        """
        length = ids.shape[1]
        turn = self.cos[past : past + length], self.sin[past : past + length]
        x = F.embedding(ids, self.model["embed_tokens"].weight)
        for i, layer in enumerate(self.model["layers"]):
            h = F.rms_norm(x, (WIDTH,), layer.input_layernorm.weight, 1e-6)
            q, k, v = layer.self_attn(h, turn)
            if cache is not None:
                keys, values = cache[i]
                keys[:, :, past : past + length] = k
                values[:, :, past : past + length] = v
                k, v = keys[:, :, : past + length], values[:, :, : past + length]
            mask = None
            if past and length > 1:
                mask = torch.ones(length, past + length, dtype=torch.bool).tril(past)
            causal = length > 1 and mask is None
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
            h = h.transpose(1, 2).reshape(*x.shape)
            x = layer.feed(x + F.linear(h, layer.self_attn.o_proj.weight))
        return F.rms_norm(x, (WIDTH,), self.model["norm"].weight, 1e-6)

    def new_cache(self, rows: int, longest: int) -> Cache:
        """Empty key and value buffers for `rows` sequences of up to `longest` tokens."""
        shape = rows, HEADS, longest, SIZE
        return [(torch.empty(shape), torch.empty(shape)) for _ in range(LAYERS)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] of hidden states [..., width]."""
        return F.linear(hidden, self.model["embed_tokens"].weight)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys by their positions."""
    cos, sin = turn
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


@torch.no_grad()
def build_lag_heads(net: Net) -> None:
    """Write the hand-built parts: layer-0 heads 0 and 1 attend to the positions 1 and 2 back.

    Channel 0 of every embedding is the same constant; these heads' queries and keys read nothing
    else, so after their norm they are constant vectors, and only the rotary turn, i.e. the
    distance, decides the attention. Called again after every optimiser step, which freezes them.
    """
    net.model["embed_tokens"].weight[:, 0] = 0.5
    attention = net.model["layers"][0].self_attn
    attention.q_norm.weight.fill_(LAG_NORM)
    attention.k_norm.weight.fill_(LAG_NORM)
    half = SIZE // 2
    for head, lag in enumerate((1, 2)):
        rows = slice(head * SIZE, (head + 1) * SIZE)
        query, key = torch.zeros(SIZE), torch.zeros(SIZE)
        for i, power in enumerate(LAG_POWERS):
            angle = torch.tensor(lag * 10000.0 ** (-2 * i / SIZE))
            key[i] = power**0.5
            query[i], query[i + half] = power**0.5 * angle.cos(), -(power**0.5) * angle.sin()
        for weight, vector in ((attention.q_proj.weight, query), (attention.k_proj.weight, key)):
            weight[rows] = 0
            weight[rows, 0] = vector


def save_net(net: Net, folder: Path) -> None:
    """Write `model.safetensors` (bfloat16), `config.json` and `generation_config.json`."""
    state = {k: v.detach().cpu().bfloat16().contiguous() for k, v in net.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library writes it for its owner only
    vocab_size = net.model["embed_tokens"].weight.shape[0]
    config = CONFIG | {"vocab_size": vocab_size, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "temperature": 1.0}
    generation |= {"top_p": 1.0, "top_k": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def load_net(folder: Path) -> Net:
    """Load a checkpoint in float32, ready for inference."""
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    net = Net(state["model.embed_tokens.weight"].shape[0])
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)
