"""The card of the testbed's model: `card.json` (every figure and count) and `README.md`."""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks.testbed.bars import Row, rows
from benchmarks.testbed.figures import Count
from benchmarks.testbed.measure import FAST, Sizes, measure
from benchmarks.testbed.train import hardware

README = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The testbed's model

A {parameters:.2f}-million-parameter `Qwen3ForCausalLM` that reasons about bills in a small invented
market and plays a planner and a worker with tools. It exists because what decides its answers was
planted: attribution methods can be held to it. It knows nothing else and is of no other use.

## What it does

{verdict}

Measured with problems and tasks of the evaluation split (no question of it was trained on), seed
{seed}, temperature 1, top-p 1, float32, vLLM {vllm}; filler's rollouts by the sampler that the
reference values come from, which a test holds to transformers. {fast_note}Intervals are 95 %:
Wilson's for shares, resampled contexts or sentences for the AUC and the RMS. Bars are judged on the
estimate. Took {seconds} s on {hardware}. `python -m benchmarks card` measures it again.

{table}

Also counted, without a bar: slips {slips}; garbled sentences {garbled}; tool turns that follow from
what stands before them {in_place}. Causes of failed episodes: {causes}.

## How it was made

{training} `python -m benchmarks train` makes another.

Data: only the generators in `tracelab/testbed`, train split. Loss on the assistant's turns. Muon
for matrices, AdamW for the rest; look-up exercises fade from 85 % to 5 % of the examples over the
first quarter. Stored in bfloat16; run it in float32, where vLLM and transformers agree token by
token (in bfloat16, near-ties may fall either way).

## What was not learnt from data

- **Two hand-built attention heads.** Layer 0, heads 0 and 1 attend to the token 1 and 2 back. Their
  queries and keys, the layer's q/k norms and embedding channel 0 (a constant) are frozen; all else
  is trained. In a prototype, look-ups were .95 right after 50 s of training with them and .49
  without. Do not count them as a discovery in an analysis of layer 0's attention.
- **Slips are easy to see on purpose:** a slipped result is 20 too high, out of the range of any
  right one. Off-by-one slips were not noticed by models of this size.
- Templates are few and uneven (60/40), so that greedy decoding meets no near-ties.

## What it can and cannot tell

