"""Planted truth: what attribution says about fresh contexts of the testbed.

The model answers; what each note does in its answer was planted: `needed`, one of two `redundant`
ones, a `distractor`, or the clerk's `misleading` hint. What each sentence of the answer rests on is
known from its role: look-ups repeat a note, everything else follows from the question and the
sentences before it. For small contexts all masks are scored too, which gives every effect exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cite.cover import Cover
from benchmarks.cite.work import Worker
from benchmarks.separation import auc
from tracelab.core.flow import together
from tracelab.sources.context_testbed import context
from tracelab.stats import held_out
from tracelab.stats.masks import bernoulli
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.case import ContextCase
from tracelab.studies.cite.grounding import GAIN
from tracelab.studies.cite.methods.ablate import Ablate
from tracelab.studies.cite.methods.context_cite import ContextCite
from tracelab.studies.cite.methods.leave_one_out import LeaveOneOut
from tracelab.studies.cite.study import whole
from tracelab.testbed import Problem, problems
from tracelab.testbed.labels import label
from tracelab.text.segment import segment

SEED = 9100
"""Of the problems; nothing else uses it."""
ABLATIONS = 32
CHUNK = 25
ENUMERATED = 9
"""Contexts of at most so many notes are small enough for all masks."""
WHOLE = "response"
STATES = ("lookup", "lookup_wrong", "shop_change", "hint_mention")
"""Roles of sentences that repeat a note; `missing` rests on what the notes lack."""
MEMORY = (
    "setup", "filler", "plan_right", "plan_wrong", "replan_right", "sum", "slip", "recheck",
    "confirm", "repair", "compare", "use_change", "skip_change", "conclude", "answer",
)  # fmt: skip
"""Roles of sentences that follow from the question and what the answer has said before."""
OWN = ("memory", "derived", "parametric")
"""Labels of what needs no note."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
EVERY = 3
"""Of an enumerated context, every third statement is estimated, and the whole response."""
Tell = Callable[[str], None]


@dataclass(slots=True)
class Scores:
    """Sources of all contexts in one list, to be ranked and counted.

    Attributes:
        weight: The default ranking.
        effect: The average effects.
        published: ContextCite's weights from the same masks.
        alone: Leave-one-out effects.
        lo: Lower ends of the 95 % intervals of the effects.
        hi: Upper ends.
        role: Planted roles.
    """

    weight: list[float] = field(default_factory=list)
    effect: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    lo: list[float] = field(default_factory=list)
    hi: list[float] = field(default_factory=list)
    role: list[str] = field(default_factory=list)

    def add(self, found: Ablations, target: str) -> None:
        """Take the scores of one target."""
        effects = found.effects(target, Ablate.name)
        for name, values in _rankings(found, target).items():
            getattr(self, name).extend(values.tolist())
        self.lo += [_number(s.lo) for s in effects]
        self.hi += [_number(s.hi) for s in effects]
        self.role += [u.role or "" for u in found.case.units]

    def has(self, *roles: str) -> Bools:
        """Which sources have one of some roles."""
        return np.isin(np.array(self.role), roles)

    def separation(self, *relevant: str) -> dict[str, Any]:
        """AUC of relevant against distractor sources, by each ranking."""
        some, other = self.has(*relevant), self.has("distractor")
        out: dict[str, Any] = {"relevant": int(some.sum()), "distractors": int(other.sum())}
        for name in ("weight", "effect", "published", "alone"):
            values = np.array(getattr(self, name))
            out[name] = auc(values[some], values[other])
        return out


@dataclass(slots=True)
class Pairs:
    """Redundant pairs: who finds both."""

    ranked: Counter[str] = field(default_factory=Counter)
    shown: int = 0
    n: int = 0
    alone: list[float] = field(default_factory=list)
    effect: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)

    def add(self, found: Ablations, subjects: Sequence[str]) -> None:
        """Count the pairs of a context; `subjects` says what each source is about."""
        effects, named = found.effects(WHOLE, Ablate.name), _rankings(found, WHOLE)
        roles = [u.role for u in found.case.units]
        relevant = sum(r in ("needed", "redundant") for r in roles)
        self.single += named["alone"][[r == "needed" for r in roles]].tolist()
        redundant = [i for i, r in enumerate(roles) if r == "redundant"]
        for subject in dict.fromkeys(subjects[i] for i in redundant):
            pair = [i for i in redundant if subjects[i] == subject]
            self.n += 1
            for name, values in named.items():
                top = held_out.ranking(values)[:relevant]
                self.ranked[name] += bool(np.isin(pair, top).all())
            self.shown += all(_number(effects[i].lo) > 0 for i in pair)
            # The member whose removal costs less: leave-one-out sees the other one at most.
            self.alone.append(float(min(named["alone"][pair])))
            self.effect.append(float(min(named["effect"][pair])))

    def to_json(self) -> dict[str, Any]:
        """As JSON; shares of pairs, and medians in nats."""
        n = self.n or None
        return {
            "pairs": self.n,
            "both_in_top_k": {k: _share(v, n) for k, v in self.ranked.items()},
            "both_lower_ends_above_0": _share(self.shown, n),
            "weaker_member_effect": _median(self.effect),
            "weaker_member_leave_one_out": _median(self.alone),
            "needed_leave_one_out": _median(self.single),
        }


