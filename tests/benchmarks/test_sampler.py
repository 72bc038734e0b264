"""The sampler draws from the model's distribution: held to transformers' log-probabilities."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from benchmarks.testbed.measure import prompt_of
from benchmarks.testbed.net import load_net
from benchmarks.testbed.sampler import END, _Rows, places, tally, tally_guess
from tracelab.testbed import MODEL_DIR, problems
from tracelab.testbed.world import write

needs_model = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").exists(), reason="the model is not trained yet"
)


@pytest.fixture(scope="module")
def net() -> Iterator[Qwen3ForCausalLM]:
    """The model on one thread: matrices are small, and threads that wait for one another spin."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_net(MODEL_DIR)
    torch.set_num_threads(threads)


def prefix_at(role: str) -> list[int]:
    """A prompt and a response up to the first sentence with a role."""
    tok = AutoTokenizer.from_pretrained(MODEL_DIR)
    asked = problems(1, seed=3, missing=False, hinted=False)[0]
    seed = 0
    while True:
        written = write(asked, random.Random(seed))
        found = [s for s in written.sentences if s.role == role]
        if found:
            return tok.encode(prompt_of(asked) + written.text[: found[0].start])
        seed += 1


@needs_model
@pytest.mark.parametrize(("role", "length"), [("plan_right", 12), ("lookup", 20), ("sum", 200)])
def test_frequencies_are_the_models_probabilities(
    net: Qwen3ForCausalLM, role: str, length: int
) -> None:
    """Chi-square of continuations, cut to `length` tokens, against transformers."""
    n, prefix = 2000, prefix_at(role)
    found = tally(net, prefix, n, np.random.default_rng(1), length)
    assert sum(count for _, count in found) == n
    assert len({tuple(ids) for ids, _ in found}) == len(found)
    found = [(ids, count) for ids, count in found if count > 1]
    theirs = AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    longest = max(len(ids) for ids, _ in found)
    batch = torch.tensor([prefix + ids + [0] * (longest - len(ids)) for ids, _ in found])
    with torch.no_grad():
        logp = theirs(batch).logits[:, len(prefix) - 1 : -1].double().log_softmax(-1)
    chosen = logp.gather(2, batch[:, len(prefix) :, None])[..., 0].numpy()
    p = np.array([np.exp(row[: len(ids)].sum()) for row, (ids, _) in zip(chosen, found)])  # noqa: B905
    observed = np.array([count for _, count in found])
    common = n * p >= 8
    assert p[common].sum() > 0.3
    # What is judged depends on its probability alone: 8 expected are hardly ever drawn once.
    seen = np.r_[observed[common], n - observed[common].sum()]
    expected = np.r_[n * p[common], n * (1 - p[common].sum())]
    keep = expected > 1e-6
    assert (
        chisquare(seen[keep], expected[keep] * seen[keep].sum() / expected[keep].sum()).pvalue
        > 1e-3
    )


@needs_model
def test_a_rows_pass_is_the_models(net: Qwen3ForCausalLM) -> None:
    """Logits of three rows that part, token by token, against whole passes."""
    prefix = prefix_at("lookup")
    draws = np.random.default_rng(0).integers(70, 400, (3, 5))
    rows = _Rows(net, prefix)
    with torch.no_grad():
        first = net(torch.tensor([prefix])).logits[:, -1]
        whole = net(torch.tensor([[*prefix, *own] for own in draws.tolist()])).logits
    torch.testing.assert_close(rows.logits, first, atol=1e-3, rtol=1e-4)
    source = np.zeros(3, dtype=np.int64)
    for t in range(5):
        rows.move(source, np.arange(3), t)
        found = rows.step(torch.from_numpy(draws[:, t]), t)
        torch.testing.assert_close(found, whole[:, len(prefix) + t], atol=1e-3, rtol=1e-4)
        source = np.arange(3)


@needs_model
def test_tallies_repeat_and_stop(net: Qwen3ForCausalLM) -> None:
    prefix = prefix_at("lookup")
    first, again, other = (
        tally(net, prefix, 300, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other
    assert all(ids.count(END) == (ids[-1] == END) for ids, _ in first)
    assert {len(ids) for ids, _ in tally(net, prefix, 50, np.random.default_rng(0), 3)} == {3}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_children_get_every_place_once_and_first_ones_stay(parents: list[int]) -> None:
    parent = np.sort(np.array(parents))
    source, target = places(parent)
    assert sorted(target) == list(range(len(parent)))
    assert (source == parent).all()
    assert set(parent[parent < len(parent)]) == set(target[source == target])


@needs_model
def test_a_guess_changes_no_frequency(net: Qwen3ForCausalLM) -> None:
    """Chi-square between samples with and without a guess, be it a good or a bad one."""
    n, prefix = 3000, prefix_at("use_change")
    plain = {tuple(ids): count for ids, count in tally(net, prefix, n, np.random.default_rng(2))}
    likely = max(plain, key=lambda ids: plain[ids])
    for guess in (likely, (*likely[:3], 40, END)):
        with_guess: Counter[tuple[int, ...]] = Counter()
        for ids, count in tally_guess(net, prefix, guess, n, np.random.default_rng(3)):
            with_guess[tuple(ids)] += count
        assert with_guess.total() == n
        common = [ids for ids in plain if plain[ids] + with_guess[ids] >= 16]
        table = [[held[ids] for ids in common] for held in (plain, with_guess)]
        table = [[*row, n - sum(row)] for row in table]
        assert chi2_contingency(np.array(table) + 1e-9).pvalue > 1e-3
    with pytest.raises(ValueError, match="end mark"):
        tally_guess(net, prefix, likely[:-1], 1, np.random.default_rng(0))
