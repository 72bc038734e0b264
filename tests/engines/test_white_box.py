"""Attention and suppression against slow direct computation, and against planted causes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.gemma2 import Gemma2Config
from transformers.models.llama import LlamaConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

from tracelab.core.errors import EngineError
from tracelab.core.item import Call, Observation
from tracelab.core.look import (
    AttentionMaps,
    SpanAttention,
    Suppressed,
    attention_call,
    spans_call,
    suppression_call,
)
from tracelab.core.trace import TokenizedTrace, tokenized_units
from tracelab.core.unit import Unit
from tracelab.engines.base import EngineSpec
from tracelab.engines.transformers import white_box
from tracelab.engines.transformers.engine import TransformersEngine
from tracelab.engines.transformers.probe import Suppression, probing
from tracelab.run.config import parse_config
from tracelab.run.wiring import wire
from tracelab.sources.testbed import question, roles
from tracelab.studies.anchors import suppress
from tracelab.testbed import MODEL_DIR, problems

TINY = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 97, "initializer_range": 0.5,
    "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
SLIDING = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**TINY),
    "qwen2": lambda: Qwen2Config(**TINY),
    "qwen3": lambda: Qwen3Config(**TINY),
    "qwen2-sliding": lambda: Qwen2Config(**TINY, **SLIDING),
}
SMALL = 1 << 14
"""A memory bound that cuts every computation here into several blocks."""
RANGES = [(6, 9), (9, 9), (9, 17), (17, 18), (18, 30), (30, 41)]
LENGTH = 48


@pytest.fixture(scope="module", params=["bundled", *CONFIGS])
def model(request: pytest.FixtureRequest) -> Any:
    if request.param == "bundled":
        return AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[request.param]()).eval()


@pytest.fixture(scope="module")
def ids(model: Any) -> list[int]:
    rng = np.random.default_rng(1)
    return [int(t) for t in rng.integers(3, model.config.vocab_size, LENGTH)]


@contextmanager
def eager(model: Any) -> Iterator[None]:
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


def direct_logits(model: Any, ids: list[int], hide: tuple[int, int] | None) -> torch.Tensor:
    """Float64 log-probabilities [tokens, vocabulary] with an explicit 4-D mask in each layer."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads

    def masked(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = torch.zeros(1, heads, len(ids), len(ids))
        window = getattr(module, "sliding_window", None) or len(ids)
        for t in range(len(ids)):
            mask[:, :, t, t + 1 :] = float("-inf")
            mask[:, :, t, : max(t - window + 1, 0)] = float("-inf")
            if hide is not None and t >= hide[1]:
                mask[:, :, t, hide[0] : hide[1]] = float("-inf")
        return args, {**kwargs, "attention_mask": mask}

    attention = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "scaling")]
    assert len(attention) == layers
    handles = [m.register_forward_pre_hook(masked, with_kwargs=True) for m in attention]
    try:
        with eager(model), torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    finally:
        for handle in handles:
            handle.remove()


def slow(a: np.ndarray, distance: int) -> list[float]:
    """The definition, entry by entry."""
    found = []
    for j in range(len(a)):
        column = [a[i, j] for i in range(j + distance, len(a))]
        found.append(np.mean(column) if column else np.nan)
    return found


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_vertical_scores_are_their_definition(n: int, distance: int, seed: int) -> None:
    a = np.random.default_rng(seed).integers(0, 5, (2, n, n)) / 7
    got = white_box.vertical_scores(a, min_distance=distance)
    want = np.array([slow(m, distance) for m in a]).reshape(2, n)
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert np.isnan(got[:, max(n - distance, 0) :]).all()  # never 0


def test_a_unit_without_tokens_is_neither_row_nor_column() -> None:
    a = np.tril(np.full((6, 6), 0.2))
    a[3] = a[:, 3] = np.nan
    a[5, 0] = 0.6
    got = white_box.vertical_scores(a, min_distance=2)
    assert got[0] == pytest.approx((0.2 + 0.2 + 0.6) / 3)
    assert np.isnan(got[3])


def test_no_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        white_box.vertical_scores(np.eye(3), min_distance=0)


def test_attention_agrees_with_eager_outputs(model: Any, ids: list[int]) -> None:
    found: dict[int, np.ndarray] = {}
    white_box.sentence_attention(model, ids, RANGES, found.__setitem__, block_bytes=SMALL)
    with eager(model), torch.no_grad():
        weights = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
    for layer, w in enumerate(weights):
        for i, (a, b) in enumerate(RANGES):
            for j, (c, d) in enumerate(RANGES):
                got = found[layer][:, i, j]
                if j > i or a == b or c == d:
                    assert np.isnan(got).all()
                else:
                    want = w[0, :, a:b, c:d].mean((1, 2)).numpy()
                    np.testing.assert_allclose(got, want, atol=1e-5)
    assert len(found) == len(weights)


