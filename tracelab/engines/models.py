"""Finding a model and naming it: `testbed`, a directory, or a hub id.

A model's revision is a hash of its weights and configuration (or the hub's commit), so that work
done for other weights under the same path is never reused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tracelab.core.errors import ModelLoadError, one_line
from tracelab.core.item import ModelRef
from tracelab.core.outside import decode

TESTBED = "testbed"
_WHOLE_FILE_BYTES = 64 << 20
_SAMPLE_BYTES = 1 << 20
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that can be loaded: where it is, what it is, how long its context may be."""

    path: str
    ref: ModelRef
    max_context: int


def find_model(
    name: str, dtype: str, *, weights: bool = True, trust_code: bool = False
) -> FoundModel:
    """Check a model before any engine starts.

    Args:
        name: `testbed` (the bundled model), a directory, or a hub id.
        dtype: Precision it will be run in.
        weights: Whether they must be there; a model that a server runs needs only its tokenizer
            and config here.
        trust_code: Whether Python code that comes with it may run; it is then in the revision.

    Raises:
        ModelLoadError: It does not exist, cannot be read, or is not a causal language model.
    """
    if name == TESTBED:
        from tracelab.testbed import MODEL_DIR

        path = Path(MODEL_DIR)
    else:
        path = Path(name).expanduser()
    if path.is_dir():
        config, revision = _read_config(path, name), _revision(path, name, weights, trust_code)
        location = str(path)
    elif path.exists():
        raise ModelLoadError(f"model {name!r} is a file; give the directory that holds config.json")
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelLoadError(f"model {name!r}: no such directory")
    else:
        config, revision = _hub_config(name, trust_code)
        location = name
    _require_causal(config, name)
    text = config.get("text_config") or config
    max_context = int(text.get("max_position_embeddings") or 2048)
    return FoundModel(location, ModelRef(name=name, revision=revision, dtype=dtype), max_context)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = decode(file.read_bytes())
    except FileNotFoundError:
        raise ModelLoadError(f"model {name!r}: the directory has no config.json") from None
    except (OSError, ValueError) as e:
        raise ModelLoadError(f"model {name!r}: config.json cannot be read ({e})") from e
    if not isinstance(config, dict):
        raise ModelLoadError(f"model {name!r}: config.json is not an object")
    return config


@contextmanager
def quiet_hub() -> Iterator[None]:
    """No word of a hub's retries: whoever asks says in one sentence what came of it."""
    loggers = [logging.getLogger(n) for n in ("huggingface_hub", "transformers", "httpx")]
    before = [x.level for x in loggers]
    try:
        for x in loggers:
            x.setLevel(logging.CRITICAL)
        yield
    finally:
        for x, level in zip(loggers, before, strict=True):
            x.setLevel(level)


def _hub_config(name: str, trust_code: bool) -> tuple[dict[str, Any], str]:
    from transformers import AutoConfig

    try:
        with quiet_hub():
            config = AutoConfig.from_pretrained(name, trust_remote_code=trust_code)
    except Exception as e:  # offline, unknown repository, gated, malformed: one answer for a user
        refuse_code(e, name)
        near = f"; did you mean {TESTBED}?" if get_close_matches(name, [TESTBED]) else ""
        raise ModelLoadError(
            f"model {name!r} is neither a directory here nor a hub model that can be reached{near}"
        ) from e
    return config.to_dict(), str(getattr(config, "_commit_hash", None) or "unknown")


def _require_causal(config: dict[str, Any], name: str) -> None:
    architectures = config.get("architectures") or []
    if not any(str(a).endswith(_CAUSAL) for a in architectures):
        shown = ", ".join(map(str, architectures)) or "none named"
        raise ModelLoadError(
            f"model {name!r} is not a causal language model (config.json architectures: {shown})"
        )


def _require_whole(file: Path, name: str) -> None:
    """Check that a safetensors file holds what its header says; reads only the header."""
    if file.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as e:
        raise ModelLoadError(
            f"model {name!r}: {file.name} is damaged or cut short ({one_line(e)})"
        ) from e


def refuse_code(error: Exception, name: str) -> None:
    """Say that a model needs its own code, if that is why a library would not load it.

    Raises:
        ModelLoadError: It is.
    """
    if "trust_remote_code" in str(error):
        raise ModelLoadError(
            f"model {name!r} needs Python code that comes with it, which is not run: read that "
            "code, and if you trust it, set `engine.trust_remote_code = true`"
        ) from error


def _revision(path: Path, name: str, required: bool, code: bool) -> str:
    """Hash of the weights and config; large weight files by size and a sample of each end."""
    weights = sorted(p for pattern in ("*.safetensors", "*.bin") for p in path.glob(pattern))
    if not weights and required:
        raise ModelLoadError(f"model {name!r}: the directory has no weights (*.safetensors, *.bin)")
    digest = hashlib.blake2b(digest_size=8)
    for file in weights:
        _require_whole(file, name)
    if code:
        weights += sorted(path.rglob("*.py"))
    try:
        for file in [path / "config.json", *weights]:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as f:
                if size <= _WHOLE_FILE_BYTES:
                    digest.update(f.read())
                else:
                    digest.update(f.read(_SAMPLE_BYTES))
                    f.seek(size - _SAMPLE_BYTES)
                    digest.update(f.read())
    except OSError as e:
        raise ModelLoadError(f"model {name!r}: {e.filename} cannot be read ({e.strerror})") from e
    return digest.hexdigest()
