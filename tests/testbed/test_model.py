"""The shipped model: loads anywhere, round-trips its tokens, reasons as its world does."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from benchmarks.testbed import tokenizer as testbed_tokenizer
from benchmarks.testbed.figures import reasoning_figures
from tracelab.testbed import MODEL_DIR, problems
from tracelab.testbed.agent_labels import play
from tracelab.testbed.agent_world import MarketEnvironment, tasks
from tracelab.testbed.world import answer_of, is_well_formed, label, write

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").exists(), reason="the model is not trained yet"
)
END = 2


@pytest.fixture(scope="module")
def tok():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()


def generate(model: PreTrainedModel, tok, asked: list, **options: object) -> list[str]:
    """Responses of the model, cut at the end mark."""
    texts = [
        tok.apply_chat_template(p.messages, tokenize=False, add_generation_prompt=True)
        for p in asked
    ]
    batch = tok(texts, return_tensors="pt", padding=True, padding_side="left")
    batch.pop("token_type_ids", None)
    out = model.generate(**batch, max_new_tokens=200, **options)
    rows = out[:, batch["input_ids"].shape[1] :].tolist()
    return [tok.decode(r[: r.index(END)] if END in r else r) for r in rows]


def test_it_is_small_and_loads_in_float32(model: PreTrainedModel) -> None:
    size = sum(f.stat().st_size for f in MODEL_DIR.iterdir() if f.suffix == ".safetensors")
    assert size <= 4_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert type(model).__name__ == "Qwen3ForCausalLM"


def test_finished_turns_render_to_what_was_generated(tok) -> None:
    for asked in problems(30):
        text = write(asked, random.Random(asked.problem_id)).text
        prompt = tok.apply_chat_template(asked.messages, add_generation_prompt=True)["input_ids"]
        reply = {"role": "assistant", "content": f"<think>\n{text}"}
        whole = tok.apply_chat_template([*asked.messages, reply])["input_ids"]
        assert whole == prompt + tok.encode(text) + [END] + tok.encode("\n")
        assert tok.decode(tok.encode(text), skip_special_tokens=True) == text


def test_sentences_start_at_tokens(tok) -> None:
    """Cutting a response before a sentence never splits a token."""
    for asked in problems(30):
        written = write(asked, random.Random(0))
        starts = {
            start for start, _ in tok(written.text, return_offsets_mapping=True)["offset_mapping"]
        }
        assert {s.start for s in written.sentences} <= starts


def test_the_python_renderer_is_the_template(tok) -> None:
    for asked in tasks(10):
        env = MarketEnvironment()
        env.restore(asked, play(asked, random.Random(1)))
        for last in (False, True):
            template = tok.apply_chat_template(
                env.messages, tokenize=False, add_generation_prompt=last
            )
            assert template == testbed_tokenizer.render(env.messages, last)


def test_structured_tool_calls_render_like_written_ones(tok) -> None:
    call = {"type": "function", "function": {"name": "lookup", "arguments": {"subject": "Kale"}}}
    thought = "<think>\nI need Kale.\n</think>\n\n"
    structured = [{"role": "assistant", "content": thought, "tool_calls": [call]}]
    plain = [{"role": "assistant", "content": f"{thought}<tool_call>lookup Kale</tool_call>"}]
    render = [tok.apply_chat_template(m, tokenize=False) for m in (structured, plain)]
    assert render[0] == render[1]


@pytest.mark.parametrize("text", ["zażółć  gęś\n\n\n x_y 123", "", "  ", "<think>a</think>", "100"])
def test_any_text_round_trips(tok, text: str) -> None:
    assert tok.decode(tok.encode(text)) == text


def test_the_tokenizer_is_reproducible() -> None:
    built = testbed_tokenizer.build().to_str(pretty=False)
    saved = testbed_tokenizer.Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    assert saved.to_str(pretty=False) == built


def test_greedy_answers_are_well_formed_and_repeat(model: PreTrainedModel, tok) -> None:
    asked = problems(40, seed=1, missing=False, hinted=False)
    first = generate(model, tok, asked, do_sample=False)
    assert first == generate(model, tok, asked, do_sample=False)
    assert all(is_well_formed(label(p, r)) for p, r in zip(asked, first, strict=True))


def test_sampled_answers_are_as_planted(model: PreTrainedModel, tok) -> None:
    """Loose versions of the bars; the card has the exact ones."""
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    asked = problems(150, seed=2, hinted=False)
    said = generate(model, tok, asked, **options)
    figures = reasoning_figures(zip(asked, said, strict=True))
    assert figures["well-formed answers"].share > 0.96
    assert figures["look-ups right"].share > 0.95
    assert figures["computation right apart from slips"].share > 0.93
    assert 0.4 < figures["accuracy, complete context"].share < 0.85
    assert "unknown" in {answer_of(r) for r in said}
