"""Golden: ContextCite as its package computes it, on the same masks and the same logits.

Only the package's masks, scores and solver are needed, so what it imports for everything else
(sentence splitting, data loading) is stubbed where it is absent.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from tests.golden.peer_masks import published
from tracelab.core.unit import Unit
from tracelab.studies.cite.ablations import TokenRange
from tracelab.studies.cite.attribution import SpanScores
from tracelab.studies.cite.methods import context_cite

TOKENS, VOCABULARY = 12, 40


@pytest.fixture(scope="module")
def package() -> Iterator[types.SimpleNamespace]:
    # nltk downloads when it is imported by the package; the others may not be installed.
    stubs = {"nltk": MagicMock(), "spacy": MagicMock(), "spacy.lang": MagicMock()}
    stubs |= {"spacy.lang.en": MagicMock(), "datasets": MagicMock()}
    for name in ("pandas", "tqdm", "tqdm.auto"):
        if importlib.util.find_spec(name.split(".")[0]) is None:
            stubs[name] = MagicMock()
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        yield types.SimpleNamespace(
            utils=importlib.import_module("context_cite.utils"),
            solver=importlib.import_module("context_cite.solver"),
        )


def logits(masks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits [m, T, vocabulary] that depend on a few sources, and the target's tokens [T]."""
    labels = rng.integers(0, VOCABULARY, TOKENS)
    z = rng.normal(0, 1, (len(masks), TOKENS, VOCABULARY))
    effect = masks[:, 0] * 2.0 + masks[:, 1] * masks[:, 2] * 2.0 - masks[:, 3]
    z[:, np.arange(TOKENS), labels] += effect[:, None]
    return z, labels


@pytest.mark.parametrize(("n", "m"), [(5, 32), (20, 64), (100, 64)])
def test_masks(package: Any, n: int, m: int) -> None:
    theirs = [package.utils._create_mask(n, 0.5, seed) for seed in range(m)]
    assert np.array_equal(published(n, m).masks, theirs)


@pytest.mark.parametrize(("n", "m"), [(5, 32), (20, 16), (20, 64), (100, 64)])
@pytest.mark.parametrize(("start", "end"), [(0, TOKENS), (3, 5)])
def test_attributions(package: Any, n: int, m: int, start: int, end: int) -> None:
    import torch

    design = published(n, m)
    z, labels = logits(design.masks, np.random.default_rng([n, m]))
    tokens = torch.tensor(np.broadcast_to(labels, (m, TOKENS)).copy())
    theirs_logits = package.utils._compute_logit_probs(torch.tensor(z), tokens).numpy()
    outputs = package.utils.aggregate_logit_probs(theirs_logits[:, start:end])
    weights, bias = package.solver.LassoRegression().fit(design.masks, outputs, end - start)

    logprobs = torch.log_softmax(torch.tensor(z), -1).gather(-1, tokens[..., None])[..., 0].numpy()
    target = TokenRange("range", start, end)
    assert target.outcome(logprobs) == pytest.approx(outputs, abs=1e-4)
    units = [Unit("span", i, i, i + 1, i, i + 1, "x") for i in range(n)]
    make = SpanScores("t", units, "context-cite", target.name, 0.95)
    ours = context_cite.published(make, design, target.outcome(logprobs), tokens=end - start)
    assert [s.value for s in ours.scores] == pytest.approx(weights.tolist(), abs=1e-4)
    assert ours.scores[0].extra["intercept"] == pytest.approx(float(bias), abs=1e-4)
    assert np.abs(weights).max() > 0.1


def test_where_the_package_fails(package: Any) -> None:
    """A certain target is infinite to the package, and large but finite to us."""
    theirs = package.utils.aggregate_logit_probs(np.full((1, 3), 20.0, dtype=np.float32))
    assert np.isinf(theirs).all()
    ours = TokenRange("r", 0, 3).outcome(np.full((1, 3), -2e-9))
    assert np.isfinite(ours).all() and ours[0] > 16
