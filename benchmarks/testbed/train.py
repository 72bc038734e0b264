"""Train the testbed's model from scratch: one command, one run, no data but the world's.

Data-parallel over the CPU cores (or one GPU when there is one). Everything is drawn from the
train split by (seed, step), so a run is repeatable up to the order of floating-point sums,
and a resumed run sees the data it would have seen. The loss covers the assistant's turns only.
Writes the weights, the tokenizer and `training.json`, which says how they were made.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Qwen3ForCausalLM

from benchmarks.testbed import tokenizer
from benchmarks.testbed.muon import Muon
from benchmarks.testbed.net import build_lag_heads, save_net, start_net
from tracelab.testbed import agent_labels, agent_world, market, world

BATCH = 40  # sequences a step, over all processes
CHECKPOINT_EVERY = 50
GROUP = 6  # steps whose sequences are drawn together
DECAY_FROM = 0.45  # share of the steps after which the learning rates fall linearly to 0
MUON_LR, ADAM_LR = 0.006, 3e-3
AGENT_SHARE = 0.28
EXERCISES_FIRST, EXERCISES_LAST, EXERCISES_UNTIL = 0.85, 0.05, 0.25


@dataclass(frozen=True, slots=True)
class Settings:
    """One training.

    Attributes:
        out: Folder to write, the checkpoint of a stopped run included.
        steps: Optimiser steps.
        seconds: Train by time instead of by steps.
        seed: Of the weights and the data.
        resume: Continue from the checkpoint.
    """

    out: Path
    steps: int
    seconds: float | None
    seed: int
    resume: bool


def exercise(rng: random.Random) -> str:
    """A page of notes and many look-ups in it: dense practice for the copying circuit."""
    subjects = rng.sample(market.GOODS, 12) + rng.sample(market.SHOPS, 5)
    rng.shuffle(subjects)
    notes, said = [], []
    for i, subject in enumerate(subjects):
        if subject in market.GOODS:
            fact = market.good_fact(subject, rng.choice(market.PRICES), rng.randrange(2))
            noun = "price"
        else:
            fact = market.shop_fact(subject, market.draw_change(rng), rng.randrange(2))
            noun = "change"
        if i < 13:
            notes.append(fact)
            said.append(fact.removeprefix("Item ").removeprefix("Shop "))
        else:
            said.append(f"{subject} has no {noun} here.")
    rng.shuffle(notes)
    rng.shuffle(said)
    asked = {"role": "user", "content": " ".join([market.OPENING, *notes])}
    reply = {"role": "assistant", "content": "<think>\nLet me find " + " ".join(said)}
    return tokenizer.render([asked, reply])


def reasoning(rng: random.Random) -> str:
    """One problem and a chain of thought."""
    problem = market.problem("train", rng.getrandbits(48), 0)
    content = "<think>\n" + world.write(problem, rng).text
    return tokenizer.render([*problem.messages, {"role": "assistant", "content": content}])


def episode(rng: random.Random) -> str:
    """One agent episode."""
    task = agent_world.task("train", rng.getrandbits(48), 0)
    env = agent_world.MarketEnvironment()
    env.restore(task, agent_labels.play(task, rng))
    return tokenizer.render(env.messages)


def batches(
    tok: Tokenizer, seed: int, first: int, progress: Callable[[], float], rank: int, ranks: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a process's (ids, targets), int64 [sequence, token], for ever from step `first` on.

    Targets are -100 where no loss is taken. Sequences are drawn for `GROUP` steps at once and
    sorted by length, so that little is padded away; the processes deal one step's sequences out
    among them, so that the data do not depend on their number and none waits for another.
    `progress` is the share of the training that is done.
    """
    for group in count(first // GROUP):
        rng = random.Random(f"{seed}/{group}")
        done = min(1.0, progress() / EXERCISES_UNTIL)
        share = EXERCISES_FIRST + (EXERCISES_LAST - EXERCISES_FIRST) * done
        texts = []
        for _ in range(BATCH * GROUP):
            if rng.random() < share:
                texts.append(exercise(rng))
            else:
                texts.append(episode(rng) if rng.random() < AGENT_SHARE else reasoning(rng))
        texts.sort(key=len)
        places = rng.sample(range(GROUP), GROUP)
        for step, place in enumerate(places, group * GROUP):
            if step >= first:
                yield encode(tok, texts[place * BATCH : (place + 1) * BATCH][rank::ranks])


def encode(tok: Tokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens and next-token targets; only what an assistant says after `<think>` counts."""
    rows = [e.ids for e in tok.encode_batch(texts)]
    think, end = tok.token_to_id("<think>"), tok.token_to_id(tokenizer.END)
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), -100)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        inside = False
        for t in range(len(row) - 1):
            if inside:
                targets[i, t] = row[t + 1]
                inside = row[t + 1] != end
            elif t and row[t - 1] == think:
                inside = True
                targets[i, t] = row[t + 1]
    return ids, targets


def optimizers(net: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices = [p for p in net.model.layers.parameters() if p.ndim == 2]
    rest = [p for n, p in net.named_parameters() if p.ndim == 1 or "embed" in n]
    return [
        Muon(matrices, lr=MUON_LR),
        torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
    ]


class Clock:
    """How far the training is: by steps, or by seconds where a time was given."""

    def __init__(self, steps: int, seconds: float | None) -> None:
        self.steps, self.seconds = steps, seconds
        self.step, self.elapsed = 0, 0.0
        self.began = time.monotonic()

    def tick(self, distributed: bool) -> None:
        """Count a step; all processes take the first one's time."""
        now = torch.tensor([self.elapsed + time.monotonic() - self.began])
        self.began = time.monotonic()
        if distributed:
            dist.broadcast(now, 0)
        self.elapsed = now.item()
        self.step += 1

    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        share = self.elapsed / self.seconds if self.seconds else self.step / self.steps
        return min(1.0, share)


def run(rank: int, world_size: int, args: Settings) -> None:
    """One data-parallel process of the training."""
    if world_size > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", rank=rank, world_size=world_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = tokenizer.build()
    net = start_net(tok.get_vocab_size(), args.seed).to(device)
    opts = optimizers(net)
    peak = [[group["lr"] for group in opt.param_groups] for opt in opts]
    clock, path = Clock(args.steps, args.seconds), args.out / "checkpoint.pt"
    if args.resume and path.exists():
        saved = torch.load(path, map_location=device)
        net.load_state_dict(saved["net"])
        for opt, state in zip(opts, saved["optimizers"], strict=True):
            opt.load_state_dict(state)
        clock.step, clock.elapsed = saved["step"], saved["elapsed"]
    params = list(net.parameters())
    data = batches(tok, args.seed, clock.step, clock.progress, rank, world_size)
    bar = tqdm(total=100, unit="%", disable=rank > 0, mininterval=5)
    while clock.progress() < 1:
        ids, targets = (t.to(device) for t in next(data))
        rate = min(1.0, (1 - clock.progress()) / (1 - DECAY_FROM))
        for opt, lrs in zip(opts, peak, strict=True):
            for group, lr in zip(opt.param_groups, lrs, strict=True):
                group["lr"] = lr * rate
        used = targets != -100
        # Padding is at the end, where a causal model does not look.
        hidden = net.model(ids, use_cache=False).last_hidden_state
        loss = F.cross_entropy(net.lm_head(hidden[used]), targets[used])
        loss.backward()
        if world_size > 1:
            flat = torch.cat([p.grad.flatten() for p in params]) / world_size
            dist.all_reduce(flat)
            for p, g in zip(params, flat.split([p.numel() for p in params]), strict=True):
                p.grad.copy_(g.view_as(p))
        nn.utils.clip_grad_norm_(params, 1.0)
        for opt in opts:
            opt.step()
        net.zero_grad()
        build_lag_heads(net)
        clock.tick(world_size > 1)
        bar.update(round(100 * clock.progress(), 1) - bar.n)
        bar.set_postfix(step=clock.step, loss=f"{loss.item():.3f}", refresh=False)
        if rank == 0 and clock.step % CHECKPOINT_EVERY == 0:
            state = {"net": net.state_dict(), "optimizers": [o.state_dict() for o in opts]}
            torch.save(state | {"step": clock.step, "elapsed": clock.elapsed}, f"{path}.part")
            os.replace(f"{path}.part", path)
    bar.close()
    if rank == 0:
        save_net(net, args.out)
        tokenizer.save(args.out)
        record(args, clock, world_size)
    if world_size > 1:
        dist.destroy_process_group()


def hardware() -> str:
    """The GPU if there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} virtual cores of {names[0] if names else platform.machine()}"


def record(args: Settings, clock: Clock, processes: int) -> None:
    """Write `training.json`: how the weights were made."""
    made = {
        "command": "python -m benchmarks train",
        "seed": args.seed,
        "steps": clock.step,
        "batch": BATCH,
        "seconds": round(clock.elapsed),
        "processes": processes,
        "hardware": hardware(),
        "torch": torch.__version__,
    }
    (args.out / "training.json").write_text(json.dumps(made, indent=2) + "\n")


def train_model(args: Settings, processes: int | None = None) -> dict[str, Any]:
    """Train; return what `training.json` holds.

    Args:
        args: What to train.
        processes: None takes the cores, 2 at most, or one process where there is a GPU.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    cores = min(2, os.cpu_count() or 1)
    processes = processes or (1 if torch.cuda.is_available() else cores)
    if processes == 1:
        run(0, 1, args)
    else:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29577")
        torch.multiprocessing.spawn(run, (processes, args), processes)
    made: dict[str, Any] = json.loads((args.out / "training.json").read_text())
    return made
