"""A model's folder is hostile input: its code does not run unless the config says so."""

from __future__ import annotations

import ast
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import tracelab
from tracelab.core.errors import ModelLoadError
from tracelab.engines.models import find_model
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES, build
from tracelab.engines.tokenizer import HFTokenizer
from tracelab.testbed import MODEL_DIR

CODE = """
from pathlib import Path
Path(__file__).resolve().parent.joinpath("ran").write_text("")
Path({marker!r}).write_text("")
from transformers import {base}
class Mine({base}):
    model_type = "mine"
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Appears when the model's code runs; whoever is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "marker"


def model(folder: Path, marker: Path, *, config: bool = False, tokenizer: bool = False) -> Path:
    """The bundled model, with a config or tokenizer that wants code of its own."""
    shutil.copytree(MODEL_DIR, folder)
    for wanted, file, base, maps in (
        (config, "config.json", "PreTrainedConfig",
         {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}),
        (tokenizer, "tokenizer_config.json", "PreTrainedTokenizerFast",
         {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}),
    ):  # fmt: skip
        if wanted:
            values = json.loads((folder / file).read_text()) | {"auto_map": maps}
            values |= {"model_type": "mine"} if config else {"tokenizer_class": "Mine"}
            (folder / file).write_text(json.dumps(values))
            (folder / "mine.py").write_text(CODE.format(marker=str(marker), base=base))
    return folder


@pytest.mark.slow
def test_code_of_a_model_does_not_run(tmp_path: Path, marker: Path) -> None:
    folder = model(tmp_path / "model", marker, config=True)
    config = EngineConfig(kind="transformers", device="cpu", dtype="float32")
    spec = ENGINES.named("transformers", "engine.kind").spec_of(str(folder), config)
    with pytest.raises(ModelLoadError, match="engine.trust_remote_code = true") as refused:
        build(spec)
    assert "\n" not in str(refused.value)
    assert not marker.exists() and not (folder / "ran").exists()


def test_code_of_a_tokenizer_does_not_run(tmp_path: Path, marker: Path) -> None:
    folder = model(tmp_path / "model", marker, tokenizer=True)
    with suppress(ModelLoadError):  # the library may know how to do without
        HFTokenizer(str(folder))
    assert not marker.exists()
    with suppress(ModelLoadError):
        HFTokenizer(str(folder), trust_code=True)
    assert marker.exists()


def test_trusted_code_is_part_of_the_revision(tmp_path: Path, marker: Path) -> None:
    folder = model(tmp_path / "model", marker, config=True)
    plain = find_model(str(folder), "float32").ref.revision
    trusted = find_model(str(folder), "float32", trust_code=True).ref.revision
    (folder / "mine.py").write_text("something else")
    assert find_model(str(folder), "float32").ref.revision == plain != trusted
    assert find_model(str(folder), "float32", trust_code=True).ref.revision != trusted


@pytest.mark.slow
def test_pickled_weights_are_not_executed(tmp_path: Path, marker: Path) -> None:
    folder = model(tmp_path / "model", marker)
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    torch.save({"w": Bomb()}, folder / "pytorch_model.bin")
    config = EngineConfig(kind="transformers", device="cpu", dtype="float32")
    spec = ENGINES.named("transformers", "engine.kind").spec_of(str(folder), config)
    with pytest.raises(ModelLoadError, match="transformers cannot load"):
        build(spec)
    assert not marker.exists()


def test_every_loader_of_a_library_is_told_about_code() -> None:
    """A library's default is not ours to trust, and may be to ask on the terminal."""
    loaders = {"from_pretrained", "AsyncEngineArgs", "EngineArgs", "LLM", "SentenceTransformer"}
    found = 0
    for file in Path(tracelab.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in loaders:
                found += 1
                assert "trust_remote_code" in {k.arg for k in node.keywords}, (file, node.lineno)
    assert found >= 5
