"""The loop: inputs for every target in turn until the time is over; a crash is made a file."""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.fuzz.mutate import mutated, seeds
from tests.fuzz.targets import TARGETS, Target

ROUND = 40
CORPUS = Path(__file__).parents[1] / "corpus"


@dataclass(slots=True)
class Found:
    """What a run found.

    Attributes:
        tried: Inputs by target.
        crashes: (target, file, traceback) of each new one.
    """

    tried: Counter[str] = field(default_factory=Counter)
    crashes: list[tuple[str, Path, str]] = field(default_factory=list)


def fuzz(seconds: float, seed: int, names: Iterable[str] = (), keep: Path = CORPUS) -> Found:
    """Try targets for so many seconds.

    Args:
        seconds: How long; what is being tried is finished.
        seed: The same seed tries the same inputs, as far as the time reaches.
        names: Targets; all where none is named.
        keep: Where crashes are written: a file a crash, shrunk where hypothesis made it.
    """
    found, pool, until = Found(), seeds(), time.monotonic() + seconds
    chosen = [n for n in TARGETS if not names or n in set(names)]
    number = 0
    while time.monotonic() < until:
        for name in chosen:
            target, suffix = TARGETS[name]
            number += 1
            crash = _round(target, name, seed * 1_000_003 + number, pool, found, until)
            if crash is not None:
                data, how = crash
                digest = hashlib.blake2b(data, digest_size=4).hexdigest()
                file = keep / f"fuzz_{name.split('.')[0]}_{digest}{suffix}"
                file.write_bytes(data)
                found.crashes.append((name, file, how))
                chosen.remove(name)  # one is enough: the next would be the same
                break
            if time.monotonic() >= until:
                break
        if not chosen:
            break
    return found


def _round(
    target: Target, name: str, seed: int, pool: list[bytes], found: Found, until: float
) -> tuple[bytes, str] | None:
    """Mutations of real inputs, then a few that hypothesis makes up; the input that crashes."""
    rng = random.Random(seed)
    for _ in range(ROUND):
        if time.monotonic() >= until:
            return None
        data = mutated(rng, pool)
        found.tried[name] += 1
        try:
            target(data)
        except Exception:
            return data, traceback.format_exc()
    last: list[bytes] = []

    @seeded(seed)
    @settings(
        max_examples=ROUND // 4,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
    def made_up(data: bytes) -> None:
        last[:] = [data]
        found.tried[name] += 1
        target(data)

    if time.monotonic() >= until:
        return None
    try:
        made_up()
    except Exception:
        return last[0], traceback.format_exc()
    return None
