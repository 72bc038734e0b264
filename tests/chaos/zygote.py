"""Runs `tracelab` commands in forked children of a process that has imported everything once.

A drill starts many commands and ends most of them early: a fork takes milliseconds, an interpreter
with all its imports seconds. One JSON object a line on stdin, one a line on stdout:

    {"argv": [...], "kill_at": N or null}   run a command; SIGKILL at its N-th call into the code
                                            that stores and loads -> {"code", "calls", "said"}
    {"mount": PATH, "bytes": N}             a disk of that size at PATH, or resize it -> {"code"}
    {"fill": PATH, "bytes": N}              leave N bytes of room on it; null: all -> {"code"}
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

WATCHED = ("/tracelab/store/", "/tracelab/run/", "/json/encoder.py")


def _child(argv: list[str], kill_at: int | None, said: int, count: int) -> None:
    from tracelab.cli import main

    calls = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        if event in ("call", "return") and any(w in frame.f_code.co_filename for w in WATCHED):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 1
    if kill_at is not None:  # counting takes as long as the command itself
        sys.setprofile(profile)
    try:
        main(argv, standalone_mode=True)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(bool(e.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.setprofile(None)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(count, str(calls).encode())
    os._exit(code)


def _run(argv: list[str], kill_at: int | None) -> dict[str, Any]:
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as count:
        pid = os.fork()
        if pid == 0:
            _child(argv, kill_at, said.fileno(), count.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for f in (said, count):
            f.seek(0)
        calls = int(count.read() or b"0")
        return {"code": code, "calls": calls, "said": said.read().decode("utf-8", "replace")}


def _mount(path: str, size: int) -> dict[str, Any]:
    options = f"size={size}"
    if os.path.ismount(path):
        options = f"remount,{options}"
    os.makedirs(path, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True
    )
    return {"code": done.returncode}


def _fill(path: str, room: int | None) -> dict[str, Any]:
    filler = Path(path) / "filler"
    filler.unlink(missing_ok=True)
    if room is not None:
        disk = os.statvfs(path)
        filler.write_bytes(b"x" * max(disk.f_bavail * disk.f_frsize - room, 0))
    return {"code": 0}


def serve() -> None:
    """Answer until stdin ends."""
    # What a command imports when it is needed is imported before the first fork.
    import duckdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.stats  # noqa: F401

    import tracelab.cli.sql
    import tracelab.cli.study
    import tracelab.engines.scripted
    import tracelab.run.execute
    import tracelab.run.rebuild
    import tracelab.view.integrity
    import tracelab.view.keys  # noqa: F401
    from tracelab.core.study import STUDIES
    from tracelab.engines.registry import ENGINES
    from tracelab.sources import SOURCES

    for registry in (STUDIES, ENGINES, SOURCES):
        assert [*registry], "looking at a registry imports its members"

    for line in sys.stdin:
        asked = json.loads(line)
        if "argv" in asked:
            found = _run(asked["argv"], asked.get("kill_at"))
        elif "mount" in asked:
            found = _mount(asked["mount"], asked["bytes"])
        else:
            found = _fill(asked["fill"], asked["bytes"])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    serve()
