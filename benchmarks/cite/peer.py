"""The `context-cite` package as its users run it, on a response that is given.

Its masks, prompts, batches (of one), forward passes and solver are its own. Replaced is only what
it imports for other things: the sentence splitter, which downloads its rules when it is imported
(both sides cut at the same full stops instead), the data set that its loader reads (a list: faster
than the original), and progress bars. The response is set, so that generating it is timed on
neither side.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracelab.core.errors import ConfigError

Floats = NDArray[np.float64]

INSTALL = "pip install --no-deps context-cite==0.0.4"
_STOP = re.compile(r"(?<=\.)\s+")


def sentences(text: str) -> list[str]:
    """Cut after full stops; the contexts of this benchmark have no other sentence ends."""
    return [s for s in _STOP.split(text) if s]


class _Rows:
    """As much of `datasets.Dataset` as the package uses."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @classmethod
    def from_dict(cls, columns: dict[str, list[Any]]) -> _Rows:
        return cls(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {k: v[i] for k, v in self._columns.items()}


def _silent(rows: Any, **_: Any) -> Any:
    return rows


def load() -> types.SimpleNamespace:
    """The package's parts: `ContextCiter`, `LassoRegression`.

    Raises:
        ConfigError: It is not installed, or needs more than what is replaced here.
    """
    if importlib.util.find_spec("context_cite") is None:
        raise ConfigError(f"the package context-cite is not installed: {INSTALL}")
    nltk = types.ModuleType("nltk")
    nltk.download = lambda *_: True  # type: ignore[attr-defined]
    nltk.sent_tokenize = sentences  # type: ignore[attr-defined]
    english = types.ModuleType("spacy.lang.en")
    english.English = None  # type: ignore[attr-defined]
    data = types.ModuleType("datasets")
    data.Dataset = _Rows  # type: ignore[attr-defined]
    bars = types.ModuleType("tqdm.auto")
    bars.tqdm = _silent  # type: ignore[attr-defined]
    stubs = {
        "nltk": nltk, "spacy": types.ModuleType("spacy"), "datasets": data, "tqdm.auto": bars,
        "spacy.lang": types.ModuleType("spacy.lang"), "spacy.lang.en": english,
    }  # fmt: skip
    _before_the_stubs()
    own = ("context_cite", *(f"context_cite.{m}" for m in _MODULES))
    before = {name: sys.modules.pop(name, None) for name in (*stubs, *own)}
    sys.modules.update(stubs)
    try:
        citer = importlib.import_module("context_cite.context_citer")
        solver = importlib.import_module("context_cite.solver")
    except ImportError as e:
        raise ConfigError(f"the package context-cite cannot be imported: {e}") from e
    finally:  # nobody else is to meet the stubs, or a package that has them
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    return types.SimpleNamespace(
        ContextCiter=citer.ContextCiter, LassoRegression=solver.LassoRegression
    )


_MODULES = ("context_citer", "context_partitioner", "solver", "utils")


def _before_the_stubs() -> None:
    """Import what the package imports for real, so that it meets no stub itself."""
    for name in ("pandas", "sklearn.linear_model", "sklearn.pipeline", "torch.utils.data"):
        importlib.import_module(name)
    for lazy in ("AutoTokenizer", "AutoModelForCausalLM", "DataCollatorForSeq2Seq"):
        getattr(importlib.import_module("transformers"), lazy)


@dataclass(frozen=True, slots=True)
class Case:
    """One question that both sides answer.

    Attributes:
        context: Sentences that end in full stops, separated by spaces.
        query: What is asked.
        template: With `{context}` and `{query}`; one user message.
        response: What is to be explained.
    """

    context: str
    query: str
    template: str
    response: str


class Peer:
    """ContextCite on one model."""

    def __init__(self, path: str) -> None:
        """Load the package, and the model in float32.

        Raises:
            ConfigError: See `load`.
        """
        import torch
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

        self._citer = load().ContextCiter
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(path)

    def attribute(
        self, case: Case, ablations: int, ranges: Sequence[tuple[int, int]] = ()
    ) -> list[Floats]:
        """Weights [sources] of the whole response, or of character ranges of it."""
        citer = self._citer(
            self._model, self._tokenizer, case.context, case.query,
            num_ablations=ablations, prompt_template=case.template,
        )  # fmt: skip
        logging.getLogger("ContextCite").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how the package uses it
            _, prompt = citer._get_prompt_ids(return_prompt=True)
            citer._cache["output"] = prompt + case.response
            found = ranges or [(0, len(case.response))]
            return [
                np.asarray(citer.get_attributions(a, b, verbose=False), np.float64)
                for a, b in found
            ]