@dataclass(slots=True)
class Truth:
    """Everything that is counted."""

    whole: Scores = field(default_factory=Scores)
    statements: Scores = field(default_factory=Scores)
    pairs: Pairs = field(default_factory=Pairs)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    stated_first: list[bool] = field(default_factory=list)
    cover: Cover = field(default_factory=Cover)
    contexts: int = 0
    sources: int = 0
    ablations: list[int] = field(default_factory=list)
    hints: dict[str, Any] = field(default_factory=dict)


def measure(worker: Worker, contexts: int, hinted: int, enumerated: int, tell: Tell) -> Truth:
    """Draw fresh contexts, let the model answer, attribute, and hold it to what was planted.

    Args:
        worker: With 32 ablations and all three methods; the bundled model.
        contexts: How many.
        hinted: Questions with a wrong hint, of which those that were followed count.
        enumerated: How many small contexts have all their masks scored.
        tell: Gets lines about the progress.
    """
    out = Truth()
    for first in range(0, contexts, CHUNK):
        drawn = problems(contexts, SEED, missing=False, hinted=False)[first : first + CHUNK]
        for work in _explained(worker, _cases(worker, drawn, tell)):
            problem = next(p for p in drawn if p.problem_id == work.case.trace.name)
            _count(out, work, problem)
            _placebos(out, work)
            if out.cover.contexts < enumerated and work.n <= ENUMERATED:
                _enumerate(out, worker, work)
        tell(f"planted truth: {out.contexts} of {contexts} contexts")
    asked = problems(hinted, SEED + 1, hinted=True)
    by_name = {p.problem_id: p for p in asked}
    followed = [
        c
        for c in _cases(worker, asked, tell)
        if any(x.role == "conclude_hint" for x in label(by_name[c.trace.name], c.trace.response))
    ]
    out.hints = {"asked": hinted, **_hints(_explained(worker, followed), by_name)}
    tell(f"planted truth: {len(followed)} of {hinted} hints were followed")
    return out


def _cases(worker: Worker, drawn: Sequence[Problem], tell: Tell) -> list[ContextCase]:
    """Contexts as the model answers them."""
    contexts = map(context, drawn)
    cases, reasons = worker.cases(
        replace(c, extra={**c.extra, "target": ["sentences", WHOLE]}) for c in contexts
    )
    for reason in reasons:
        tell(f"planted truth: not studied: {reason}")
    return cases


def _explained(worker: Worker, cases: Sequence[ContextCase]) -> list[Ablations]:
    """Cases with all that was asked and found of them."""
    works = [Ablations(c, worker.ctx) for c in cases]
    worker.drive(together(map(whole, works)))
    return works


def _hints(followed: Sequence[Ablations], problems: Mapping[str, Problem]) -> dict[str, Any]:
    """How often the hint ranks first, for the first statement that says its number.

    Half of the answers that follow a hint do not mention it: they look prices up and then conclude
    what the clerk said. Of the whole response, most is then owed to the prices.
    """
    first: Counter[str] = Counter()
    shown = of_all = 0
    for found in followed:
        said = roles_of(problems[found.case.trace.name], found.case.trace.response)
        hinted = ("hint_mention", "conclude_hint")
        target = next((t for t, role in said.items() if role in hinted), WHOLE)
        hint = next(i for i, u in enumerate(found.case.units) if u.role == "misleading")
        for name, values in _rankings(found, target).items():
            first[name] += int(held_out.ranking(values)[0]) == hint
        of_all += int(held_out.ranking(found.weights(WHOLE, Ablate.name))[0]) == hint
        shown += _number(found.effects(target, Ablate.name)[hint].lo) > 0
    n = len(followed) or None
    return {
        "followed": len(followed),
        "ranked_first": {k: _share(v, n) for k, v in first.items()},
        "ranked_first_whole_response": _share(of_all, n),
        "lower_end_above_0": _share(shown, n),
    }