def test_span_attention_agrees_with_eager_outputs(model: Any, ids: list[int]) -> None:
    spans, targets = [(0, 6), (6, 6), (9, 17), (30, 36)], [(18, 30), (30, 31), (41, 41)]
    found = white_box.span_attention(model, ids, spans, targets, block_bytes=SMALL)
    with eager(model), torch.no_grad():
        weights = torch.cat(model(input_ids=torch.tensor([ids]), output_attentions=True).attentions)
    weights = weights.flatten(0, 1)  # heads of all layers in turn
    assert found.shape == (len(targets), len(weights), len(spans))
    for i, (a, b) in enumerate(targets):
        for j, (c, d) in enumerate(spans):
            if a == b or c == d:
                assert np.isnan(found[i, :, j]).all()
            else:
                # The row that predicts a token is the one before it.
                want = weights[:, a - 1 : b - 1, c:d].sum(2).mean(1).numpy()
                np.testing.assert_allclose(found[i, :, j], want, atol=1e-5)
    assert (found[0, :, 3] == 0).all()  # what comes later cannot be seen


def test_suppression_agrees_with_one_masked_pass_a_variant(model: Any, ids: list[int]) -> None:
    ranges = [r for r in RANGES if r[1] > r[0]][::-1]
    kl, drop = white_box.suppressed_rows(model, ids, ranges, variants=2, block_bytes=SMALL)
    base = direct_logits(model, ids, None)
    largest = 0.0
    for k, hide in enumerate(ranges):
        masked = direct_logits(model, ids, hide)
        assert np.isnan(kl[k, : hide[1] + 1]).all() and np.isnan(drop[k, : hide[1] + 1]).all()
        for t in range(hide[1] + 1, len(ids)):
            want = float((base[t - 1].exp() * (base[t - 1] - masked[t - 1])).sum())
            assert kl[k, t] == pytest.approx(want, abs=1e-4, rel=1e-4)
            assert kl[k, t] >= -1e-12
            moved = float(base[t - 1, ids[t]] - masked[t - 1, ids[t]])
            assert drop[k, t] == pytest.approx(moved, abs=1e-4, rel=1e-4)
            largest = max(largest, want)
    assert largest > 0.01  # there was something to agree on


def test_blocks_and_groups_change_nothing(model: Any, ids: list[int]) -> None:
    ranges = [r for r in RANGES if r[1] > r[0]]
    a = white_box.suppressed_rows(model, ids, ranges, variants=2, block_bytes=SMALL)
    b = white_box.suppressed_rows(model, ids, ranges)
    c = white_box.suppressed_rows(model, ids, ranges, cache_bytes=1)
    np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(c, b, atol=2e-5, rtol=1e-4)


def test_nothing_before_the_end_of_the_hidden_range_changes(model: Any, ids: list[int]) -> None:
    tokens = torch.tensor([ids, ids])
    with torch.no_grad(), probing(model, Suppression([None, (9, 17)])):
        plain, hidden = model(input_ids=tokens).logits
    torch.testing.assert_close(hidden[:17], plain[:17], atol=1e-5, rtol=1e-5)
    assert (hidden[17] - plain[17]).abs().max() > 1e-4


def test_the_model_is_left_as_it_was(model: Any, ids: list[int]) -> None:
    before = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), probing(model, Suppression([None])):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == before


def test_scores_outside_the_interface_are_refused(ids: list[int]) -> None:
    config = Gemma2Config(**{**TINY, "vocab_size": 640}, attn_logit_softcapping=5.0)
    capped = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(EngineError, match="softcap"):
        white_box.suppressed_rows(capped, ids, [(3, 5)])


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    config = {"name": "w", "source": "testbed", "model": "testbed",
              "engine": {"kind": "transformers", "dtype": "float32", "device": "cpu"}}  # fmt: skip
    return TransformersEngine(wire(parse_config(config, "w")).spec)


