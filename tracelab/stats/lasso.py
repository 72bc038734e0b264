"""Sparse linear surrogates of a model over masks of its context.

`context_cite` is the published solver; the rest are the candidates of `tracelab.stats.surrogate`.
All weights are in the unit of y per source kept; the solver is scikit-learn's. Pure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PENALTY = 0.05
"""Penalty in standard deviations of y; about what ContextCite's 0.01 is for ten tokens."""

_STRONG = 0.1
_PRIOR_STRENGTH = 0.5
_GROUP_STRENGTH = 1.0
_GROUP_FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to fit: `fit(masks [m, n] as 0/1, y [m], seen [k, m])` returns weights [k, n].

    Row i is the fit to the masks that `seen[i]` marks.
    """

    name: str
    fit: Callable[[Floats, Floats, NDArray[np.bool_]], Floats]


def context_cite(
    masks: NDArray[np.generic], y: Floats, tokens: int, alpha: float = 0.01
) -> tuple[Floats, float]:
    """ContextCite's surrogate exactly as published (Cohen-Wang et al., arXiv:2409.00729).

    StandardScaler on the masks in float32, Lasso with a fixed penalty on y / tokens, and back.

    Args:
        masks: bool [m, n].
        y: Whole-target logits [m], finite.
        tokens: Tokens of the target; the effective penalty on y is `alpha * tokens`.
        alpha: Lasso's penalty.

    Returns:
        Weights [n], log-odds in nats per source kept, and the intercept.
    """
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    x = scaler.fit_transform(np.asarray(masks, dtype=np.float32))
    lasso = Lasso(alpha=alpha, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the package does: whatever it converges to
        lasso.fit(x, np.asarray(y) / tokens)
    weights = lasso.coef_ / scaler.scale_
    bias = lasso.intercept_ - float(scaler.mean_ @ weights)
    return np.asarray(weights * tokens, dtype=np.float64), float(bias * tokens)


def weighted_lasso(
    x: Floats, y: Floats, penalty: float = PENALTY, scale: Floats | None = None
) -> Floats:
    """Lasso with a penalty of its own for each source.

    Minimises mean squared error / 2 + penalty · sd(y) / 2 · Σ_j |w_j| / scale_j; the factor 1/2 is
    the standard deviation of a fair coin, so `penalty` has no unit. Sources that no mask tells
    apart are one feature, whose weight goes in equal parts to the likeliest of them.

    Args:
        x: Masks as 0/1 [m, n].
        y: Outcomes [m].
        penalty: In standard deviations of y.
        scale: Larger where an effect is more likely [n]; default 1.

    Returns:
        Weights [n]; zeros when y does not vary.
    """
    from sklearn import config_context
    from sklearn.linear_model import enet_path

    n = x.shape[1]
    spread = float(y.std())
    if spread <= 1e-12 or n == 0:
        return np.zeros(n)
    s = np.ones(n) if scale is None else scale
    first, alike = _distinct_columns(x)
    top = np.zeros(len(first))
    np.maximum.at(top, alike, s)
    heirs = s >= top[alike] * (1 - 1e-9)
    z = np.asfortranarray((x[:, first] - x[:, first].mean(axis=0)) * top)
    # Forty fits a target: the library's checks of its arguments would take longer than the descent.
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")  # an unfinished descent is judged out of fold like any
        _, coefs, _ = enet_path(
            z, (y - y.mean()) / spread, l1_ratio=1.0, alphas=[penalty / 2], precompute=False,
            check_input=False, max_iter=500, tol=1e-4,
        )  # fmt: skip
    parts = coefs[:, 0] * top * spread / np.bincount(alike, heirs)
    return np.where(heirs, parts[alike], 0.0)


def prior_scale(prior: Floats) -> Floats:
    """Penalty scales [n] from any per-source number that is larger for likelier sources.

    Only its standardised values count; beyond 3 standard deviations it says no more.
    """
    spread = float(np.std(prior))
    if not np.isfinite(spread) or spread <= 1e-12:
        return np.ones(len(prior))
    steps = np.clip((prior - prior.mean()) / spread, -3, 3)
    return np.asarray(np.exp(_PRIOR_STRENGTH * steps), dtype=np.float64)


def group_scale(weights: Floats, group: Ints) -> Floats:
    """Penalty scales [n] from a first fit: sources of active documents are penalised less."""
    total = np.bincount(group, np.abs(weights))
    if total.max(initial=0.0) <= 0:
        return np.ones(len(weights))
    present = np.bincount(group) > 0
    scale = ((total / total[present].mean() + _GROUP_FLOOR) ** _GROUP_STRENGTH)[group]
    return np.asarray(scale / np.sqrt(np.mean(scale**2)), dtype=np.float64)


def group_lasso(
    x: Floats, y: Floats, group: Ints, penalty: float = PENALTY, scale: Floats | None = None
) -> Floats:
    """Two-step Lasso in which a document's sources share what the first step found.

    The adaptive Lasso (Zou 2006) with one weight a document: for sources that matter together.
    """
    s = np.ones(x.shape[1]) if scale is None else scale
    first = weighted_lasso(x, y, penalty, s)
    return weighted_lasso(x, y, penalty, s * group_scale(first, group))


def candidates(
    m: int, n: int, prior: Floats | None = None, groups: Sequence[Ints] = ()
) -> list[Candidate]:
    """The surrogates worth trying with m masks of n sources.

    Args:
        m: Masks.
        n: Sources.
        prior: Any number per source that is larger for likelier ones [n].
        groups: Group of each source, coarse to fine, each [n].
    """
    one = np.ones(n)
    group = next((g for g in groups if 1 < len(np.unique(g)) < n), None)

    def plain(name: str, penalty: float, scale: Floats = one) -> Candidate:
        return Candidate(name, _each(lambda x, y: weighted_lasso(x, y, penalty, scale)))

    def grouped(name: str, group: Ints, scale: Floats) -> Candidate:
        codes = np.unique(group, return_inverse=True)[1].astype(np.int64)
        return Candidate(name, _each(lambda x, y: group_lasso(x, y, codes, _STRONG, scale)))

    found = [plain("lasso", PENALTY), plain("strong", _STRONG)]
    if m >= 1.5 * n:  # nearly least squares, for effects that are many or free of noise
        found += [plain("weak", 0.01), plain("least", 0.0005)]
    scales = {"": one} if prior is None else {"": one, "prior-": prior_scale(prior)}
    for label, scale in scales.items():
        if label:
            found.append(plain("prior", PENALTY, scale))
        if group is not None:
            found.append(grouped(f"{label}group", group, scale))
    return found


def _each(
    fit: Callable[[Floats, Floats], Floats],
) -> Callable[[Floats, Floats, NDArray[np.bool_]], Floats]:
    return lambda x, y, seen: np.array([fit(x[rows], y[rows]) for rows in seen])


def _distinct_columns(x: Floats) -> tuple[Ints, Ints]:
    """Index of one column of each kind, and for each column its kind."""
    place: dict[bytes, int] = {}
    packed = np.packbits(x.T > 0.5, axis=1)
    alike = np.array([place.setdefault(c.tobytes(), len(place)) for c in packed], dtype=np.int64)
    first = np.zeros(len(place), dtype=np.int64)
    first[alike[::-1]] = np.arange(len(alike))[::-1]
    return first, alike
