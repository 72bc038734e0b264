"""The Ray pool with scripted engines: real Ray, real process deaths, no model."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from tracelab.core.errors import EngineError
from tracelab.core.item import Item, Sampling
from tracelab.core.trace import Turn
from tracelab.engines.scripted import ScriptTokenizer
from tracelab.run.pool import LocalPool, RayPool, drain

pytestmark = pytest.mark.engine
POISON = 65  # the letter A, spelled in bytes by the scripted tokenizer


def items(tokenizer: ScriptTokenizer, ref, texts: list[str], n: int = 20) -> list[Item]:
    return [
        Item(ref, tokenizer.render([Turn("user", t)], "chat"), Sampling(), replicates=n)
        for t in texts
    ]


def answered(observations) -> Counter:
    return Counter((o.key, o.replicate) for o in observations)


def test_ray_and_local_pools_give_the_same_samples(script_tokenizer, script_spec) -> None:
    spec = script_spec()
    work = items(script_tokenizer, spec.model, [f"q{i}" for i in range(9)])
    local = {(o.key, o.replicate): o.text for b in drain(LocalPool(spec), work) for o in b}
    pool = RayPool(spec, replicas=2, batch_rollouts=7, in_flight=3, cpus=0.5)
    try:
        found = [o for b in drain(pool, work) for o in b]
    finally:
        pool.close()
    assert set(answered(found).values()) == {1}
    assert {(o.key, o.replicate): o.text for o in found} == local


def test_a_poisonous_item_fails_alone(script_tokenizer, script_spec) -> None:
    spec = script_spec(poison=POISON)
    work = items(script_tokenizer, spec.model, ["q0", "q1", "A", "q3", "q4"])
    pool = RayPool(spec, batch_rollouts=60, in_flight=4, max_deaths=20)
    try:
        found = [o for b in drain(pool, work) for o in b]
    finally:
        pool.close()
    assert set(answered(found).values()) == {1}
    assert len(found) == 100
    failed = {o.key for o in found if o.error}
    assert failed == {work[2].key}
    assert all(o.error.startswith("engine_died:") for o in found if o.error)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(script_tokenizer, script_spec) -> None:
    import ray

    spec = script_spec()
    work = items(script_tokenizer, spec.model, [f"q{i}" for i in range(40)], n=40)
    pool = RayPool(spec, batch_rollouts=40, in_flight=2)
    try:
        found = []
        for k, batch in enumerate(drain(pool, work)):
            found += batch
            if k == 2:
                pid = ray.get(pool._replicas[0].handle.start.remote())
                os.kill(pid, signal.SIGKILL)
    finally:
        pool.close()
    assert set(answered(found).values()) == {1}
    assert len(found) == 1600
    assert not any(o.error for o in found)


def test_engines_that_keep_dying_end_the_run(script_tokenizer, script_spec) -> None:
    spec = script_spec(poison=POISON)
    work = items(script_tokenizer, spec.model, ["A", "AA", "AAA"], n=2)
    pool = RayPool(spec, batch_rollouts=2, max_deaths=1)
    try:
        with pytest.raises(EngineError, match="engines died 2 times"):
            list(drain(pool, work))
    finally:
        pool.close()