@pytest.fixture(scope="module")
def traces(engine: TransformersEngine) -> list[tuple[TokenizedTrace, list[Unit]]]:
    """Sampled responses of the bundled model, with the planted role of each sentence."""
    tok = AutoTokenizer.from_pretrained(MODEL_DIR)
    asked = problems(16, seed=11, missing=False, hinted=False)
    prompts = [engine._tokenizer.render(question(p).turns, "chat") for p in asked]
    batch = tok.pad({"input_ids": [list(p) for p in prompts]}, padding_side="left",
                    return_tensors="pt")  # fmt: skip
    torch.manual_seed(0)
    out = engine._model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
        max_new_tokens=160, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
    )[:, batch["input_ids"].shape[1] :].tolist()  # fmt: skip
    made = []
    for p, row in zip(asked, out, strict=True):
        row = row[: row.index(2)] if 2 in row else row
        tokens = engine._tokenizer.tokenize(
            question(p).respond(engine._tokenizer.decode(row), model="testbed", token_ids=row)
        )
        found = [r for r in roles(p, tokens.trace.response) if r[2] != "answer"]
        made.append((tokens, tokenized_units(tokens, [r[:2] for r in found],
                                             roles=[r[2] for r in found])))  # fmt: skip
    return made


def look(engine: TransformersEngine, call: Call) -> Observation:
    [o] = asyncio.run(engine.look([call]))
    assert (o.key, o.replicate) == (call.key, 0)
    return o


def ranges_of(units: list[Unit]) -> list[tuple[int, int]]:
    return [(u.token_start, u.token_end) for u in units]


def attention(engine: TransformersEngine, tokens: TokenizedTrace, units: list[Unit], **more: int):
    call = attention_call(
        engine.spec.model, tokens.prompt_ids, tokens.response_ids, ranges_of(units),
        **{"min_distance": 4, **more},
    )  # fmt: skip
    return AttentionMaps.of(look(engine, call))


def suppression(engine: TransformersEngine, tokens: TokenizedTrace, units: list[Unit]):
    ranges = ranges_of(units)
    call = suppression_call(engine.spec.model, tokens.prompt_ids, tokens.response_ids, ranges)
    return Suppressed.of(look(engine, call))


def test_the_engine_reports_attention_of_a_trace(engine: TransformersEngine, traces: Any) -> None:
    tokens, units = traces[0]
    seen = attention(engine, tokens, units, min_distance=2)
    assert seen.error is None and seen.vertical.shape == (4, 4, len(units))
    with eager(engine._model), torch.no_grad():
        ids = torch.tensor([tokens.prompt_ids + tokens.response_ids])
        weights = engine._model(input_ids=ids, output_attentions=True).attentions
    at = len(tokens.prompt_ids)
    blocks = np.full((4, 4, len(units), len(units)), np.nan)
    for i, u in enumerate(units):
        for j, v in enumerate(units[: i + 1]):
            rows = slice(at + u.token_start, at + u.token_end)
            columns = slice(at + v.token_start, at + v.token_end)
            for layer in range(4):
                blocks[layer, :, i, j] = weights[layer][0, :, rows, columns].mean((1, 2))
    np.testing.assert_allclose(seen.mean, blocks.mean((0, 1)), atol=1e-6)
    want = white_box.vertical_scores(blocks, min_distance=2)
    np.testing.assert_allclose(seen.vertical, want, atol=1e-6)


def test_each_token_is_credited_to_its_own_sentence(
    engine: TransformersEngine, traces: Any
) -> None:
    """Links, the answer's KL and its drop against one pass a variant; a shift by one fails."""
    tokens, units = traces[1]
    seen = suppression(engine, tokens, units)
    ids, at = [*tokens.prompt_ids, *tokens.response_ids], len(tokens.prompt_ids)
    base = direct_logits(engine._model, ids, None)
    effect = np.full((len(units), len(ids)), np.nan)
    drop = effect.copy()
    for u in units:
        hide = (at + u.token_start, at + u.token_end)
        masked = direct_logits(engine._model, ids, hide)
        for p in range(hide[1] + 1, len(ids)):  # token p is predicted at p - 1
            effect[u.index, p] = (base[p - 1].exp() * (base[p - 1] - masked[p - 1])).sum()
            drop[u.index, p] = base[p - 1, ids[p]] - masked[p - 1, ids[p]]
    shifted = 0.0
    found = [x for x in suppress.links("t", seen, units) if x.metric == "suppression_kl"]
    assert len(found) == len(units) * (len(units) - 1) // 2
    for link in found:
        j = units[link.to_index]
        lo, hi = at + j.token_start, at + j.token_end
        assert link.value == pytest.approx(np.nanmean(effect[link.from_index, lo:hi]), abs=1e-4)
        late = np.nanmean(effect[link.from_index, lo + 1 : hi + 1])
        shifted = max(shifted, abs(link.value - late))
    assert shifted > 0.1
    answer = suppress.answer_range(tokens, units)
    scores = {(s.unit_index, s.metric): s for s in suppress.estimate("t", seen, units, answer)}
    for u in units:
        window = slice(at + answer[0], None)
        kl, lost = (scores[u.index, m].value for m in ("answer_kl", "answer_logprob_drop"))
        assert kl == pytest.approx(np.nanmean(effect[u.index, window]), abs=1e-4)
        assert lost == pytest.approx(np.nansum(drop[u.index, window]), abs=1e-4)


