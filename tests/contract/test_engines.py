"""What every engine promises, held by each of them; then the two real ones against each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from tests.contract.conftest import Subject


class TestContract:
    """One class over scripted, transformers, a completions server, a chat endpoint and vLLM."""

    def test_every_replicate_is_answered_once_and_in_its_place(self, engine: Subject) -> None:
        items = [engine.item(p, n=3, first=k) for k, p in enumerate(engine.prompts[:3])]
        found = engine.ask(*items)
        assert [(o.key, o.replicate) for o in found] == [
            (i.key, r) for i in items for r in i.replicate_range
        ]
        for o in found:
            assert o.error is None
            assert o.finish_reason == "stop"
            assert o.text == engine.tokenizer.decode(o.token_ids)
            if "score" in engine.capabilities:
                assert len(o.token_logprobs) == len(o.token_ids)

    def test_the_exact_prefix_is_continued_token_for_token(self, engine: Subject) -> None:
        """Greedy decoding from any cut of a greedy response writes the rest of it."""
        [whole] = engine.ask(engine.item(engine.prompts[0], temperature=0.0))
        engine.needs("prefix")
        cuts = engine.cuts(whole.token_ids)
        rest = engine.ask(
            *(engine.item(engine.prompts[0] + whole.token_ids[:k], temperature=0.0) for k in cuts)
        )
        for k, o in zip(cuts, rest, strict=True):
            assert o.token_ids == whole.token_ids[k:]

    def test_log_probabilities_of_samples_are_those_of_scoring(self, engine: Subject) -> None:
        engine.needs("score")
        samples = engine.ask(*(engine.item(p, n=2, max_tokens=40) for p in engine.prompts[:4]))
        prompts = {engine.item(p, max_tokens=40).key: p for p in engine.prompts}
        for o in samples:
            [scored] = engine.ask(engine.probe(prompts[o.key], o.token_ids))
            assert scored.token_logprobs == pytest.approx(o.token_logprobs, abs=2e-4)

    def test_scoring_obeys_the_chain_rule_at_every_cut(self, engine: Subject) -> None:
        """Also catches rows taken from a prefix cache that never computed them."""
        engine.needs("score")
        prompt = engine.prompts[1]
        [o] = engine.ask(engine.item(prompt))
        [whole] = engine.ask(engine.probe(prompt, o.token_ids))
        cuts = list(range(1, len(o.token_ids), 7))
        parts = engine.ask(*(engine.probe(prompt + o.token_ids[:k], o.token_ids[k:]) for k in cuts))
        for k, part in zip(cuts, parts, strict=True):
            assert part.token_logprobs == pytest.approx(whole.token_logprobs[k:], abs=2e-4)

    def test_scoring_the_same_again_is_the_same(self, engine: Subject) -> None:
        engine.needs("score")
        probes = [engine.probe(p, engine.prompts[0][:20]) for p in engine.prompts[:6]]
        first = [o.token_logprobs for o in engine.ask(*probes)]
        for _ in range(2):
            again = [o.token_logprobs for o in engine.ask(*probes)]
            for a, b in zip(first, again, strict=True):
                assert a == pytest.approx(b, abs=2e-4)

    def test_distinct_seeds_give_distinct_samples(self, engine: Subject) -> None:
        """As many distinct texts as independent sampling gives, not a few repeated ones."""
        n = 8 if engine.name in ("openai", "chat") else 64  # a request a sample takes time
        found = engine.ask(engine.item(engine.prompts[2], n=n))
        texts = Counter(o.text for o in found)
        assert len(texts) > 3
        engine.needs("score")
        p = np.array([np.exp(next(o.logprob for o in found if o.text == t)) for t in texts])
        expected = np.sum(1 - (1 - p) ** n)
        assert len(texts) >= 0.6 * expected

    def test_asking_in_parts_gives_the_same_samples(self, engine: Subject) -> None:
        prompt = engine.prompts[3]
        whole, *parts = (engine.item(prompt, first=a, n=n, max_tokens=40)
                         for a, n in ((0, 5), (0, 2), (2, 3)))  # fmt: skip
        found = [[o.text for o in engine.ask(*items)] for items in ([whole], parts)]
        assert found[0] == found[1]

    def test_samples_follow_the_distribution_they_report(self, engine: Subject) -> None:
        """Frequencies of the first sentence's first tokens against exact probabilities."""
        engine.needs("score")
        if engine.name == "openai":
            pytest.skip("a server's samples are those of the engine behind it")
        prompt = engine.prompts[4]
        n = 400
        found = engine.ask(engine.item(prompt, n=n, max_tokens=1))
        counts = Counter(o.token_ids[0] for o in found)
        p = {o.token_ids[0]: float(np.exp(o.token_logprobs[0])) for o in found}
        kept = [t for t in p if p[t] * n >= 5]
        seen = [counts[t] for t in kept]
        want = [p[t] * n for t in kept]
        rest = n - sum(want)
        if rest > 1:
            seen, want = [*seen, n - sum(seen)], [*want, rest]
        if len(seen) > 1:
            assert chisquare(seen, np.array(want) * sum(seen) / sum(want)).pvalue > 1e-4

    def test_a_stop_string_ends_the_text_before_it(self, engine: Subject) -> None:
        [whole] = engine.ask(engine.item(engine.prompts[5], temperature=0.0))
        word = whole.text.split()[3]
        [cut] = engine.ask(engine.item(engine.prompts[5], temperature=0.0, stop=(word,)))
        assert cut.finish_reason == "stop"
        assert cut.text == whole.text[: whole.text.index(word)]

    def test_the_token_limit_is_exact(self, engine: Subject) -> None:
        [o] = engine.ask(engine.item(engine.prompts[6], max_tokens=4))
        assert o.finish_reason == "length"
        if "chat" not in engine.capabilities:  # its tokens are its own
            assert len(o.token_ids) == 4

    def test_the_context_limit_ends_a_continuation(self, engine: Subject) -> None:
        if "chat" in engine.capabilities:
            pytest.skip("an endpoint refuses what does not fit")
        filler = engine.prompts[0] * (engine.context // len(engine.prompts[0]) + 1)
        prefix = (*filler[: engine.context - 3 - len(engine.prompts[0])], *engine.prompts[0])
        [o] = engine.ask(engine.item(prefix, max_tokens=100))
        assert o.error is None
        assert len(o.token_ids) <= 3

    def test_an_overlong_prompt_is_an_error_observation(self, engine: Subject) -> None:
        long = engine.prompts[0] * (2 * engine.context // len(engine.prompts[0]) + 1)
        probes = [engine.probe(long, [1])] if "score" in engine.capabilities else []
        found = engine.ask(engine.item(engine.prompts[0], n=2), engine.item(long, n=3), *probes)
        good, bad = found[:2], found[2:]
        assert all(o.error is None for o in good)
        assert len(bad) == 3 + len(probes)
        for o in bad:
            assert o.finish_reason == "error"
            assert o.error.startswith("overlong: ")
            assert str(engine.context) in o.error
            assert o.token_ids == ()

    def test_errors_do_not_spread(self, engine: Subject) -> None:
        """Right after a refused item the engine answers as before."""
        [before] = engine.ask(engine.item(engine.prompts[7], temperature=0.0))
        engine.ask(engine.item(engine.prompts[7] * 50))
        [after] = engine.ask(engine.item(engine.prompts[7], temperature=0.0))
        assert before.token_ids == after.token_ids


@pytest.mark.engine
class TestAgreement:
    """vLLM and transformers on the bundled model in float32."""

    def test_greedy_is_the_same(self, vllm_subject: Subject, transformers_subject: Subject) -> None:
        ask = [
            [s.item(p, temperature=0.0) for p in s.prompts]
            for s in (vllm_subject, transformers_subject)
        ]
        a = vllm_subject.ask(*ask[0])
        b = transformers_subject.ask(*ask[1])
        assert [o.text for o in a] == [o.text for o in b]

    def test_log_probabilities_agree(
        self, vllm_subject: Subject, transformers_subject: Subject
    ) -> None:
        samples = vllm_subject.ask(*(vllm_subject.item(p) for p in vllm_subject.prompts[:8]))
        for prompt, o in zip(vllm_subject.prompts, samples, strict=False):
            [theirs] = transformers_subject.ask(transformers_subject.probe(prompt, o.token_ids))
            assert theirs.token_logprobs == pytest.approx(o.token_logprobs, abs=5e-4)

    def test_tempered_nucleus_sampling_agrees(
        self, vllm_subject: Subject, transformers_subject: Subject
    ) -> None:
        """Processed log-probabilities: after temperature 0.6 and top-p 0.9, in both engines."""
        how = {"temperature": 0.6, "top_p": 0.9, "max_tokens": 12, "n": 24}
        prompt = vllm_subject.prompts[9]
        seen: dict[tuple[int, ...], float] = {}
        for subject in (vllm_subject, transformers_subject):
            for o in subject.ask(subject.item(prompt, **how)):
                for k, logprob in enumerate(o.token_logprobs):
                    at = o.token_ids[: k + 1]
                    assert seen.setdefault(at, logprob) == pytest.approx(logprob, abs=5e-4)

    def test_the_prefix_cache_is_used(self, vllm_subject: Subject) -> None:
        before = vllm_subject.pool.counters()
        vllm_subject.ask(vllm_subject.item(vllm_subject.prompts[10], n=32, max_tokens=2))
        after = vllm_subject.pool.counters()
        assert after.cached_tokens - before.cached_tokens > 20 * 32
