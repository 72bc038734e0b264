"""Contexts at scale: one of 1,000 sources and 32,000 tokens; 1,000 small ones, killed on the way.

long: `tracelab cite` on one context, 16 ablations, with a model of random weights (2 layers of
width 64, 32,000 outputs, a window of 40,960). Its seconds, and its most memory: what all its
processes hold for themselves, looked at 10 times a second; and what the system says of the largest.

batch: `tracelab run` on questions of the testbed, 16 ablations each, under Ray. Once half of the
observations are durable the driver gets kill -9, and the same command is issued again. Every
observation must then be there exactly once, none that was durable asked again, and
`tracelab check` clean.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cite.speed import TEMPLATE, case
from benchmarks.cite.stand_in import random_model
from tracelab.engines.models import find_model
from tracelab.engines.tokenizer import HFTokenizer
from tracelab.store.connect import open_reader
from tracelab.store.journal import Peek
from tracelab.testbed import problems

ABLATIONS = 16
SOURCES = 1_000
WINDOW = 40_960
NOTES = 7
"""Notes that make a source of about 32 tokens."""
RUN = "scale"
CONFIG = """
name = "{name}"
study = "cite"
source = {source}
model = "testbed"
[engine]
kind = "{engine}"
dtype = "float32"
device = "cpu"
[cite]
template = {template}
ablations = {ablations}
held_out = 0
top_k = []
"""


def long_context(documents: int) -> dict[str, Any]:
    """A record of 1,000 sources of about 32 tokens."""
    drawn = (f.text for p in problems(2_000, 5, missing=False, hinted=False) for f in p.facts)
    lines = [", ".join(next(drawn).rstrip(".") for _ in range(NOTES)) + "." for _ in range(SOURCES)]
    each = -(-SOURCES // documents)
    parts = [" ".join(lines[i : i + each]) for i in range(0, SOURCES, each)]
    return {
        "context": parts if documents > 1 else parts[0],
        "query": "How much is it?",
        "response": "Kale costs 4. Fig takes 7. So the bill is 11.",
    }


def peak_gib(process: psutil.Process, done: threading.Event) -> float:
    """Most memory of a process and its children, GiB; returns when it is done."""
    most = 0
    while not done.wait(0.1):
        with suppress(psutil.Error):
            tree = [process, *process.children(recursive=True)]
            most = max(most, sum(_resident(p) for p in tree))
    return most / 2**30


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        own = process.memory_info()
        return int(own.rss - own.shared)
    return 0


def long_one(engine: str, documents: int) -> dict[str, Any]:
    """Seconds and memory of one long context."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        tokenizer = Path(find_model("testbed", "float32").path)
        record = at / "context.json"
        record.write_text(json.dumps(given := long_context(documents)))
        texts = given["context"] if documents > 1 else [given["context"]]
        tokens = sum(len(HFTokenizer(str(tokenizer)).encode_text(t)) for t in texts)
        model = random_model(at / "model", tokenizer, layers=2, hidden=64, window=WINDOW)
        command = [sys.executable, "-m", "tracelab", "cite", str(record), "--model", model,
                   "--engine", engine, "--ablations", str(ABLATIONS), "--json",
                   "--home", str(at / "home")]  # fmt: skip
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        done, seen = threading.Event(), list[float]()
        watch = threading.Thread(
            target=lambda: seen.append(peak_gib(psutil.Process(child.pid), done))
        )
        watch.start()
        out, _ = child.communicate()
        seconds = time.perf_counter() - began
        done.set()
        watch.join()
    if child.returncode:
        raise SystemExit(f"tracelab cite ended with {child.returncode}")
    found = json.loads(out)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {
        "engine": engine, "sources": len(found["spans"]), "documents": documents, "tokens": tokens,
        "targets": len(found["targets"]), "ablations": found["targets"][0]["ablations"],
        "seconds": round(seconds, 1), "all_processes_gib": round(seen[0], 2),
        "largest_process_gib": round(largest, 2),
    }  # fmt: skip


def write_batch(folder: Path, engine: str, contexts: int) -> Path:
    """A source of small contexts, and the config of a run over them."""
    source = folder / "contexts.jsonl"
    with source.open("w") as out:
        for k, problem in enumerate(problems(contexts, 75, missing=False, hinted=False)):
            c = case(problem, None)
            record = {"id": f"c{k}", "context": c.context, "query": c.query,
                      "response": c.response, "target": "response"}  # fmt: skip
            out.write(json.dumps(record) + "\n")
    path = folder / "batch.toml"
    path.write_text(
        CONFIG.format(name=RUN, source=json.dumps(str(source)), engine=engine,
                      template=json.dumps(TEMPLATE), ablations=ABLATIONS)
    )  # fmt: skip
    return path


def durable(home: Path) -> Counter[tuple[str, int]]:
    """How often each observation is in the journal."""
    root = home / "runs"
    if not (root / RUN).exists():
        return Counter()
    parts = Peek(str(root), RUN).observations()
    return Counter((o.key, o.replicate) for part in parts for o in part)


def start(config: Path, home: Path) -> subprocess.Popen[bytes]:
    """`tracelab run`, in a session of its own."""
    command = [sys.executable, "-m", "tracelab", "run", str(config), "--home", str(home)]
    return subprocess.Popen(command, start_new_session=True)


def batch(engine: str, contexts: int, seed: int) -> dict[str, Any]:
    """Kill a batch job halfway, finish it, and look at what it left."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        config = write_batch(Path(folder), engine, contexts)
        # Small contexts have fewer than 16 masks, and equal ones are one: about 13 a context.
        half = int(contexts * random.Random(seed).uniform(4, 8))
        began = time.perf_counter()
        first = start(config, home)
        while len(durable(home)) < half:
            if first.poll() is not None:
                raise SystemExit("the run ended before it could be killed")
            time.sleep(1)
        family = psutil.Process(first.pid).children(recursive=True)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        killed = time.perf_counter() - began
        psutil.wait_procs(family, timeout=60)
        left = sum(p.is_running() for p in family)
        kept = durable(home)

        began = time.perf_counter()
        if start(config, home).wait():
            raise SystemExit("the second run failed")
        rest = time.perf_counter() - began
        done = durable(home)
        began = time.perf_counter()
        nothing_left = start(config, home).wait() == 0 and durable(home) == done
        third = time.perf_counter() - began
        check = subprocess.run([sys.executable, "-m", "tracelab", "check", "--home", str(home)])
        with open_reader(home / "tracelab.duckdb") as con:
            row = con.execute(
                "SELECT (SELECT count(*) FROM targets), (SELECT count(*) FROM probes), "
                "(SELECT count(*) FROM probes WHERE error IS NOT NULL), "
                "(SELECT count(*) FROM scores WHERE value IS NULL), (SELECT status FROM runs), "
                "(SELECT sum(prompt_tokens) FROM sessions), "
                "(SELECT sum(cached_tokens) FROM sessions), (SELECT min(ablations) FROM targets)"
            ).fetchone()
        assert row is not None
        return {
            "engine": engine, "contexts": row[0], "observations": len(done), "probes": row[1],
            "durable_when_killed": len(kept), "processes_left_after_60_s": left,
            "asked_twice": sum(n > 1 for n in done.values()),
            "lost": len(kept.keys() - done.keys()), "failed": row[2],
            "scores_without_value": row[3], "status": row[4],
            "fewest_ablations": row[7], "check": check.returncode == 0,
            "third_run_asks_nothing": nothing_left,
            "seconds": [round(killed, 1), round(rest, 1), round(third, 1)],
            "prompt_tokens": row[5], "cached_tokens": row[6],
        }  # fmt: skip
