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


def test_what_is_finished_is_given_while_its_batch_goes_on(script_tokenizer, script_spec) -> None:
    """The third item of the batch never ends by itself; the others are had all the same."""
    spec = script_spec(sleepy=POISON)
    work = items(script_tokenizer, spec.model, ["q0", "q1", "A", "q3"], n=3)
    pool = RayPool(spec, batch_rollouts=100, in_flight=1)
    try:
        pool.submit(work)
        found: list = []
        while len(found) < 9:
            found += pool.ready(60)
        assert {o.key for o in found} == {work[k].key for k in (0, 1, 3)}
        assert pool.owed == 3
        pid = ray_pid(pool)
        os.kill(pid, signal.SIGKILL)
        pool._spec = script_spec()  # its successor does not sleep
        while pool.owed:
            found += pool.ready(60)
    finally:
        pool.close()
    assert set(answered(found).values()) == {1}, "what had come back is not asked again"
    assert len(found) == 12 and pool.restarts == 1


def test_what_is_cancelled_is_forgotten_and_what_is_begun_is_given(
    script_tokenizer, script_spec
) -> None:
    spec = script_spec(seconds=0.2)
    work = items(script_tokenizer, spec.model, [f"q{i}" for i in range(400)], n=1)
    pool = RayPool(spec, batch_rollouts=50, in_flight=2)
    try:
        pool.submit(work)
        found: list = []
        while not found:
            found += pool.ready(60)
        pool.cancel()
        while pool.owed:
            found += pool.ready(60)
            pool.cancel()
    finally:
        pool.close()
    assert set(answered(found).values()) == {1}
    assert 0 < len(found) < 100


def ray_pid(pool: RayPool) -> int:
    import ray

    return ray.get(pool._replicas[0].handle.start.remote())  # type: ignore[no-any-return]


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
    spec = script_spec()
    work = items(script_tokenizer, spec.model, [f"q{i}" for i in range(40)], n=40)
    pool = RayPool(spec, batch_rollouts=40, in_flight=2)
    try:
        found = []
        for k, batch in enumerate(drain(pool, work)):
            found += batch
            if k == 2:
                os.kill(ray_pid(pool), signal.SIGKILL)
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
