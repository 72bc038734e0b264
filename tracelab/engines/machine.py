"""What this machine has to compute with; imports no torch."""

from __future__ import annotations

import os


def gpu_count() -> int:
    """NVIDIA GPUs of this machine that may be used."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([v for v in visible.split(",") if v.strip() not in ("", "-1")])
    try:
        devices = os.listdir("/dev")
    except OSError:
        return 0
    return sum(d.removeprefix("nvidia").isdigit() for d in devices if d.startswith("nvidia"))
