"""Traces placed on a model's own tokens: exact ids, exact characters, for hostile text too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tracelab.core.errors import ModelLoadError, PlanError
from tracelab.core.trace import Trace, Turn
from tracelab.engines.tokenizer import HFTokenizer
from tracelab.testbed import MODEL_DIR, problems
from tracelab.testbed.world import write


@pytest.fixture(scope="module")
def testbed() -> HFTokenizer:
    return HFTokenizer(str(MODEL_DIR))


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    """A byte-level BPE with merges, as large models have, and no chat template."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bpe")
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    corpus = ["So 4 plus 4 is 8.\n\nWait, let me recheck. No, über naïve 漢字 🙂🙂 is it."] * 20
    tok.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|end|>")
    fast.save_pretrained(folder)
    return HFTokenizer(str(folder))


def trace(text: str, ids: tuple[int, ...] | None = None, rendering: str = "raw") -> Trace:
    turns = (Turn("user", "Q: "), Turn("assistant", text, token_ids=ids))
    return Trace(turns, "t", rendering=rendering)


@settings(max_examples=60)
@given(text=st.text(max_size=80) | st.text("aé漢🙂 .\n", max_size=80))
def test_starts_are_where_the_text_is(bpe: HFTokenizer, text: str) -> None:
    """Generated ids and encoded text give the same starts, and cut the text losslessly."""
    encoded = bpe.tokenize(trace(text))
    assert bpe.decode(encoded.response_ids) == text
    generated = bpe.tokenize(trace(text, encoded.response_ids))
    assert generated.starts == encoded.starts
    assert list(encoded.starts) == sorted(encoded.starts)
    for k, start in enumerate(encoded.starts):
        # What stands before a token's start is a prefix of what the tokens before it spell.
        assert bpe.decode(encoded.response_ids[:k]).startswith(text[:start].rstrip("\ufffd"))


def test_long_text_is_placed_in_windows(bpe: HFTokenizer) -> None:
    text = "So 4 plus 4 is 8. 漢字 🙂 über. " * 60
    ids = bpe.tokenize(trace(text)).response_ids
    assert len(ids) > 300
    placed = bpe.tokenize(trace(text, ids))
    assert placed.starts == bpe.tokenize(trace(text)).starts


def test_ids_that_were_generated_are_kept_even_if_not_canonical(bpe: HFTokenizer) -> None:
    """A model may spell a word in other tokens than the tokenizer would."""
    spelled = tuple(i for c in "plus" for i in bpe.tokenize(trace(c)).response_ids)
    canonical = bpe.tokenize(trace("plus")).response_ids
    assert len(spelled) > len(canonical)
    placed = bpe.tokenize(trace("plus", spelled))
    assert placed.response_ids == spelled
    assert placed.starts == (0, 1, 2, 3)


def test_ids_that_do_not_spell_the_text_are_not_used(bpe: HFTokenizer) -> None:
    placed = bpe.tokenize(trace("plus", (5, 6, 7)))
    assert bpe.decode(placed.response_ids) == "plus"


def test_the_testbed_chat_renders_back_to_what_was_generated(testbed: HFTokenizer) -> None:
    import random

    for p in problems(10, seed=5):
        written = write(p, random.Random(1)).text
        t = Trace((Turn("user", p.prompt), Turn("assistant", written)), "t")
        tokens = testbed.tokenize(t)
        assert testbed.decode(tokens.response_ids) == written
        opened = Trace((Turn("user", p.prompt), Turn("assistant", "<think>\n" + written)), "t")
        again = testbed.tokenize(opened)
        # The template opens the reasoning itself: the tag stands once, whoever wrote it.
        assert again.prompt_ids + again.response_ids == tokens.prompt_ids + tokens.response_ids


def test_a_model_without_chat_template_says_what_to_do(bpe: HFTokenizer) -> None:
    with pytest.raises(PlanError, match='set `rendering = "raw"`'):
        bpe.tokenize(trace("x", rendering="chat"))


def test_no_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="tokenizer cannot be loaded") as e:
        HFTokenizer(str(tmp_path))
    assert "\n" not in str(e.value)


def test_a_prompt_that_spells_what_opens_every_text_gets_it_once(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(["a b"], trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet))  # fmt: skip
    opens = tok.token_to_id("<s>")
    tok.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", opens)])
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>").save_pretrained(tmp_path)
    model = HFTokenizer(str(tmp_path))
    said, bare = (model.render([Turn("user", t)], "raw") for t in ("<s>Hello", "Hello"))
    assert said == bare and said.count(opens) == 1
    ids, starts = model.place_prompt("<s>Hello", "raw")
    assert ids == said and starts[:2] == (0, 3)
    assert model.place_prompt("Hello", "raw")[1][:2] == (0, 0)


def test_the_template_is_told_what_the_config_says(testbed: HFTokenizer, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template += "{% if enable_thinking is defined and not enable_thinking %} NO{% endif %}"
    for old in folder.glob("chat_template*"):
        old.unlink()
    settings_file = folder / "tokenizer_config.json"
    held = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**held, "chat_template": template}))
    told = HFTokenizer(str(folder), template_options={"enable_thinking": False})
    chat = [{"role": "user", "content": "Q"}]
    assert told.chat_text(chat, "chat") == "Q NO"
    assert HFTokenizer(str(folder)).chat_text(chat, "chat") == "Q"
