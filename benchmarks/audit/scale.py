"""Many small runs of agents: ingest, audit by rules and by judges, and ask across all of them.

Runs of 12 steps as a user would keep them: half as one file each, a quarter as OpenAI chat lines, a
quarter as ATIF lines. Every command is a process of its own; its peak resident memory is what the
kernel says of it. The judge is a server in this process that answers at once, so what is measured
is tracelab. Queries are timed in an open reader, the median of seven.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tracelab.store.connect import open_reader
from tracelab.store.query import query

STEPS = 12
QUERIES = {
    "blame": "SELECT * FROM blame",
    "blame_by_version": "SELECT * FROM blame_by_version",
    "clusters": "SELECT * FROM clusters",
    "judge_disagreement": "SELECT * FROM judge_disagreement LIMIT 100",
    "verdicts by agent": "SELECT agent, status, count(*) FROM verdicts GROUP BY ALL",
    "failure rate by tool": "SELECT s.tool, count(DISTINCT s.trace_id), avg(t.success::INT) "
    "FROM steps s JOIN traces t USING (run_id, trace_id) GROUP BY ALL",
    "verdicts": "verdicts",
}


def run_of(i: int) -> list[dict[str, Any]]:
    """The messages of one failed run."""
    rng = random.Random(i)
    out: list[dict[str, Any]] = [{"role": "user", "content": f"Find order {i} and refund it."}]
    while len(out) < STEPS - 1:
        tool = rng.choice(("search", "fetch", "refund"))
        function = {"name": tool, "arguments": json.dumps({"id": rng.randrange(999)})}
        call = {"id": f"c{len(out)}", "type": "function", "function": function}
        who, said = rng.choice(("planner", "worker")), "I will look. " * rng.randrange(1, 8)
        out.append({"role": "assistant", "name": who, "content": said, "tool_calls": [call]})
        answer = "Error: not found" if rng.random() < 0.2 else f"row {rng.random()} " * 20
        out.append({"role": "tool", "tool_call_id": call["id"], "content": answer})
    return [*out, {"role": "assistant", "name": "worker", "content": f"Refunded {i}."}]


def atif(i: int, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The same as an ATIF document."""
    steps: list[dict[str, Any]] = []
    for m in messages:
        if m["role"] == "tool":
            found = [{"source_call_id": m["tool_call_id"], "content": m["content"]}]
            steps[-1]["observation"] = {"results": found}
            continue
        source = "agent" if m["role"] == "assistant" else "user"
        step = {"step_id": len(steps) + 1, "source": source, "message": m["content"]}
        step["tool_calls"] = [
            {"tool_call_id": c["id"], "function_name": c["function"]["name"],
             "arguments": json.loads(c["function"]["arguments"])}
            for c in m.get("tool_calls", ())
        ]  # fmt: skip
        steps.append(step)
    agent = {"name": "worker", "version": f"v{i % 3}"}
    return {"schema_version": "ATIF-v1.7", "trajectory_id": f"run-{i}", "steps": steps,
            "agent": agent, "extra": {"reward": 0.0}}  # fmt: skip


def write(folder: Path, runs: int) -> None:
    """Write the folder."""
    chats, atifs = [], []
    for i in range(runs):
        record = {"id": f"run-{i}", "messages": run_of(i), "success": False, "version": f"v{i % 3}"}
        if i % 4 == 2:
            chats.append(json.dumps(record))
        elif i % 4 == 3:
            atifs.append(json.dumps(atif(i, record["messages"])))  # type: ignore[arg-type]
        else:
            (folder / f"{i:06d}.json").write_text(json.dumps(record))
    (folder / "chats.jsonl").write_text("\n".join(chats))
    (folder / "atif.jsonl").write_text("\n".join(atifs))


class Judge(BaseHTTPRequestHandler):
    """Names a step at once."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        agent = "worker" if b"worker" in asked else "planner"
        said = f"Agent: {agent}\nStep: {1 + len(asked) % 5}\nReason: it looked in the wrong place"
        choice = {"message": {"content": said}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def measured(*arguments: str, home: Path) -> dict[str, float]:
    """Run tracelab; seconds and peak MB. Fails with what it said."""
    env = {**os.environ, "TRACELAB_HOME": str(home)}
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        where = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)]
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-m", "tracelab", *arguments], env, file_actions=where
        )
        _, status, used = os.wait4(pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            out.seek(0)
            raise SystemExit(out.read().decode()[-2000:])
    seconds = time.monotonic() - began
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_mb": round(used.ru_maxrss / 1024)}  # fmt: skip


def asked(database: Path) -> dict[str, float]:
    """Milliseconds of every query."""
    found = {}
    with open_reader(database) as con:
        for name, sql in QUERIES.items():
            times = []
            for _ in range(7):
                began = time.perf_counter()
                query(con, sql)
                times.append(1000 * (time.perf_counter() - began))
            found[name] = round(statistics.median(times), 1)
    return found


def measure(runs: int) -> dict[str, Any]:
    """Seconds, peak memory and query times, by what was done."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as temporary:
        folder, home = Path(temporary) / "logs", Path(temporary) / "home"
        folder.mkdir()
        write(folder, runs)
        logs = str(folder)
        rules = ("--opinion", "error-rule", "--opinion", "last-llm-step", "--opinion", "step-mode")
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        judge = ("--opinion", "all-at-once", "--endpoint", url, "--judge", "stand-in")
        found: dict[str, Any] = {"runs": runs}
        found["ingest"] = measured("ingest", logs, home=home)
        found["audit by three rules"] = measured("audit", logs, *rules, "--json", home=home)
        both = ("--name", "judged", "--opinion", "error-rule")
        found["audit by a judge"] = measured("audit", logs, *judge, *both, "--json", home=home)
        found["the same again"] = measured("audit", logs, *judge, *both, "--json", home=home)
        found["queries, ms"] = asked(home / "tracelab.duckdb")
        found["database, MB"] = round((home / "tracelab.duckdb").stat().st_size / 1e6, 1)
    server.shutdown()
    server.server_close()
    return found
