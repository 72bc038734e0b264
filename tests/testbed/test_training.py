"""Training's start, its files, and that a step of it changes what it may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks.testbed.net import build_lag_heads, load_net, save_net, start_net
from benchmarks.testbed.train import Settings, train_model
from tracelab.testbed import MODEL_DIR


def test_a_saved_network_has_the_bundled_models_files(tmp_path: Path) -> None:
    bundled = json.loads((MODEL_DIR / "config.json").read_text())
    net = start_net(bundled["vocab_size"], 0)
    save_net(net, tmp_path)
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / name).read_text() == (MODEL_DIR / name).read_text()
    shapes = []
    for folder in (tmp_path, MODEL_DIR):
        with safe_open(folder / "model.safetensors", "pt") as f:
            shapes.append({k: (f.get_slice(k).get_shape(), f.get_slice(k).get_dtype())
                           for k in f.keys()})  # fmt: skip
    assert shapes[0] == shapes[1]
    again = dict(load_net(tmp_path).named_parameters())
    for name, weight in net.named_parameters():
        assert torch.equal(again[name], weight.bfloat16().float())


def test_the_hand_built_heads_look_one_and_two_tokens_back() -> None:
    net = start_net(576, 3)
    net.set_attn_implementation("eager")
    with torch.no_grad():
        seen = net(torch.randint(70, 400, (1, 120)), output_attentions=True).attentions[0][0]
    for head, lag in ((0, 1), (1, 2)):
        assert bool((seen[head].argmax(-1)[lag:] == torch.arange(120 - lag)).all())


@pytest.mark.slow
def test_training_writes_a_model_and_keeps_the_hand_built_parts(tmp_path: Path) -> None:
    made = train_model(Settings(tmp_path, 2, None, 0, resume=False), processes=1)
    assert made["steps"] == 2 and made["command"] == "python -m benchmarks train"
    net = load_net(tmp_path)
    before = {k: v.clone() for k, v in net.named_parameters()}
    build_lag_heads(net)
    for name, weight in net.named_parameters():
        assert torch.allclose(weight, before[name], atol=0.01), name
    start = dict(start_net(net.config.vocab_size, 0).named_parameters())
    moved = [k for k, v in load_file(tmp_path / "model.safetensors").items()
             if not torch.equal(v, start[k].bfloat16())]  # fmt: skip
    assert len(moved) > len(start) / 2
    assert (tmp_path / "tokenizer.json").exists()
