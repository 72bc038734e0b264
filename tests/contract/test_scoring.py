"""Scoring as context attribution asks for it: many prompts that share much, one target."""

from __future__ import annotations

import numpy as np
import pytest

from tests.contract.conftest import Subject
from tracelab.core.item import Item
from tracelab.engines.transformers import scoring
from tracelab.testbed import Problem, problems

RESPONSE = "We need the bill. I will add the two prices. Kale costs 4."


def without(problem: Problem, mask: np.ndarray) -> str:
    """The prompt with only the facts that a mask keeps."""
    text = problem.prompt
    for fact, kept in reversed(list(zip(problem.facts, mask, strict=True))):
        if not kept:
            text = text[: fact.start].rstrip() + text[fact.end :]
    return text


def ablations(subject: Subject, seed: int = 3) -> list[Item]:
    """Random masks and leave-one-out of two contexts, a response after each."""
    rng = np.random.default_rng(seed)
    tok = subject.tokenizer
    target = tok.encode_text(RESPONSE)
    items = []
    for problem in problems(2, seed=4, missing=False, hinted=False):
        n = len(problem.facts)
        masks = [*(rng.random((20, n)) < 0.5), *~np.eye(n, dtype=bool), np.ones(n, bool)]
        for mask in masks:
            message = {"role": "user", "content": without(problem, mask)}
            prompt = tok.encode_prompt(tok.chat_text([message], "chat"), "chat")
            items.append(subject.probe(prompt, target))
    return list({i.key: i for i in items}.values())


def one_by_one(subject: Subject, items: list[Item]) -> list[np.ndarray]:
    """Each item alone, by the plainest forward pass."""
    engine = subject.pool._engine
    return [np.array(o.token_logprobs) for i in items for o in engine._score_one(i)]


def close(found: list[np.ndarray], wanted: list[np.ndarray], tol: float = 2e-4) -> bool:
    return all(np.abs(a - b).max() < tol for a, b in zip(found, wanted, strict=True))


class TestTransformers:
    def test_batches_give_what_single_passes_give(self, transformers_subject: Subject) -> None:
        items = ablations(transformers_subject)
        found = [np.array(o.token_logprobs) for o in transformers_subject.ask(*items)]
        assert close(found, one_by_one(transformers_subject, items))

    @pytest.mark.parametrize(
        ("shared", "tokens", "values"),
        [(4, 16_384, 64 << 20), (10**9, 16_384, 64 << 20), (32, 40, 64 << 20), (32, 16_384, 900)],
        ids=["prefixes shared", "none shared", "too long for a batch", "too many output values"],
    )
    def test_the_bounds_change_no_number(
        self, transformers_subject: Subject, monkeypatch: pytest.MonkeyPatch,
        shared: int, tokens: int, values: int,
    ) -> None:  # fmt: skip
        items = ablations(transformers_subject)[:14]
        monkeypatch.setattr(scoring, "SHARED", shared)
        monkeypatch.setattr(scoring, "BATCH_TOKENS", {})
        monkeypatch.setattr(scoring, "LONGEST", tokens)
        monkeypatch.setattr(scoring, "ROW_VALUES", values)
        monkeypatch.setattr(scoring, "PIECE", 16)
        found = [np.array(o.token_logprobs) for o in transformers_subject.ask(*items)]
        assert close(found, one_by_one(transformers_subject, items))

    def test_batches_side_by_side_give_the_same_bits(
        self, transformers_subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(scoring.BATCH_TOKENS, "cpu", 300)
        model = transformers_subject.pool._engine._model
        probes = [
            scoring.ScoredPrompt(i.prefix_ids, i.target_ids or ())
            for i in ablations(transformers_subject)
        ]
        one, many = (list(scoring.score(model, probes, "cpu", 64, threads)) for threads in (1, 3))
        assert len(one) > 3 and one == many

    def test_probes_of_different_targets_share_a_batch(self, transformers_subject: Subject) -> None:
        s = transformers_subject
        ids = s.tokenizer.encode_text(RESPONSE)
        items = [s.probe(s.prompts[k] + ids[:k], ids[k:]) for k in range(1, 9)]
        found = [np.array(o.token_logprobs) for o in s.ask(*items)]
        assert close(found, one_by_one(s, items))

    def test_an_impossible_item_fails_alone(self, transformers_subject: Subject) -> None:
        s = transformers_subject
        good = ablations(s)[:3]
        bad = s.probe(s.prompts[0], (10**9,))
        found = s.ask(good[0], bad, *good[1:])
        assert [o.error is None for o in found] == [True, False, True, True]


@pytest.mark.engine
class TestVllm:
    def test_ablations_agree_with_transformers(
        self, vllm_subject: Subject, transformers_subject: Subject
    ) -> None:
        """Twice, so that the second time every prompt is in the prefix cache."""
        items = ablations(vllm_subject)
        wanted = one_by_one(transformers_subject, ablations(transformers_subject))
        before = vllm_subject.pool.counters().cached_tokens
        for _ in range(2):
            found = vllm_subject.ask(*items)
            assert close([np.array(o.token_logprobs) for o in found], wanted, 5e-4)
        assert vllm_subject.pool.counters().cached_tokens > before

    def test_one_sequence_divided_in_two_ways(self, vllm_subject: Subject) -> None:
        """Both in flight at once: neither may read rows that the other did not leave."""
        s = vllm_subject
        ids = s.tokenizer.encode_text(RESPONSE * 4)
        whole = s.probe(s.prompts[3], ids)
        cuts = [s.probe(s.prompts[3] + ids[:k], ids[k:]) for k in (1, 5, 17, 40)]
        first, *rest = s.ask(whole, *cuts)
        for k, part in zip((1, 5, 17, 40), rest, strict=True):
            assert part.token_logprobs == pytest.approx(first.token_logprobs[k:], abs=2e-4)
            assert part.prefix_tokens == len(s.prompts[3]) + k