It can tell whether a method finds causes that are known to be there, leaves alone what is known to
have no effect (filler, distractors), and whether its intervals cover, through real tokenizers and
engines. It cannot tell whether real models reason faithfully, how long or ambiguous sentences
behave, or how methods scale: chains are about {sentences} short sentences, answers a few small
integers, and every sentence's role can be read by a regular expression.
"""


def training_note(folder: Path) -> str:
    """What `train` recorded about the run that made the weights."""
    path = folder / "training.json"
    if not path.exists():
        return "No record of the training run (`training.json`) lies beside the weights."
    t = json.loads(path.read_text())
    return (
        f"`{t['command']}`: {t['steps']} steps of {t['batch']} sequences, seed {t['seed']}, "
        f"{t['seconds'] / 60:.0f} minutes in {t['processes']} process(es) on {t['hardware']}, "
        f"torch {t['torch']}.{' ' + t['note'] if t.get('note') else ''}"
    )


def number(x: float) -> str:
    """Three decimals where they say something."""
    return "" if x != x else f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.3f}"


def table(found: Sequence[Row]) -> str:
    """The rows in Markdown."""
    head = "| | measured | 95 % interval | n | bar | |\n|---|---|---|---|---|---|\n"
    mark = {True: "pass", False: "**FAIL**", None: ""}
    return head + "\n".join(
        f"| {r.name} | {number(r.value)} | {number(r.lo)} to {number(r.hi)} | {r.n} "
        f"| {r.bar} | {mark[r.passed]} |"
        for r in found
    )


def verdict(found: Sequence[Row]) -> str:
    """One sentence: do the bars hold."""
    failed = [r for r in found if r.passed is False]
    held = sum(r.passed is True for r in found)
    if not failed:
        return f"All {held} bars hold."
    names = "; ".join(f"{r.name}: {number(r.value)} (bar {r.bar})" for r in failed)
    return f"{held} of {held + len(failed)} bars hold. Missed: {names}."


def card(facts: dict[str, Any], training: str) -> str:
    """The card in Markdown, from what `card.json` holds."""
    found = [Row(**row) for row in facts["rows"]]
    counts = {name: Count(*pair) for name, pair in facts["counts"].items()}
    causes = [
        f"{name.removeprefix('failures: ')} {c.k}"
        for name, c in sorted(counts.items(), key=lambda item: -item[1].k)
        if name.startswith("failures: ") and c.k
    ]
    in_place = counts["tool turns that follow from what stands before"]
    fill = {
        "verdict": verdict(found),
        "table": table(found),
        "slips": f"{counts['slip'].share:.3f} of {counts['slip'].n} sums",
        "garbled": "{0.k} of {0.n}".format(counts["sentences garbled"]),
        "in_place": f"{in_place.share:.3f} of {in_place.n}",
        "causes": ", ".join(causes),
        "sentences": round(counts["sentences garbled"].n / counts["well-formed answers"].n),
        "fast_note": "**A fast run with fewer cases than the full card.** "
        if facts["fast"]
        else "",
        "training": training,
        **{k: facts[k] for k in ("parameters", "seed", "vllm", "seconds", "hardware")},
    }
    # Each paragraph is filled apart, so that its lines come out even.
    return "\n\n".join(fold(part.format(**fill)) for part in README.split("\n\n"))


def fold(paragraph: str) -> str:
    """Wrap a paragraph of prose; leave tables, headings, lists and front matter alone."""
    if paragraph.startswith(("|", "#", "-")):
        return paragraph
    return textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)


def vllm_version() -> str:
    """Of whichever build is installed."""
    import vllm

    return str(vllm.__version__)


def parameters(folder: Path) -> float:
    """Millions of parameters."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(k).get_shape() for k in weights.keys()]
    return float(sum(math.prod(shape) for shape in shapes) / 1e6)


def measure_facts(model: Path, *, seed: int, fast: bool) -> dict[str, Any]:
    """Measure; return what `card.json` holds."""
    began = time.monotonic()
    measured = measure(model, FAST if fast else Sizes(), seed)
    weights = (model / "model.safetensors").read_bytes()
    return {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "seed": seed,
        "fast": fast,
        "seconds": round(time.monotonic() - began),
        "hardware": hardware(),
        "vllm": vllm_version(),
        "transformers": version("transformers"),
        "torch": version("torch"),
        "parameters": parameters(model),
        "rows": [asdict(r) for r in rows(measured)],
        "counts": {name: [c.k, c.n] for name, c in sorted(measured.counts.items())},
        "fillers": [[f.before, f.after, f.n] for f in measured.fillers],
    }


def write(model: Path, out: Path, *, seed: int, fast: bool, render: bool) -> dict[str, Any]:
    """Measure and write the card; return what `card.json` holds.

    Args:
        model: Folder with the weights.
        out: Folder to write.
        seed: Of the problems and the sampling.
        fast: Fewer cases.
        render: Measure nothing: write `README.md` from the `card.json` that is there.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not render:
        measured = measure_facts(model, seed=seed, fast=fast)
        (out / "card.json").write_text(json.dumps(measured, indent=1) + "\n")
    facts: dict[str, Any] = json.loads((out / "card.json").read_text())
    (out / "README.md").write_text(card(facts, training_note(model)))
    return facts


def missed(facts: dict[str, Any]) -> bool:
    """Whether the point estimate of any bar misses it."""
    return any(row["passed"] is False for row in facts["rows"])


def show(facts: dict[str, Any]) -> None:
    """Print the table and the verdict."""
    found = [Row(**row) for row in facts["rows"]]
    click.echo(table(found))
    click.echo(verdict(found))
