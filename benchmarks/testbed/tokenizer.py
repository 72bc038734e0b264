r"""The testbed's tokenizer and chat template: one token a word of the market, bytes for the rest.

Byte-level BPE without merges: a word of the vocabulary (with or without its leading space) is one
token, any other text falls apart into bytes, so every text round-trips. `<think>`, `</think>` and
the tool-call marks are single tokens that decoding keeps; `<|im_start|>`, `<|im_end|>` and
`<|pad|>` are special.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from tracelab.testbed import agent_labels, agent_world, market, world

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
KEPT = ("<think>", "</think>", "<tool_call>", "</tool_call>")
WORDS = re.compile(r" ?[^\W\d_]+| ?\d+| ?[^\s\w]+|\n+|\s+|_+")
NUMBERS = range(100)

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') }}
{%- for call in message['tool_calls'] or [] %}
{%- set function = call['function'] or call %}
{{- '<tool_call>' + function['name'] }}
{%- if function['arguments'] is mapping %}
{%- for value in function['arguments'].values() %}{{- ' ' + value | string }}{%- endfor %}
{%- else %}{{- ' ' + function['arguments'] | string }}
{%- endif %}
{{- '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}
"""


def render(messages: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
    """The chat template in Python, for plain messages."""
    text = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)
    return text + (f"{START}assistant\n<think>\n" if add_generation_prompt else "")


def vocabulary() -> list[str]:
    """Every word that the market, the reasoning and the agents use, sorted."""
    words: set[str] = {f" {n}" for n in NUMBERS} | {str(n) for n in NUMBERS}
    names = " ".join(market.GOODS + market.SHOPS)
    words.update(WORDS.findall(f" {names} system user assistant tool {world.FILLER}"))
    for i in range(1500):
        problem = market.problem("train", 0, i)
        rng = random.Random(i)
        task = agent_world.task("train", 0, i)
        env = agent_world.MarketEnvironment()
        env.restore(task, agent_labels.play(task, rng))
        reply = {"role": "assistant", "content": world.write(problem, rng).text}
        for text in (render([*problem.messages, reply]), render(env.messages)):
            for piece in re.split(r"<[^<>\n]+>", text):
                words.update(WORDS.findall(piece))
    return sorted(words)


def build() -> Tokenizer:
    """Build the tokenizer; deterministic."""
    alphabet = sorted(ByteLevel.alphabet())
    level = ByteLevel(add_prefix_space=False, use_regex=False)
    entries = [PAD, START, END, *KEPT, *alphabet]
    for word in vocabulary():
        entry = level.pre_tokenize_str(word)[0][0]
        if entry not in alphabet:
            entries.append(entry)
    entries += [f"<|unused_{i}|>" for i in range(-len(entries) % 64)]
    vocab = {entry: i for i, entry in enumerate(entries)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[], ignore_merges=True))
    split = Split(Regex(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\n+|\s+"), "isolated")
    tokenizer.pre_tokenizer = Sequence([split, level])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in (PAD, START, END)])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in KEPT])
    return tokenizer


def save(folder: Path) -> Tokenizer:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`."""
    tokenizer = build()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return tokenizer
