"""The folder: whole or made again, its tokenizer and template those that were released."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import real_model
from tests.contract.conftest import Subject
from tracelab.core.errors import ConfigError
from tracelab.core.trace import Turn

pytestmark = pytest.mark.real

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture
def copy(real_dir: Path, tmp_path: Path) -> Path:
    """The folder again; the weights, which no test writes to, are not copied."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in real_dir.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file)
        else:
            shutil.copy(file, folder)
    return folder


def test_a_whole_folder_is_taken_as_it_is(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_model, "_write", None)
    assert real_model.real_model(copy) == copy


@pytest.mark.parametrize("damage", ["changed", "missing", "of another recipe"])
def test_a_folder_that_is_not_whole_is_made_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(real_model, "_write", lambda source, made: (made / "new").touch())
    if damage == "changed":
        (copy / "tokenizer.json").write_text("{}")
    elif damage == "missing":
        (copy / "config.json").unlink()
    else:
        manifest = copy / real_model.MANIFEST
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "recipe": 0}))
    real_model.real_model(copy)
    assert [p.name for p in copy.iterdir()] == ["new"]
    assert [p.name for p in copy.parent.iterdir()] == ["model"]


def test_what_it_did_not_make_is_not_replaced(tmp_path: Path, real_dir: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        real_model.real_model(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_dir: Path
) -> None:
    def full(source: Path, made: Path) -> None:
        (made / "half").touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(real_model, "_write", full)
    with pytest.raises(OSError, match="full"):
        real_model.real_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_holds_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_dir: Path
) -> None:
    monkeypatch.setattr(real_model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ConfigError, match="is not the file that was tested"):
        real_model.real_model(tmp_path / "model")


def test_the_command_prints_the_folder(real_dir: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.real_model", str(real_dir)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout == f"{real_dir}\n"


def test_the_weights_are_those_of_the_model_that_was_released(real_dir: Path) -> None:
    weights = load_file(real_dir / "model.safetensors")
    assert sum(w.numel() for w in weights.values()) == 134_515_008
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert all(torch.isfinite(w).all() for w in weights.values())


def test_the_chat_template_is_exact(real: Subject) -> None:
    """Token for token what the released tokenizer makes: every digit is one, marks are special."""
    ids = real.tokenizer.render([Turn("user", "What is 12+7?")], "chat")
    assert ids == (
        *(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411),
        *(407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 216, 33, 34, 27, 39, 47, 2, 198),
        *(1, 520, 9531, 198),
    )
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."},
             {"role": "user", "content": "Bye"}]  # fmt: skip
    assert real.tokenizer.chat_text(turns, "chat") == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("text", ["naïve café, 3.14!", "don't\n\n\tstop", "漢字 and 🙂 emoji", " "])
def test_every_text_round_trips(real: Subject, text: str) -> None:
    assert real.tokenizer.decode(real.tokenizer.encode_text(text)) == text


def test_it_knows_what_the_released_model_knows(real: Subject) -> None:
    [said] = real.ask(real.item(real.prompts[0], temperature=0.0, max_tokens=12))
    assert said.text == "The capital of France is Paris."
    assert said.finish_reason == "stop"
