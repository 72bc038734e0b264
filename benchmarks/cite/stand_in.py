"""A model of random weights that costs what models of its size cost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def random_model(
    folder: Path, tokenizer: Path, *, layers: int = 8, hidden: int = 256, window: int = 4096
) -> str:
    """A Qwen2 of 16 million (or so) random weights with the testbed's tokenizer, as a directory.

    Its 32,000 outputs make the output layer cost what it costs in models that people use.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32_000, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32,
        intermediate_size=4 * hidden, max_position_embeddings=window,
        tie_word_embeddings=True, eos_token_id=2, pad_token_id=0, bos_token_id=2,
    )  # fmt: skip
    made: Any = Qwen2ForCausalLM(config)
    made.float().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, folder / name)
    return str(folder)
