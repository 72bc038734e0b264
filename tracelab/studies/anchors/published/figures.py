"""The published Thought Anchors figures of a chunk, as published, from plain inputs.

Thought Anchors (arXiv:2506.19143), the definitions as coded there. Kept so that published figures
recompute; tracelab's own estimators are beside this folder. What is theirs and not ours:

- **Signs.** Resampling and forced importance are after minus before (positive: the sentence
  helped). Counterfactual accuracy is the other way round (positive: the sentence harmed).
- **Zeros.** Every missing thing is 0.0: no rollouts, no dissimilar rollout, the last chunk.
- **Denominators.** Rollouts without an answer are left out everywhere.
- **KL.** Additive smoothing of 1e-9, so one answer unseen on the other side costs about 20 nats
  times its probability.
- **No intervals.**

`rollouts[i]` are those started where chunk i is taken out, so chunk i was kept by `rollouts[i+1]`.
Pure. Divergences are in nats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tracelab.stats import divergence
from tracelab.studies.anchors.published.answers import normalize_answer

THRESHOLD = 0.8
"""Cosine below which a resampled sentence counts as different; a fixed default of theirs."""
ALPHA = 1e-9
"""Their additive smoothing of answer counts."""

METRICS = (
    "accuracy",
    "resampling_importance_accuracy",
    "resampling_importance_kl",
    "counterfactual_importance_accuracy",
    "counterfactual_importance_kl",
    "different_trajectories_fraction",
    "overdeterminedness",
)
"""Figures of a chunk, by their published names."""
FORCED_METRICS = ("forced_importance_accuracy", "forced_importance_kl")
"""The two that need rollouts whose answer was forced."""


@dataclass(frozen=True, slots=True)
class GradedRollout:
    """What the published figures need of one rollout.

    Attributes:
        answer: As written; "" when it has none.
        correct: The verdict; None when it was never graded (left out of accuracies only).
        resampled: Its first sentence, written in place of the removed one.
        similarity: Cosine of `resampled` and the removed sentence; None when not computed, and
            then the rollout is in neither group.
    """

    answer: str
    correct: bool | None
    resampled: str = ""
    similarity: float | None = None


def accuracy(rollouts: Iterable[GradedRollout]) -> float:
    """Share of correct ones among the graded rollouts with an answer, in [0, 1]; 0.0 if none."""
    verdicts = [r.correct for r in rollouts if r.answer and r.correct is not None]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def kl(p_answers: Iterable[str], q_answers: Iterable[str], alpha: float = ALPHA) -> float:
    """KL(p || q) of two samples of answers, in nats, as published.

    Counts of the normal forms plus `alpha`, over the union of the answers seen; empty forms are
    left out. Clipped below at 0; 0.0 when either side has no answer.
    """
    p, q = _forms(p_answers), _forms(q_answers)
    if not p or not q:
        return 0.0
    union = sorted(p.keys() | q.keys())  # sorted, so that the last digit is reproducible
    return divergence.kl([p[v] for v in union], [q[v] for v in union], alpha)


def overdeterminedness(sentences: Sequence[str]) -> float:
    """1 - distinct / all of the resampled sentences as strings, in [0, 1); 0.0 if none."""
    return 1.0 - len(set(sentences)) / len(sentences) if sentences else 0.0


def different_trajectories_fraction(
    here: Sequence[GradedRollout], threshold: float = THRESHOLD
) -> float:
    """Share of the answered rollouts whose sentence is different, in [0, 1]; 0.0 if none."""
    answered = _answered(here)
    return len(_different(answered, threshold)) / len(answered) if answered else 0.0


def resampling_importances(accuracies: Sequence[float]) -> list[float]:
    """a[i+1] - a[i] for each chunk, in [-1, 1]; positive = the chunk raised accuracy. Last: 0."""
    gains = [after - here for here, after in zip(accuracies, accuracies[1:], strict=False)]
    return [*gains, 0.0] if accuracies else []


def resampling_importance_accuracy(
    here: Sequence[GradedRollout], after: Sequence[GradedRollout]
) -> float:
    """Accuracy with the chunk kept minus accuracy with it resampled; positive = it helped."""
    return accuracy(after) - accuracy(here)


def resampling_importance_kl(
    here: Sequence[GradedRollout], after: Sequence[GradedRollout]
) -> float:
    """KL(answers with the chunk resampled || answers with it kept), nats, unsigned."""
    return kl((r.answer for r in here), (r.answer for r in after))


def forced_importance_accuracy(
    here: Sequence[GradedRollout], after: Sequence[GradedRollout]
) -> float:
    """As `resampling_importance_accuracy`, on rollouts whose answer was forced there and then.

    The answer is forced by appending `FORCED_SUFFIX` to the prefix without, and with, the chunk.
    """
    return resampling_importance_accuracy(here, after)


def forced_importance_kl(here: Sequence[GradedRollout], after: Sequence[GradedRollout]) -> float:
    """As `resampling_importance_kl`, on rollouts whose answer was forced there and then."""
    return resampling_importance_kl(here, after)


def counterfactual_importance_accuracy(
    here: Sequence[GradedRollout], after: Sequence[GradedRollout], threshold: float = THRESHOLD
) -> float:
    """Accuracy of the different rollouts minus accuracy with the chunk kept.

    **Positive = the chunk lowered accuracy**, the opposite of `resampling_importance_accuracy`.
    0.0 when no rollout is different, or none kept the chunk. The similar rollouts do not count.
    """
    different = _different(_answered(here), threshold)
    kept = _answered(after)
    return accuracy(different) - accuracy(kept) if different and kept else 0.0


def counterfactual_importance_kl(
    here: Sequence[GradedRollout], after: Sequence[GradedRollout], threshold: float = THRESHOLD
) -> float:
    """KL(different || kept and similar), nats, unsigned; 0.0 when no rollout is different.

    Here, other than in the accuracy, the similar rollouts are pooled with those that kept the
    chunk. The original normalises these answers three times (`kl` is the third), which merges
    answers that differ only in nested braces.
    """
    answered, kept = _answered(here), _answered(after)
    different = _different(answered, threshold)
    if not different or not kept:
        return 0.0
    similar = [r for r in answered if r.similarity is not None and r.similarity >= threshold]
    p, q = (_forms(r.answer for r in side) for side in (different, [*kept, *similar]))
    p, q = (_forms(side.elements()) for side in (p, q))
    return kl(p.elements(), q.elements())


def chunk_figures(
    rollouts: Sequence[Sequence[GradedRollout]],
    forced: Sequence[Sequence[GradedRollout]] | None = None,
    threshold: float = THRESHOLD,
) -> list[dict[str, float]]:
    """All figures of all chunks of a trace, by their published names.

    Args:
        rollouts: For each chunk, the rollouts started where it is taken out; may be empty.
        forced: The same with forced answers; None leaves the forced figures out.
        threshold: Cosine below which a resampled sentence is different.

    Returns:
        One dictionary a chunk, of `METRICS` (and `FORCED_METRICS`). The last chunk has its
        accuracy and zeros. As published, a chunk without rollouts has accuracy 0.0, which also
        fakes the resampling importance of its neighbours, while answer distributions are
        compared with the next chunk that has any.
    """
    importances = resampling_importances([accuracy(r) for r in rollouts])
    figures = []
    for i, here in enumerate(rollouts):
        row = dict.fromkeys(METRICS, 0.0)
        row["accuracy"] = accuracy(here)
        row["resampling_importance_accuracy"] = importances[i]
        last = i + 1 == len(rollouts)
        after = _next_with_rollouts(rollouts, i)
        if here and after is not None:
            row["resampling_importance_kl"] = resampling_importance_kl(here, after)
            row["counterfactual_importance_accuracy"] = counterfactual_importance_accuracy(
                here, after, threshold
            )
            row["counterfactual_importance_kl"] = counterfactual_importance_kl(
                here, after, threshold
            )
        if here and not last:
            row["different_trajectories_fraction"] = different_trajectories_fraction(
                here, threshold
            )
            row["overdeterminedness"] = overdeterminedness([r.resampled for r in _answered(here)])
        if forced is not None:
            pair = None if last else (forced[i], forced[i + 1])
            row["forced_importance_accuracy"] = forced_importance_accuracy(*pair) if pair else 0.0
            row["forced_importance_kl"] = forced_importance_kl(*pair) if pair else 0.0
        figures.append(row)
    return figures


def _forms(answers: Iterable[str]) -> Counter[str]:
    """Count normal forms, normalising each distinct answer once."""
    forms: Counter[str] = Counter()
    for answer, count in Counter(answers).items():
        if form := normalize_answer(answer):
            forms[form] += count
    return forms


def _answered(rollouts: Sequence[GradedRollout]) -> list[GradedRollout]:
    # An answer that reads "None" is a missing one to the original, in these figures only.
    return [r for r in rollouts if r.answer and r.answer != "None"]


def _different(answered: Sequence[GradedRollout], threshold: float) -> list[GradedRollout]:
    return [r for r in answered if r.similarity is not None and r.similarity < threshold]


def _next_with_rollouts(
    rollouts: Sequence[Sequence[GradedRollout]], i: int
) -> Sequence[GradedRollout] | None:
    return next((r for r in rollouts[i + 1 :] if r), None)
