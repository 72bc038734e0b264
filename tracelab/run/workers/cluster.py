"""Starting or joining Ray, quietly, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import IO, Any

from tracelab.core.errors import EngineError, one_line

_OBJECT_STORE_BYTES = 256 << 20
_ATTEMPTS = 3


class OwnedRay:
    """A Ray that was started here; `close` ends its processes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def close(self) -> None:
        """Let the helper kill whatever `ray.shutdown` left."""
        self._pipe.close()


def connect(address: str | None) -> OwnedRay | None:
    """Make Ray usable in this process.

    Args:
        address: None starts a Ray of our own on this machine; otherwise the cluster to join.

    Returns:
        A handle to the Ray that was started here, or None if it is somebody else's.

    Raises:
        EngineError: Ray cannot be started or reached.
    """
    # Reports home and nags are off; the accelerator variables must reach CPU actors unchanged.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray runs workers at niceness 15: on a shared machine the engine would get the crumbs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return None
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with _own_signals():
            return _connect(address)
    except SystemExit:  # what Ray does about a SIGTERM while it starts
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep who hears signals: Ray takes SIGTERM for itself, in Python and once more natively.

    Its native handler prints a stack and kills the process; setting ours again displaces it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in ours.items():
            if handler is not None:
                signal.signal(number, handler)


def _connect(address: str | None) -> OwnedRay | None:
    import ray

    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    try:
        if address is not None:
            ray.init(address=address, **common)
            return None
        from tracelab.run.workers.reaper import guard

        pipe = guard()
        for attempt in range(_ATTEMPTS):
            try:
                ray.init(
                    # A RAY_ADDRESS in the environment must not make a laptop run join a cluster.
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **common,
                )
                break
            except Exception as e:
                # Ray gives its processes 30 seconds, which a busy machine may not.
                if "timed out" not in str(e) or attempt == _ATTEMPTS - 1:
                    raise
                ray.shutdown()
        return OwnedRay(pipe)
    except Exception as e:  # ray raises many kinds; each means there is no Ray to work with
        where = "on this machine" if address is None else f"at {address!r}"
        raise EngineError(f"Ray cannot be used {where}: {one_line(e)}") from e
