"""What the contract of engines says, on a real model: 49,152 tokens, 30 layers, real language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.contract.conftest import Subject
from tests.real.conftest import real_subject

pytestmark = pytest.mark.real


def test_the_vocabulary_is_that_of_the_models_output(real: Subject) -> None:
    assert real.tokenizer.vocabulary == 49_152


def test_the_exact_prefix_is_continued(real: Subject) -> None:
    [whole] = real.ask(real.item(real.prompts[2], temperature=0.0, max_tokens=14))
    prefix = real.prompts[2] + whole.token_ids[:6]
    [rest] = real.ask(real.item(prefix, temperature=0.0, max_tokens=8))
    assert rest.token_ids == whole.token_ids[6:]
    assert whole.text == real.tokenizer.decode(whole.token_ids)


def test_samples_report_the_log_probabilities_of_scoring(real: Subject) -> None:
    samples = real.ask(real.item(real.prompts[3], n=3, max_tokens=10))
    assert len({o.text for o in samples}) > 1
    probes = [real.probe(real.prompts[3], o.token_ids) for o in samples]
    scored = {o.key: o for o in real.ask(*probes)}
    for o, probe in zip(samples, probes, strict=True):
        assert scored[probe.key].token_logprobs == pytest.approx(o.token_logprobs, abs=2e-3)


def test_bfloat16_says_about_the_same(real: Subject, real_dir: Path) -> None:
    """Eight bits of mantissa over 30 layers: a tenth of a nat a token, and no direction."""
    said = real.tokenizer.encode_text("The capital of France is Paris.")
    [wide] = real.ask(real.probe(real.prompts[0], said))
    narrow = real_subject("transformers", real_dir, dtype="bfloat16")
    [o] = narrow.ask(narrow.probe(narrow.prompts[0], said))
    narrow.pool.close()
    assert wide.token_logprobs is not None and o.token_logprobs is not None
    apart = np.subtract(o.token_logprobs, wide.token_logprobs)
    assert np.abs(apart).max() < 0.5 and abs(apart.mean()) < 0.1
    assert o.token_logprobs != wide.token_logprobs


@pytest.mark.engine
def test_vllm_agrees(real: Subject, real_dir: Path) -> None:
    """One start for all: greedy texts, log-probabilities of its samples, and of scoring."""
    pytest.importorskip("vllm", reason="the vllm engine is not installed")
    vllm = real_subject("vllm", real_dir)
    try:
        items = [vllm.item(p, temperature=0.0, max_tokens=10) for p in vllm.prompts]
        greedy = [o.text for o in vllm.ask(*items)]
        samples = vllm.ask(*(vllm.item(p, max_tokens=8) for p in vllm.prompts[:2]))
        probes = [
            vllm.probe(p, o.token_ids) for p, o in zip(vllm.prompts[:2], samples, strict=True)
        ]
        scored = vllm.ask(*probes)
    finally:
        vllm.pool.close()
    theirs = [real.item(p, temperature=0.0, max_tokens=10) for p in real.prompts]
    assert greedy == [o.text for o in real.ask(*theirs)]
    again = real.ask(*(real.probe(i.prefix_ids, i.target_ids or ()) for i in probes))
    for drawn, mine, other in zip(samples, scored, again, strict=True):
        assert mine.token_logprobs == pytest.approx(drawn.token_logprobs, abs=2e-3)
        assert mine.token_logprobs == pytest.approx(other.token_logprobs, abs=5e-3)
