"""Kills what a process leaves behind, however that process ends.

`guard()` starts a small helper that notes the descendants of the calling process and waits on a
pipe that only the caller holds. When the caller is gone (finished, interrupted, `kill -9`), the
pipe closes and the helper kills what is left of the descendants. vLLM's engine process and Ray's
daemons outlive a killed parent otherwise.

Run as a script it is the helper; it imports only psutil.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 3.0


def guard() -> IO[bytes]:
    """Start a helper for the calling process.

    Returns:
        The pipe that keeps the helper waiting; keep a reference to it. Closing it early kills
        the descendants now.
    """
    helper = subprocess.Popen(
        [sys.executable, __file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Its own session: Ctrl-C in a terminal must reach the caller, not the helper.
        start_new_session=True,
    )
    assert helper.stdin is not None
    return helper.stdin


def _main(pid: int) -> None:
    import select

    import psutil

    me = os.getpid()
    seen: dict[tuple[int, float], psutil.Process] = {}
    while True:
        try:
            for child in psutil.Process(pid).children(recursive=True):
                if child.pid != me:
                    seen[(child.pid, child.create_time())] = child
        except psutil.Error:
            pass
        # Readable means end of file: nobody ever writes to this pipe.
        if select.select([0], [], [], _POLL_SECONDS)[0]:
            break
    for process in list(seen.values()):
        try:
            for child in process.children(recursive=True):
                seen[(child.pid, child.create_time())] = child
        except psutil.Error:
            pass
    left = [p for p in seen.values() if p.pid != me and p.is_running()]
    for process in left:
        try:
            process.terminate()
        except psutil.Error:
            pass
    _, alive = psutil.wait_procs(left, timeout=_GRACE_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            pass


if __name__ == "__main__":
    _main(int(sys.argv[1]))
