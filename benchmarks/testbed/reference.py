"""Reference values of single traces, contexts and episodes: one function a kind, rows as dicts.

Everything is the model's own: its responses and episodes are sampled, labelled by the world, and
valued by re-sampling (`sampler.tally`) from every boundary. Values are P(right answer) or
P(success); effects on log-probabilities are exact, in nats, and positive when the removed facts
had raised the text's log-probability. Knows nothing about files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.testbed import tokenizer
from benchmarks.testbed.measure import ablations, prompt_of, without
from benchmarks.testbed.net import load_net
from benchmarks.testbed.sampler import END, tally, tally_guess
from tracelab.testbed.agent_labels import NoFaults, read, resumed
from tracelab.testbed.agent_policy import act
from tracelab.testbed.agent_world import AgentTask, MarketEnvironment, task
from tracelab.testbed.market import Problem, Split, problem
from tracelab.testbed.world import answer_of, is_well_formed, label

TURN = 64  # longest turn of an agent, in tokens
Rows = dict[str, list[dict[str, Any]]]


def error(p: float, n: int) -> float:
    """Standard error of a share."""
    return float((p * (1 - p) / n) ** 0.5) if n else float("nan")


class Reference:
    """One model, ready to be asked."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.net = load_net(folder)
        self.tok = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def continued(
        self, chat: str, n: int, rng: np.random.Generator, longest: int, guess: str = ""
    ) -> list[tuple[str, int]]:
        """Distinct continuations of a rendered text, and how many of `n` samples each is.

        A `guess` at the most likely one changes the speed, not the distribution.
        """
        prefix = self.tok.encode(chat).ids
        if guess:
            whole = [*self.tok.encode(guess).ids, END]
            found = tally_guess(self.net, prefix, whole, n, rng, longest)
        else:
            found = tally(self.net, prefix, n, rng, longest)
        return [
            (self.tok.decode([t for t in ids if t != END], skip_special_tokens=False), count)
            for ids, count in found
        ]

    def respond(self, asked: Problem, rng: np.random.Generator) -> str:
        """Sample responses until one is well formed."""
        while True:
            [(text, _)] = self.continued(prompt_of(asked), 1, rng, 200)
            if is_well_formed(label(asked, text)):
                return text

    def trace(self, split: Split, seed: int, index: int, n: int) -> Rows:
        """One response; the value at each of its boundaries from `n` rollouts."""
        asked = problem(split, seed, index)
        rng = np.random.default_rng([index, seed, ord(split[0])])
        text = self.respond(asked, rng)
        sentences = label(asked, text)
        chat, name = prompt_of(asked), asked.problem_id
        found: list[dict[str, Any]] = []
        for i, sentence in enumerate(sentences):
            answers: Counter[str] = Counter()
            right = different = different_right = same = 0
            head = text[: sentence.start]
            for tail, count in self.continued(chat + head, n, rng, 200):
                answer = answer_of(head + tail) or "unanswered"
                hit = answer == asked.reference
                answers[answer] += count
                right += hit * count
                drawn = label(asked, head + tail)
                if len(drawn) <= i or drawn[i].role != sentence.role:
                    different, different_right = different + count, different_right + hit * count
                elif drawn[i].text == sentence.text:
                    same += count
            other = different_right / different if different else None
            found.append(
                {
                    "trace_id": name,
                    "boundary": i,
                    "role": sentence.role,
                    "text": sentence.text,
                    "start": sentence.start,
                    "n": n,
                    "value": right / n,
                    "value_se": error(right / n, n),
                    "answers": json.dumps(dict(answers.most_common())),
                    "n_same_text": same,
                    "n_different_role": different,
                    "value_different_role": other,
                }
            )
        final = answer_of(text) == asked.reference
        end = {"value": float(final), "value_se": 0.0}
        for row, after in zip(found, [*found[1:], end], strict=True):
            here, m = row["value_different_role"], row["n_different_role"]
            row["delta"] = after["value"] - row["value"]
            row["delta_se"] = float(np.hypot(row["value_se"], after["value_se"]))
            row["counterfactual"] = None if here is None else after["value"] - here
            row["counterfactual_se"] = (
                None if here is None else float(np.hypot(error(here, m), after["value_se"]))
            )
        trace = {
            "trace_id": name,
            "split": split,
            "prompt": asked.prompt,
            "response": text,
            "answer": answer_of(text),
            "reference": asked.reference,
            "phrasing": asked.phrasing,
            "hint": asked.hint,
            "missing": asked.missing,
        }
        return {"traces": [trace], "boundaries": found}

    def context(self, split: Split, seed: int, index: int) -> Rows:
        """One response; what removing facts does to its log-probability, exactly."""
        asked = problem(split, seed, index)
        text = self.respond(asked, np.random.default_rng([index, seed, 1 + ord(split[0])]))
        sentences = label(asked, text)
        pieces = [self.tok.encode(s.text).ids for s in sentences]
        pieces[-1] = [*pieces[-1], END]
        starts = np.cumsum([0, *map(len, pieces[:-1])])
        reply = [t for piece in pieces for t in piece]

        def scored(chat: str) -> np.ndarray:
            ids = self.tok.encode(chat).ids + reply
            with torch.inference_mode():
                out = self.net(torch.tensor([ids]), logits_to_keep=len(reply) + 1, use_cache=False)
                logp = out.logits[0, :-1].log_softmax(-1)
                own = logp[torch.arange(len(reply)), torch.tensor(reply)].double().numpy()
            return np.add.reduceat(own, starts)

        whole = scored(prompt_of(asked))
        effects = []
        for kind, gone in [*ablations(asked), ("all", asked.facts)]:
            change = whole - scored(without(asked, *gone))
            effects.append(
                {
                    "context_id": asked.problem_id,
                    "removed": kind,
                    "facts": [asked.facts.index(f) for f in gone],
                    "effect": float(change.sum()),
                    "by_sentence": [round(float(c), 5) for c in change],
                }
            )
        context = {
            "context_id": asked.problem_id,
            "split": split,
            "prompt": asked.prompt,
            "response": text,
            "fact_roles": [f.role for f in asked.facts],
            "fact_starts": [f.start for f in asked.facts],
            "fact_ends": [f.end for f in asked.facts],
            "sentence_roles": [s.role for s in sentences],
            "sentence_starts": [s.start for s in sentences],
            "logprob": float(whole.sum()),
        }
        return {"contexts": [context], "context_effects": effects}

    def episode(self, split: Split, seed: int, index: int, n: int) -> Rows:
        """One episode; if it failed, P(success) when re-executed from before each step."""
        asked = task(split, seed, index)
        rng = np.random.default_rng([index, seed, 2 + ord(split[0])])
        env = MarketEnvironment()
        env.reset(asked)
        while not env.done:
            chat = tokenizer.render(env.messages, add_generation_prompt=True)
            [(text, _)] = self.continued(chat, 1, rng, TURN)
            env.step(text)
        episode = read(asked, env.steps)
        if episode.success:
            return {"episodes": [], "steps": []}
        played = self.successes(asked, env.steps, n, rng)
        values = [value for value, _ in played] + [0.0]
        steps = [
            {
                "episode_id": asked.task_id,
                "step": s.index,
                "agent": s.agent,
                "role": s.role,
                "text": s.text,
                "n": played[s.index][1],
                "value": values[s.index],
                "value_se": error(*played[s.index]),
                "delta": values[s.index + 1] - values[s.index],
            }
            for s in episode.steps
        ]
        row = {
            "episode_id": asked.task_id,
            "split": split,
            "seed": seed,
            "index": index,
            "prompt": asked.messages[0]["content"],
            "answer": env.answer,
            "reference": asked.reference,
            "cause": episode.cause,
            "decisive_step": episode.decisive_step,
            "largest_fall": int(np.argmin(np.diff(values))),
        }
        return {"episodes": [row], "steps": steps}

    def successes(
        self, asked: AgentTask, steps: Sequence[str], n: int, rng: np.random.Generator
    ) -> list[tuple[float, int]]:
        """P(success) from before each step, and the re-executions behind it, `n` or more.

        A re-execution that repeats the episode's own first steps counts for all of them, so the
        estimates at neighbouring steps share re-executions; each by itself is unbiased.
        """
        own = {tuple(steps[:t]): t for t in range(len(steps))}
        won, seen = [0.0] * len(steps), [0] * len(steps)

        def play_on(state: tuple[str, ...], count: int) -> float:
            env, progress = resumed(asked, state)
            if env.done:
                return count * env.score()
            chat = tokenizer.render(env.messages, add_generation_prompt=True)
            guess = "" if progress.role == "garbled" else act(progress, NoFaults())
            wins = sum(
                play_on((*state, text), times)
                for text, times in self.continued(chat, count, rng, TURN, guess)
            )
            if state in own:
                won[own[state]] += wins
                seen[own[state]] += count
            return wins

        for state, t in own.items():
            if seen[t] < n:
                play_on(state, n - seen[t])
        return [(w / s, s) for w, s in zip(won, seen, strict=True)]