def area(high: list[float], low: list[float]) -> float:
    """Chance that a planted sentence scores above a filler (area under the ROC curve)."""
    a, b = np.array(high)[:, None], np.array(low)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def test_sentences_the_answer_depends_on_stand_out(engine: TransformersEngine, traces: Any) -> None:
    """Hiding a look-up, a sum or the change matters where the bill is worked out; filler does not.

    Counted over well-formed responses that add both prices and use the change, in which the bill
    depends on every one of these. A filler right after a look-up can hold a copy of it in its
    hidden states, so the total over all later tokens separates a little less sharply.
    """
    later: dict[bool, list[float]] = {True: [], False: []}
    working: dict[bool, list[float]] = {True: [], False: []}
    used = 0
    for tokens, units in traces:
        kinds = [u.role for u in units]
        if {"garbled", "compare", "lookup_wrong"} & set(kinds) or "use_change" not in kinds:
            continue
        used += 1
        seen = suppression(engine, tokens, units)
        scores = suppress.estimate("t", seen, units, suppress.answer_range(tokens, units))
        total = {s.unit_index: s.value for s in scores if s.metric == "later_kl"}
        found = [x for x in suppress.links("t", seen, units) if x.metric == "suppression_kl"]
        for u in units:
            if u.role in ("lookup", "sum", "slip", "shop_change", "filler"):
                later[u.role != "filler"].append(total[u.index])
                working[u.role != "filler"].append(
                    sum(
                        x.value * x.n
                        for x in found
                        if x.from_index == u.index
                        and x.n
                        and kinds[x.to_index] in ("sum", "slip", "repair", "conclude")
                    )
                )
    n = used, len(later[True]), len(later[False])
    assert used >= 8 and len(later[False]) >= 8, n
    assert area(working[True], working[False]) > 0.95, (working, n)
    assert area(later[True], later[False]) > 0.88, (later, n)
    assert np.median(working[True]) > 1 > 100 * np.median(working[False])


def test_spans_are_looked_at_like_everything_else(engine: TransformersEngine, traces: Any) -> None:
    tokens, _ = traces[0]
    ids = [*tokens.prompt_ids, *tokens.response_ids]
    spans, targets = [(0, 6), (6, 6), (9, 17)], [(18, 30)]
    seen = SpanAttention.of(look(engine, spans_call(engine.spec.model, ids, spans, targets)))
    direct = white_box.span_attention(engine._model, ids, spans, targets)
    assert seen.values.dtype == np.float32
    np.testing.assert_array_equal(seen.values, direct)


def test_units_without_tokens_are_no_sources(engine: TransformersEngine, traces: Any) -> None:
    tokens, units = traces[2]
    whole = suppression(engine, tokens, units)
    at = units[1].token_start
    empty = replace(units[1], token_end=at)
    part = suppression(engine, tokens, [units[0], empty, units[3]])
    assert part.sources == (0, 2)
    np.testing.assert_allclose(part.kl, whole.kl[[0, 3]], atol=1e-5)
    assert suppression(engine, tokens, []).kl.shape == (0, len(tokens.response_ids))
    assert attention(engine, tokens, []).vertical.shape == (4, 4, 0)


def test_what_cannot_be_done_is_an_error_and_does_not_stop_the_others(
    engine: TransformersEngine, traces: Any
) -> None:
    tokens, units = traces[0]
    spec = engine.spec
    engine.spec = EngineSpec(spec.kind, spec.path, spec.model, 20, spec.options)
    try:
        for error in (
            attention(engine, tokens, units).error, suppression(engine, tokens, units).error
        ):  # fmt: skip
            assert error is not None and error.startswith("overlong: the trace has ")
    finally:
        engine.spec = spec
    unknown = Call("look", {**_spans(engine).content, "what": "its dreams"})
    wrong = Call("look", {**_spans(engine).content, "spans": "none"})
    bad, worse, good = asyncio.run(engine.look([unknown, wrong, _spans(engine)]))
    assert bad.error is not None and "'its dreams'" in bad.error
    assert worse.error is not None and worse.error.startswith("engine: ")
    assert good.error is None
    engine._model.config.num_hidden_layers += 1  # a layer that never comes by
    try:
        error = suppression(engine, tokens, units).error
        assert error is not None and "only 4 of the model's 5 layers" in error
    finally:
        engine._model.config.num_hidden_layers -= 1


def _spans(engine: TransformersEngine) -> Call:
    return spans_call(engine.spec.model, list(range(3, 20)), [(0, 2)], [(5, 9)])
