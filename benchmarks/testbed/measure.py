"""Runs the model for the card: answers, episodes and probes through vLLM, filler by the sampler.

The shell around `bars`: everything is generated at temperature 1, top-p 1, in float32, from the
evaluation split, with a seed for every request. Filler's rollouts (hundreds of thousands) come
from `sampler`, whose distribution a test holds to transformers'.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import Qwen3ForCausalLM

from benchmarks.testbed import tokenizer
from benchmarks.testbed.bars import ContextEffect, FillerEffect, Measured
from benchmarks.testbed.figures import Count, agent_figures, reasoning_figures
from benchmarks.testbed.net import load_net
from benchmarks.testbed.sampler import END, tally
from tracelab.testbed.agent_labels import AgentEpisode, read
from tracelab.testbed.agent_world import MarketEnvironment, tasks
from tracelab.testbed.market import Fact, Problem, place_facts, problems
from tracelab.testbed.world import answer_of, is_well_formed, label

LONGEST = 200  # generated tokens; a chain takes about 75


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    complete: int = 420  # problems a phrasing
    missing: int = 100  # problems a phrasing
    hinted: int = 480
    episodes: int = 800
    contexts: int = 60
    fillers: int = 64
    rollouts: int = 2000  # on each side of a filler sentence
    greedy: int = 100


FAST = Sizes(120, 40, 120, 200, 20, 12, 1000, 30)


class Engine:
    """One model in vLLM, asked in token ids."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
        }
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from vllm import LLM, SamplingParams

        self.params = SamplingParams
        self.tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.llm: Any = LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            # Seeded requests and split prefills do not go together on vLLM 0.32's CPU build.
            enable_chunked_prefill=False,
            max_num_batched_tokens=8192,
            max_model_len=1024,
            block_size=32,
            disable_log_stats=True,
        )

    def ids(self, text: str) -> list[int]:
        """Tokens of a rendered text."""
        return list(self.tok.encode(text).ids)

    def generate(self, prompts: Sequence[str], seed: int, greedy: bool = False) -> list[list[int]]:
        """One continuation a prompt, the end mark left out."""
        rng = random.Random(f"card/{seed}")
        params = [
            self.params(
                temperature=0.0 if greedy else 1.0,
                max_tokens=LONGEST,
                seed=None if greedy else rng.getrandbits(60),
                detokenize=False,
            )
            for _ in prompts
        ]
        out = self._ask([self.ids(p) for p in prompts], params)
        return [[t for t in o.outputs[0].token_ids if t != END] for o in out]

    def score(self, texts: Sequence[list[int]]) -> list[np.ndarray]:
        """Log-probability of every token after the first, nats."""
        params = self.params(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        return [
            np.array(
                [row[t].logprob for t, row in zip(ids[1:], o.prompt_logprobs[1:], strict=True)]
            )
            for ids, o in zip(texts, self._ask(texts, [params] * len(texts)), strict=True)
        ]

    def text(self, ids: list[int]) -> str:
        """What tokens say."""
        return str(self.tok.decode(ids, skip_special_tokens=False))

    def _ask(self, prompts: Sequence[list[int]], params: list[Any]) -> list[Any]:
        asked = [{"prompt_token_ids": ids} for ids in prompts]
        return list(self.llm.generate(asked, params, use_tqdm=tqdm))


def prompt_of(problem: Problem) -> str:
    """The rendered chat that a response continues."""
    return tokenizer.render(problem.messages, add_generation_prompt=True)


def reasoned(engine: Engine, sizes: Sizes, seed: int) -> list[tuple[Problem, str]]:
    """Responses to complete, incomplete and hinted problems."""
    asked: list[Problem] = []
    for phrasing in range(3):
        for n, missing in ((sizes.complete, False), (sizes.missing, True)):
            asked += problems(n, seed, phrasing=phrasing, missing=missing, hinted=False)
    asked += problems(sizes.hinted, seed, hinted=True)
    said = engine.generate([prompt_of(p) for p in asked], seed)
    return [(p, engine.text(ids)) for p, ids in zip(asked, said, strict=True)]


def played(engine: Engine, n: int, seed: int) -> Iterable[AgentEpisode]:
    """Finished agent episodes; every turn of all of them is one batch."""
    envs = []
    for asked in tasks(n, seed):
        envs.append(MarketEnvironment())
        envs[-1].reset(asked)
    turn = 0
    while live := [env for env in envs if not env.done]:
        turn += 1
        prompts = [tokenizer.render(env.messages, add_generation_prompt=True) for env in live]
        said = engine.generate(prompts, seed * 100 + turn)
        for env, ids in zip(live, said, strict=True):
            env.step(engine.text(ids))
    return [read(env.task, env.steps) for env in envs]


def without(problem: Problem, *gone: Fact) -> str:
    """The rendered chat with some facts removed from the prompt."""
    said = [(f.text, f.role, f.subject, f.value) for f in problem.facts if f not in gone]
    end = problem.facts[-1].end
    prompt, _ = place_facts(said, problem.prompt[end + 1 :])
    return tokenizer.render([{"role": "user", "content": prompt}], add_generation_prompt=True)


def ablations(problem: Problem) -> list[tuple[str, tuple[Fact, ...]]]:
    """What leave-one-out removes, by kind; pairs that say the same also together."""
    kinds = {"redundant": "one of a pair"}
    found: list[tuple[str, tuple[Fact, ...]]] = []
    found += [(kinds.get(f.role, str(f.role)), (f,)) for f in problem.facts]
    for subject in dict.fromkeys(f.subject for f in problem.facts if f.role == "redundant"):
        found.append(("both of a pair", tuple(f for f in problem.facts if f.subject == subject)))
    return found


def context_effects(
    engine: Engine, responses: Iterable[tuple[Problem, str]], n: int
) -> list[ContextEffect]:
    """Leave-one-out effects on the first `n` well-formed responses to complete problems."""
    jobs: list[tuple[int, str, list[int], int]] = []
    plain = [
        (p, text)
        for p, text in responses
        if p.missing is None and p.hint is None and is_well_formed(label(p, text))
    ]
    stride = max(1, len(plain) // n)
    for c, (problem, text) in enumerate(plain[::stride][:n]):
        reply = engine.ids(text) + [END]
        for kind, gone in [("nothing", ()), *ablations(problem)]:
            jobs.append((c, kind, engine.ids(without(problem, *gone)) + reply, len(reply)))
    scores = engine.score([ids for _, _, ids, _ in jobs])
    [close] = engine.ids("</think>")
    found, whole, last = [], 0.0, 0.0
    for (c, kind, ids, length), row in zip(jobs, scores, strict=True):
        line = len(ids) - ids.index(close, len(ids) - length)
        total, final = float(row[-length:].sum()), float(row[-line:].sum())
        if kind == "nothing":
            whole, last = total, final
        else:
            found.append(ContextEffect(c, kind, abs(total - whole), abs(final - last)))
    return found


def value_at(
    net: Qwen3ForCausalLM,
    tok: Tokenizer,
    problem: Problem,
    text: str,
    n: int,
    rng: np.random.Generator,
) -> int:
    """How many of `n` rollouts after a prefix of a response answer rightly."""
    ids = tok.encode(prompt_of(problem) + text).ids
    answers = (
        (answer_of(text + tok.decode(rest[:-1], skip_special_tokens=False)), count)
        for rest, count in tally(net, ids, n, rng)
    )
    return sum(count for answer, count in answers if answer == problem.reference)


def filler_effects(
    folder: Path, responses: Iterable[tuple[Problem, str]], sizes: Sizes, seed: int
) -> list[FillerEffect]:
    """Values before and after one filler sentence of each of some responses."""
    net, tok = load_net(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    draw, rng = random.Random(f"filler/{seed}"), np.random.default_rng(seed)
    spots = []
    for problem, text in responses:
        fillers = [s for s in label(problem, text) if s.role == "filler"]
        if fillers and problem.missing is None:
            spots.append((problem, text, draw.choice(fillers)))
    draw.shuffle(spots)
    found = []
    for problem, text, spot in tqdm(spots[: sizes.fillers], desc="filler"):
        before, after = (
            value_at(net, tok, problem, text[:end], sizes.rollouts, rng)
            for end in (spot.start, spot.end)
        )
        found.append(FillerEffect(before, after, sizes.rollouts))
    return found


def greedy_agreement(engine: Engine, folder: Path, n: int, seed: int) -> Count:
    """Greedy continuations that are the same tokens in vLLM and in transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = [prompt_of(p) for p in problems(n, seed + 1)]
    agreed = Count()
    for prompt, theirs in zip(prompts, engine.generate(prompts, seed, greedy=True), strict=True):
        ids = torch.tensor([engine.ids(prompt)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                             max_new_tokens=LONGEST)  # fmt: skip
        agreed.add([t for t in out[0, ids.shape[1] :].tolist() if t != END] == theirs)
    return agreed


def measure(folder: Path, sizes: Sizes, seed: int) -> Measured:
    """Measure everything."""
    engine = Engine(folder)
    responses = reasoned(engine, sizes, seed)
    counts = reasoning_figures(responses) | agent_figures(played(engine, sizes.episodes, seed))
    contexts = context_effects(engine, responses, sizes.contexts)
    greedy = greedy_agreement(engine, folder, sizes.greedy, seed)
    fillers = filler_effects(folder, responses, sizes, seed)
    return Measured(counts, fillers, contexts, greedy)
