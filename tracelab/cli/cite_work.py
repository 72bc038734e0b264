"""`tracelab cite`: one example, in the terminal, without a journal or a database."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.text import Text

from tracelab.core.errors import ConfigError, ImportFormatError, PlanError
from tracelab.core.finding import Score
from tracelab.core.item import Item
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.pool import LocalPool, Pool
from tracelab.run.runs import hush_transformers
from tracelab.run.wiring import Wired, local_pool, wire
from tracelab.sources.context import read_one
from tracelab.stats.held_out import ranking
from tracelab.store.cite_rows import PrunedRow, TargetRow
from tracelab.studies.cite import cites, heads
from tracelab.studies.cite.attribution import Attribution, cut_of
from tracelab.studies.cite.explain import BASELINES, Explained
from tracelab.studies.cite.looker import Looker
from tracelab.studies.cite.probes import ProbeSink
from tracelab.studies.cite.prune import prune
from tracelab.studies.cite.subject import ChatTokenizer
from tracelab.studies.cite.targets import parse_targets
from tracelab.view.output import clean

_SHADES = ("", "on #fff6d6", "on #ffe9a8", "on #ffd873", "on #ffc13d")
"""Background of a span by its share of the strongest effect; dark text is set with it."""
_LABELS = {
    "grounded": "green",
    "diffuse": "cyan",
    "parametric": "yellow",
    "ungrounded": "red",
    "insufficient": "dim",
}
_TOP = 3
_PART = 0.1
"""Smaller interactions, as a share of all that the context does, are left to `--json`."""


@dataclass(frozen=True, slots=True)
class CiteOptions:
    """What the command was asked.

    Attributes:
        model: `testbed`, a directory or a hub id.
        engine: `transformers`, `vllm` or `openai`.
        ablations: Masks.
        unit: How finely the context is cut.
        mode: What stands in the place of an ablated span.
        target: A text of the response, or one of the words of `parse_targets`; None for the
            record's own, or every sentence.
        seed: Of the masks, and of a response that the model writes.
        dtype: Precision.
        max_tokens: Longest response that the model writes.
        methods: `shapley`, `sufficient`, `pairs`, `attention`, `at2`, `llm-cites`, besides
            the effects.
        prune: Answer again with so many spans; 0 does not.
        endpoint: For `openai`: the server, up to and without `/completions`.
        served: The server's name for the model; default: `model`.
        api_key_env: Environment variable that holds its key.
    """

    model: str
    engine: str = "transformers"
    ablations: int = 64
    unit: str = "sentence"
    mode: str = "delete"
    target: str | None = None
    seed: int = 0
    dtype: str = "float32"
    max_tokens: int = 512
    methods: tuple[str, ...] = ()
    prune: int = 0
    endpoint: str | None = None
    served: str | None = None
    api_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class Cited:
    """The result: the explained context, and what the model says of a pruned one."""

    found: Explained
    pruned: PrunedRow | None = None


def cite(text: str, options: CiteOptions) -> Cited:
    """Attribute the response of one record to its context.

    Args:
        text: A JSON record, as `tracelab.sources.context` reads them; of several lines the first.
        options: How.

    Raises:
        ImportFormatError: The record cannot be used or studied; one sentence.
    """
    config = config_of(options)
    record = read_one(text, cut_of(config))
    if options.target is not None:
        try:
            record = replace(record, targets=parse_targets(options.target))
        except PlanError as e:
            raise ImportFormatError(str(e)) from None
    wired = wire(config)
    if not hasattr(wired.tokenizer, "chat_text"):
        raise ConfigError("`tracelab cite` needs engine transformers, vllm or openai")
    hush_transformers()
    pool = _pool(config, wired)
    try:
        work = Attribution(
            config, cast(ChatTokenizer, wired.tokenizer), wired.spec.model,
            wired.spec.context_length, _observer(pool), ProbeSink(), [],
        )  # fmt: skip
        studies = work.respond([record])
        if not studies:
            raise ImportFormatError(work.rejects[0].reason.removeprefix(f"{record.name}: "))
        lent = pool.white_box if isinstance(pool, LocalPool) else None
        with contextlib.closing(Looker(config, lent=lent)) as work.look:
            (found,) = work.measure(studies)
            pruned = prune(work, [found], options.prune) if options.prune else [None]
        return Cited(found, pruned[0])
    except PlanError as e:
        raise ImportFormatError(str(e)) from None
    finally:
        pool.close()


def config_of(options: CiteOptions) -> RunConfig:
    """The config of a run that would do the same."""
    return parse_config(
        {
            "name": "cite", "pipeline": "context_attribution", "source": "-",
            "model": options.model, "seed": options.seed,
            "engine": {
                "kind": options.engine, "dtype": options.dtype,
                "server": {
                    "endpoint": options.endpoint, "model": options.served,
                    "api_key_env": options.api_key_env,
                },
            },
            "sampling": {"temperature": 0.0, "max_tokens": options.max_tokens},
            "context": {
                "ablations": options.ablations, "unit": options.unit, "mode": options.mode,
                "top_k": [1], "methods": ["ablate", *options.methods],
            },
        },
        "cite",
    )  # fmt: skip


def _pool(config: RunConfig, wired: Wired) -> Pool:
    return local_pool(wired.spec) if config.engine.kind == "transformers" else wired.make_pool()


def _observer(pool: Pool) -> Any:
    def observe(name: str, items: Sequence[Item], on: Any) -> None:
        distinct = {i.key: i for i in items}
        for batch in pool.run(list(distinct.values())):
            on(batch)

    return observe


def to_json(cited: Cited) -> dict[str, Any]:
    """The result as one object; numbers that could not be measured are null."""
    found = cited.found
    study = found.study
    quality = _quality(found)
    return {
        "response": study.trace.response,
        "ablation": study.mode,
        "notes": study.notes,
        "spans": [{"span": u.index, "text": u.text, "role": u.role} for u in study.units],
        "targets": [
            {
                "target": t.target, "text": t.text, "rather_than": t.rather_than,
                "label": t.label, "logprob_full": t.logprob_full,
                "logprob_empty": t.logprob_empty, "ablations": t.ablations,
                **quality[t.target],
                "spans": [
                    {"span": s.unit_index, "value": s.value, "lo": s.lo, "hi": s.hi,
                     "status": s.status}
                    for s in found.effects(t.target)
                ],
                "methods": _others(found, t.target),
            }
            for t in found.targets
        ],
        "pruned": None if cited.pruned is None else asdict(cited.pruned),
    }  # fmt: skip


def _others(found: Explained, target: str) -> list[dict[str, Any]]:
    """What the methods besides the effects say about one target."""
    looked = [s for _, a in found.baselines(target) for s in a.scores]
    asked = [s for a in found.answers for s in a.scores if s.target == target]
    return [
        {"method": s.method, "metric": s.metric, "span": s.unit_index, "value": s.value,
         "lo": s.lo, "hi": s.hi, "status": s.status, **s.extra}
        for s in looked + asked
    ]  # fmt: skip


def _quality(found: Explained) -> dict[str, dict[str, float | None]]:
    out: dict[str, dict[str, float | None]] = {t.target: {} for t in found.targets}
    for row in found.faithfulness:
        if row.method not in BASELINES:
            out[row.target][row.metric] = row.value
    return out


def show(cited: Cited, *, as_json: bool, console: Console | None = None) -> None:
    """Print a result to stdout: one JSON object, or text for a person."""
    if as_json:
        print(json.dumps(to_json(cited), ensure_ascii=True, allow_nan=False))
        return
    console = console or Console(highlight=False, soft_wrap=True)
    for line in lines(cited):
        console.print(line)


def lines(cited: Cited) -> Iterator[Text]:
    """What a person reads: the context, tinted; each statement with what it rests on."""
    found = cited.found
    study = found.study
    strength = [0.0] * study.n
    for t in found.targets:
        for s in found.effects(t.target):
            if _shown(s):
                strength[s.unit_index] = max(strength[s.unit_index], s.value or 0.0)
    most = max(strength, default=0.0)
    yield Text("context", style="bold")
    for u in study.units:
        share = strength[u.index] / most if most else 0.0
        shade = _SHADES[min(int(share * (len(_SHADES) - 1) + 0.999), len(_SHADES) - 1)]
        line = Text(f"{u.index:>4} ")
        line.append(clean(u.text.strip()), style=f"black {shade}" if shade else "")
        yield line
    yield Text("")
    yield Text("response", style="bold")
    for t in found.targets:
        yield from _statement(found, t)
    if cited.pruned is not None:
        yield from _pruned(cited.pruned)
    yield Text("")
    yield Text(_footer(found), style="dim")
    for note in study.notes:
        yield Text(clean(note), style="dim")


def _statement(found: Explained, t: TargetRow) -> Iterator[Text]:
    line = Text(f"{t.label:<12}", style=_LABELS[t.label])
    line.append(clean(t.text.strip()) or "(white space)", style="bold")
    if t.rather_than is not None:
        line.append(f"  rather than  {clean(t.rather_than.strip())}", style="bold")
    yield line
    shown = [s for s in found.effects(t.target) if _shown(s)]
    supported = t.label in ("grounded", "diffuse")
    if supported:
        for s in sorted(shown, key=lambda s: -(s.value or 0.0))[:_TOP]:
            text = clean(found.study.units[s.unit_index].text.strip())
            interval = f"[{s.lo:+.1f}, {s.hi:+.1f}]"
            yield Text(f"{'':12}{s.value:+7.1f} {interval:<16} {s.unit_index:>3} {text}")

    enough = [s for s in _others(found, t.target) if s["metric"] == "member"]
    if enough:
        spans = ", ".join(str(s["span"]) for s in enough if s["value"]) or "none"
        yield Text(f"{'':12}enough: {spans}" + ("" if enough[0]["reached"] else " (not reached)"))
    if supported and (said := found.found[t.target].get(cites.METHOD)) is not None:
        yield Text(f"{'':12}{cites.METHOD}: {clean(_cited(said.scores))}")
    # What is looked at while something is written from memory says nothing to a reader.
    best = {m: ranking(a.weights)[:1] for m, a in found.found[t.target].items()
            if supported and m in heads.METHODS and np.isfinite(a.weights).any()}  # fmt: skip
    least = _PART * ((t.logprob_full or 0.0) - (t.logprob_empty or 0.0))
    for s in _others(found, t.target):
        if s.get("kind") in ("joint", "redundant") and abs(s["value"]) >= least:
            how = "need each other" if s["kind"] == "joint" else "replace each other"
            yield Text(f"{'':12}{s['span']} and {s['other']} {how} ({s['value']:+.1f})")
        elif s["span"] in best.get(s["method"], ()):
            yield Text(f"{'':12}{s['method']:<10}{s['value']:+.3f} {s['span']:>3}")
        elif s["method"] == "shapley" and s["lo"] is not None and s["lo"] > 0:
            yield Text(f"{'':12}Shapley {s['value']:+.1f} [{s['lo']:+.1f}, {s['hi']:+.1f}] "
                       f"{s['span']:>3}")  # fmt: skip


def _cited(scores: Sequence[Score]) -> str:
    """The spans that the model says it used, or why it said nothing that counts."""
    if any(s.value is None for s in scores):
        return f"no answer, {scores[0].extra['reason']}"
    return ", ".join(str(s.unit_index) for s in scores if s.value) or "none"


def _pruned(p: PrunedRow) -> Iterator[Text]:
    yield Text("")
    yield Text("pruned context", style="bold")
    change = "not measured" if p.logprob_change is None else f"{p.logprob_change:+.2f} nats"
    yield Text(
        f"spans {', '.join(map(str, p.kept)) or 'none'}; {p.tokens_left} of {p.tokens} prompt "
        f"tokens; log p of the response {change}"
    )
    if p.response is None:
        yield Text(f"no answer: {clean(p.reason or '')}", style="red")
    else:
        yield Text("the same answer" if p.same else f"now: {clean(p.response.strip())}")


def _shown(score: Score) -> bool:
    """Whether an effect is shown to be above 0."""
    return score.lo is not None and score.lo > 0


def _footer(found: Explained) -> str:
    quality = _quality(found)
    supported = [t.target for t in found.targets if t.label in ("grounded", "diffuse")]
    parts = []
    for metric, name in (("lds", "LDS on fresh ablations"), ("oof_lds", "out of fold")):
        values = [v for t in supported if (v := quality[t].get(metric)) is not None]
        mean = f"{sum(values) / len(values):.2f}" if values else "not measured"
        parts.append(f"{name} {mean}")
    used = min((t.ablations for t in found.targets), default=0)
    return (
        f"effects in nats of log-probability, 95 % intervals; {used} ablations; "
        f"{', '.join(parts)} (mean over statements that the context supports)"
    )


def read_input(name: str, stdin: Any) -> str:
    """The text of a file, or of stdin for `-`.

    Raises:
        ConfigError: It cannot be read.
    """
    if name == "-":
        text: str = stdin.read()
        return text
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{name}: not UTF-8 (byte {e.start})") from None
    except OSError as e:
        raise ConfigError(f"{name}: cannot be read ({e.strerror or e})") from None
