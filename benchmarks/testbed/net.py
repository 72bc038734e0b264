"""The testbed's network: transformers' Qwen3, its start, its hand-built heads, its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

CONFIG: dict[str, Any] = {
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
SIZE: int = CONFIG["head_dim"]
# Standard deviations of the matrices at the start, by the end of their names.
SPREAD = {"embed_tokens": 0.3, "o_proj": 0.03, "down_proj": 0.015}
SPREAD_ELSE = 0.06
QK_NORM = 1.5
# Squared amplitudes of the hand-built heads over the five fastest rotary frequencies, chosen so
# that of all lags up to 600 the wanted one gets most of the attention.
LAG_POWERS = (0.29, 0.19, 0.20, 0.16, 0.16)
LAG_NORM = 2.0


def start_net(vocab_size: int, seed: int) -> Qwen3ForCausalLM:
    """A fresh network in float32."""
    torch.manual_seed(seed)
    net = Qwen3ForCausalLM(Qwen3Config.from_dict(_config(vocab_size)))
    for name, weight in net.named_parameters():
        kind = name.split(".")[-2]
        if weight.ndim == 2:
            nn.init.normal_(weight, std=SPREAD.get(kind, SPREAD_ELSE))
        else:
            nn.init.constant_(weight, QK_NORM if kind in ("q_norm", "k_norm") else 1.0)
    build_lag_heads(net)
    return net


@torch.no_grad()
def build_lag_heads(net: Qwen3ForCausalLM) -> None:
    """Write the hand-built parts: layer-0 heads 0 and 1 attend to the positions 1 and 2 back.

    Channel 0 of every embedding is the same constant; these heads' queries and keys read nothing
    else, so after their norm they are constant vectors, and only the rotary turn, i.e. the
    distance, decides the attention. Called again after every optimiser step, which freezes them.
    """
    net.model.embed_tokens.weight[:, 0] = 0.5
    attention = net.model.layers[0].self_attn
    attention.q_norm.weight.fill_(LAG_NORM)
    attention.k_norm.weight.fill_(LAG_NORM)
    half = SIZE // 2
    for head, lag in enumerate((1, 2)):
        rows = slice(head * SIZE, (head + 1) * SIZE)
        query, key = torch.zeros(SIZE), torch.zeros(SIZE)
        for i, power in enumerate(LAG_POWERS):
            angle = torch.tensor(lag * CONFIG["rope_theta"] ** (-2 * i / SIZE))
            key[i] = power**0.5
            query[i], query[i + half] = power**0.5 * angle.cos(), -(power**0.5) * angle.sin()
        for weight, vector in ((attention.q_proj.weight, query), (attention.k_proj.weight, key)):
            weight[rows] = 0
            weight[rows, 0] = vector


def save_net(net: Qwen3ForCausalLM, folder: Path) -> None:
    """Write `model.safetensors` (bfloat16), `config.json` and `generation_config.json`."""
    # Tied embeddings are one parameter, under their first name.
    state = {k: v.detach().cpu().bfloat16().contiguous() for k, v in net.named_parameters()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library writes it for its owner only
    config = _config(net.config.vocab_size)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "temperature": 1.0}
    generation |= {"top_p": 1.0, "top_k": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def load_net(folder: Path) -> Qwen3ForCausalLM:
    """Load a checkpoint in float32, ready for inference."""
    net: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return net.eval().requires_grad_(False)


def _config(vocab_size: int) -> dict[str, Any]:
    return CONFIG | {"vocab_size": vocab_size, "eos_token_id": 2, "pad_token_id": 0}