def _rankings(found: Ablations, target: str) -> dict[str, Floats]:
    effects = found.effects(target, Ablate.name)
    return {
        "weight": found.weights(target, Ablate.name),
        "effect": np.array([_number(s.value) for s in effects]),
        "published": found.weights(target, ContextCite.name),
        "alone": found.weights(target, LeaveOneOut.name),
    }


def _count(out: Truth, found: Ablations, problem: Problem) -> None:
    out.contexts, out.sources = out.contexts + 1, out.sources + found.n
    out.ablations.append(found.found[WHOLE][Ablate.name].n)
    out.whole.add(found, WHOLE)
    subjects = [f.subject for f in problem.facts]
    out.pairs.add(found, subjects)
    said = roles_of(problem, found.case.trace.response)
    for t in found.targets:
        if t.target == WHOLE:
            continue
        role = said[t.target]
        out.labels.setdefault(role, Counter())[t.label] += 1
        out.statements.add(found, t.target)
        if role in ("lookup", "shop_change"):
            top = int(held_out.ranking(found.weights(t.target, Ablate.name))[0])
            out.stated_first.append(subjects[top] in t.text)


def roles_of(problem: Problem, response: str) -> dict[str, str]:
    """Planted role of every sentence of a response, by the name of its target."""
    pieces = label(problem, response)
    out = {}
    for k, s in enumerate(segment(response)):
        overlap = [min(s.end, p.end) - max(s.start, p.start) for p in pieces]
        out[f"sentence:{k}"] = pieces[int(np.argmax(overlap))].role
    return out


def _placebos(out: Truth, work: Ablations) -> None:
    """Throw coins that change nothing, with those of the run's own masks."""
    target = next(t for t in work.case.targets if t.name == WHOLE)
    rows = work.rows_for("design")
    out.cover.add_placebos(
        work.design_of(rows).masks, work.outcome(target, rows), [SEED, out.contexts]
    )


def _enumerate(out: Truth, worker: Worker, work: Ablations) -> None:
    """Score all masks of a small context; hold fresh estimates to the exact effects."""
    everything = bernoulli(work.n, 2**work.n, np.random.default_rng(SEED)).masks
    roles = [u.role or "" for u in work.case.units]
    for k, t in enumerate(work.case.targets):
        if t.name == WHOLE or k % EVERY == 0:
            y = worker.drive(work.values(t, everything))
            out.cover.add_exact(everything, y, roles, (16, ABLATIONS), [out.cover.contexts, k])
    out.cover.contexts += 1


def to_json(found: Truth) -> dict[str, Any]:
    """The counts as shares, each with its n."""
    memory: Counter[str] = sum((found.labels.get(r, Counter()) for r in MEMORY), Counter())
    stated: Counter[str] = sum((found.labels.get(r, Counter()) for r in STATES), Counter())
    return {
        "contexts": found.contexts,
        "sources": found.sources,
        "ablations_mean": float(np.mean(found.ablations)),
        "needed_auc": found.whole.separation("needed"),
        "relevant_auc": found.whole.separation("needed", "redundant"),
        "redundant": found.pairs.to_json(),
        "irrelevant_cover_0": {
            "response": _zero(found.whole), "statements": _zero(found.statements),
        },
        "memory": {
            "statements": memory.total(),
            "parametric": _share(sum(memory[x] for x in OWN), memory.total()),
            "grounded": _share(memory["grounded"], memory.total()),
            "labels": dict(memory),
        },
        "stated": {
            "statements": stated.total(),
            "grounded": _share(stated["grounded"], stated.total()),
            "labels": dict(stated),
            "own_note_first": _share(sum(found.stated_first), len(found.stated_first)),
        },
        "labels": {role: dict(c) for role, c in sorted(found.labels.items())},
        "exact": found.cover.to_json(),
        "hints": found.hints,
    }  # fmt: skip


def _zero(scores: Scores) -> dict[str, Any]:
    """How often the 95 % interval of a distractor holds 0, and how far from 0 the others lie.

    A distractor need not have an average effect of exactly 0 (see `benchmarks.cite.cover`);
    whether intervals hold what they should is what `exact` says.
    """
    some = scores.has("distractor") & np.isfinite(np.array(scores.lo))
    lo, hi = np.array(scores.lo)[some], np.array(scores.hi)[some]
    size = np.abs(np.array(scores.effect)[some])
    return {
        "intervals": len(lo),
        "share": _share(int(((lo <= 1e-9) & (hi >= -1e-9)).sum()), len(lo)),
        "shown_above_0": _share(int((lo > 1e-9).sum()), len(lo)),
        "shown_above_1_nat": _share(int((lo > GAIN).sum()), len(lo)),
        "median_size": _median(size.tolist()),
        "median_half_width": _median(((hi - lo) / 2).tolist()),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _share(count: int, n: int | None) -> float | None:
    return count / n if n else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None
